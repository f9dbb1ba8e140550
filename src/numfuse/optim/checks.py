"""What is wrong with an option, an array or a dict, said in one sentence that names it."""

import operator

import numpy as np

from ..checks import integer, number


def check_numbers(options, *names):
    """Make these options floats that are >= 0 and finite."""
    for name in names:
        options[name] = number(name, options[name])


def check_betas(options):
    """Make the option "betas" a pair of floats in [0, 1)."""
    betas = options["betas"]
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise TypeError(f"betas must be a pair of numbers, was {betas!r}")
    checked = tuple(number(f"betas[{i}]", beta, below=1) for i, beta in enumerate(betas))
    if betas != checked:  # the very object stays, by which a change of options is told
        options["betas"] = checked


def check_flags(options, *names):
    """Make these options bools."""
    for name in names:
        options[name] = flag(name, options[name])


def flag(name, value):
    """`value` as a bool, which it must be."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, was {value!r}")
    return bool(value)


def check_choice(name, value, *choices):
    """ValueError unless it is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, was {value!r}")


def step_count(name, value):
    """`value` as an int that an int64 can hold and count up."""
    count = integer(name, value, 0)
    if count >= np.iinfo(np.int64).max:
        raise ValueError(f"{name} must fit in an int64, was {count}")
    return count


def optional_norm(name, value):
    """`value` as a float > 0, or None."""
    return None if value is None else number(name, value, positive=True)


def check_keys(name, mapping, keys, optional=(), hint=""):
    """The keys of a dict must be `keys`, and may be `optional`; an error ends with the hint."""
    if not isinstance(mapping, dict):
        raise TypeError(f"{name} must be a dict, was {type(mapping).__name__}")
    valid = (*keys, *optional)
    for key in mapping:
        if key not in valid:
            raise ValueError(f"{name} has an unknown entry {key!r}; valid are {', '.join(map(repr, valid))}{hint}")
    for key in keys:
        if key not in mapping:
            raise ValueError(f"{name} lacks the entry {key!r}{hint}")


def check_param(name, param):
    """A parameter must be an array that can be updated in place."""
    _check_ndarray(name, param)
    if param.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, was {_dtype(param)}; use .astype('float32')")
    if not _is_dense(param):
        raise ValueError(f"{name} must be contiguous, was of shape {param.shape}, strides {param.strides}: "
                         "put a copy from np.ascontiguousarray in its place")
    if not param.flags.aligned:
        raise ValueError(f"{name} must be aligned, was not: put a copy in its place")
    if not param.flags.writeable:
        raise ValueError(f"{name} must be writable, was read-only")


def check_same(name, array, other_name, other):
    """`array` must be an array of the shape and dtype of `other`."""
    _check_ndarray(name, array)
    if array.dtype != other.dtype:
        raise TypeError(f"{name} must be {other.dtype} like {other_name}, was {_dtype(array)}; "
                        f"use .astype('{other.dtype}')")
    if array.shape != other.shape:
        raise ValueError(f"{name} must have shape {other.shape} like {other_name}, was {array.shape}")


def check_like(name, array, other_name, other):
    """`array` must be like `other` element by element in memory: shape, dtype and order."""
    check_same(name, array, other_name, other)
    mine = array.strides
    if mine != other.strides and any(n > 1 and s != t for n, s, t in zip(array.shape, mine, other.strides)):
        function = "np.ascontiguousarray" if other.flags.c_contiguous else "np.asfortranarray"
        raise ValueError(f"{name} must be contiguous, with strides {other.strides} like {other_name}, "
                         f"was of strides {mine}: use {function}")
    if not array.flags.aligned:
        raise ValueError(f"{name} must be aligned, was not: use a copy")


def check_gradient(name, grad, param_name, param):
    """A gradient must be an array, or a NumPy scalar, of the shape and dtype of its parameter."""
    grad = np.asarray(grad) if isinstance(grad, np.generic) else grad
    if isinstance(grad, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: use .filled(0)")
    if isinstance(grad, np.ndarray) and not grad.dtype.isnative:
        grad = grad.astype(grad.dtype.newbyteorder("="))
    check_same(name, grad, param_name, param)


def check_overlap(written, read=()):
    """No array of `written` may share memory with any other. Both are lists of (name, contiguous array)."""
    spans = []
    for arrays, is_written in ((written, True), (read, False)):
        for name, array in arrays:
            if array.size:
                start = array.__array_interface__["data"][0]
                spans.append((start, start + array.nbytes, is_written, name))
    # In the order of starts, a span meets an earlier one just if it meets the one that ends last.
    last = last_written = (0, 0, False, "")
    for span in sorted(spans, key=operator.itemgetter(0)):
        start, end, is_written, name = span
        other = last if is_written else last_written
        if start < other[1]:
            raise ValueError(f"{name} must not share memory with {other[3]}")
        if end > last[1]:
            last = span
        if is_written and end > last_written[1]:
            last_written = span


def _check_ndarray(name, array):
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a numpy.ndarray, was {type(array).__name__}; use np.asarray")


def _is_dense(array):
    """Whether the elements fill memory without gaps, in the order of some transpose."""
    order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
    return array.flags.forc or array.transpose(order).flags.c_contiguous


def _dtype(array):
    return f"{array.dtype}{'' if array.dtype.isnative else ', byte-swapped'}"
