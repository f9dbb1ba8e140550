"""The questions that layers and losses ask of their arguments; each failure names what is wanted."""

import numpy as np

from ..checks import integer

FLOATS = np.dtype(np.float32), np.dtype(np.float64)


def check_array(name, array, dtype=None):
    """TypeError unless `array` is an ndarray of `dtype`, or of float32 or float64 where that is None."""
    if type(array) is np.ndarray and array.dtype is dtype:
        return
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, was {type(array).__name__}")
    if array.dtype not in (FLOATS if dtype is None else (dtype,)):
        wanted = "float32 or float64" if dtype is None else dtype
        cast = "float32" if dtype is None else dtype
        raise TypeError(f"{name} must be {wanted}, was {array.dtype}; use .astype(np.{cast})")


def check_shape(name, array, shape):
    """ValueError unless `array` has this shape."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, was {array.shape}")


def check_gradient(grad_y, shape, dtype):
    """TypeError or ValueError unless `grad_y` is an array of this shape and dtype."""
    if type(grad_y) is not np.ndarray or grad_y.dtype is not dtype or grad_y.shape != shape:
        check_array("grad_y", grad_y, dtype)
        check_shape("grad_y", grad_y, shape)


def dense(array):
    """`array` if it is aligned and contiguous in C or Fortran order, else a copy, in its order if it has one."""
    flags = array.flags
    return array if flags.forc and flags.aligned else array.copy("A")


def c_dense(array):
    """`array` if it is aligned and C-contiguous, else a copy."""
    flags = array.flags
    return array if flags.c_contiguous and flags.aligned else array.copy()


def positive_int(name, value):
    """`value` as an int of at least 1."""
    return integer(name, value, 1)


def channel_axis(axis):
    """`axis`, where the channels are: ValueError unless it is 1 or -1."""
    if axis not in (1, -1):
        raise ValueError(f"axis must be 1 or -1, where the channels are, was {axis!r}")
    return axis


def float_dtype(dtype):
    """`dtype` as np.dtype, which must be float32 or float64."""
    if np.dtype(dtype) not in FLOATS:
        raise TypeError(f"dtype must be float32 or float64, was {np.dtype(dtype)}")
    return np.dtype(dtype)
