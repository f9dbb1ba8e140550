"""The rivals from other libraries, one module each, named after the library that it needs.

A module holds functions named like the kernels, that take the kernels' arguments, `block` (x, grad_y,
weight, bias, p) and `training_step` (work, params, x, y); they return {label: Rival}, or raise Unsupported.
`configure(threads)` is called first, and `versions()` says what is installed.
"""

import importlib

NAMES = ["torch", "jax", "sklearn", "numba"]


def load(name):
    """The module of a peer; ModuleNotFoundError if its library is not installed."""
    return importlib.import_module(f"{__name__}.{name}")


def rivals(name, work, *args, **arguments):
    """{label: Rival} of one function of a peer's module, for these arguments; none if there is no such function."""
    function = getattr(load(name), work, None)
    return function(*args, **arguments) if function else {}
