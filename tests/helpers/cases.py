"""The harness's cases, one list for tests and measurements; tests import them from here alone."""

import math

import numpy as np

from numfuse.bench import textbook
from numfuse.bench.case import arrays, merge
from numfuse.bench.operations import CASES, find
from numfuse.bench.operations.step import PLAIN, REGULARIZED

__all__ = ["CASES", "PLAIN", "REGULARIZED", "arguments", "arrays", "find", "merge", "textbook"]


def arguments(kernel, shape=(6, 4), dtype=np.float32, **changes):
    """A good call of a kernel: that of its cases with most arrays, and of these with most options in use."""
    calls = [_of_shape(case, shape, dtype) for case in CASES if case.kernel == kernel]
    call = max(calls, key=_size)
    if "out" in call:
        call["out"].fill(7)
    if "mask" in call:
        call["mask"][:] = np.arange(len(call["mask"]))  # numbers that any type can hold
    return call | changes


def _size(call):
    return len(arrays(call)), sum(bool(value) for value in call.values() if not isinstance(value, np.ndarray))


def _of_shape(case, shape, dtype):
    """The case's arguments, reshaped where it counts elements and knows no shapes."""
    rng = np.random.default_rng(2)
    if case.kernel != "dropout_backward":
        return case.arguments(shape, dtype, rng)
    call = case.arguments(math.prod(shape), dtype, rng)
    return call | {name: call[name].reshape(shape) for name in ("grad_y", "out")}
