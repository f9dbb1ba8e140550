"""Other libraries, one module each, named after the library that it needs.

A module holds what the library's rivals in `operations` share, and may have `block` (x, grad_y, weight, bias, p) and
`training_step` (work, params, x, y). These return {label: Rival}, or raise Unsupported; no adapter expects that a
gradient is None, that `maximize` is True, that batch norm has no running statistics or a backward in evaluation mode,
or SGD's first step, which dampening leaves alone. It may have a `learner` like that of `bench.learn`.
`configure(threads)` is called first, and `versions()` says what is installed.
"""

import importlib
import importlib.util

from .. import operations

NAMES = ["torch", "jax", "sklearn", "numba"]
NEEDS = {"jax": ["jax", "optax"]}  # what a peer imports beside the library of its name
INSTALL = 'pip install "numfuse[peers]"'


def missing(name):
    """The first library that a peer needs and that is not installed, or None."""
    return next((library for library in NEEDS.get(name, [name]) if not importlib.util.find_spec(library)), None)


def load(name):
    """The module of a peer; ModuleNotFoundError if its library is not installed."""
    return importlib.import_module(f"{__name__}.{name}")


def rivals(name, work, *args, **arguments):
    """{label: Rival} of a peer for some work, for these arguments; none if there is no such function."""
    function = find(name, work)
    return function(*args, **arguments) if function else {}


def find(name, work):
    """A peer's function for a kernel, "block" or "training_step", or None."""
    return operations.function(name, work) or getattr(load(name), work, None)
