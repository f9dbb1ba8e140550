"""Arrays to test with, and comparisons of their bits."""

import numpy as np


def draw(*shape, dtype=np.float64, seed=1):
    """Standard normal numbers."""
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def flat(value):
    """All arrays in a dict, list, tuple or result, in order."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    nested = hasattr(value, "__iter__") and not isinstance(value, str)
    return [array for part in value for array in flat(part)] if nested else []


def misaligned(array):
    order = "C" if array.flags.c_contiguous else "F"
    view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape, order=order)
    view[...] = array
    return view


def kept_bits(mask, size):
    """The first bits of a kernel's mask, as truth values."""
    return np.unpackbits(mask.astype("<u4").view(np.uint8), count=size, bitorder="little").astype(bool)
