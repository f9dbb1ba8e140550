"""Fused neural-network kernels in C for NumPy arrays, with layers and optimizers on top."""

import importlib

try:
    from . import native
except ImportError as error:
    raise ImportError(
        "numfuse.native, the C extension, could not be imported "
        f"({error}). In a source tree, build it with `pip install -e .`"
    ) from error
from . import nn, optim
from .native import empty_cache, get_num_threads, set_num_threads

__version__ = "0.1.0"
__all__ = ["empty_cache", "get_num_threads", "native", "nn", "optim", "reference", "set_num_threads"]


def __getattr__(name):
    if name == "reference":  # imported when it is first needed: most programs never do
        return importlib.import_module(".reference", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
