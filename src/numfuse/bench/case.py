"""A kernel with one set of options, and what cases have in common: sizes, shapes and traffic."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Callable

import numpy as np

ALL_SIZES = tuple(1 << k for k in range(10, 27, 2))  # 1 Ki to 64 Mi elements
ONE_SIZE = (1 << 20,)
TWO_SIZES = 1 << 16, 1 << 22
ROWS = (128, 256), (256, 1024), (4096, 1024), (65536, 256), (262144, 64)
IMAGES = (8, 32, 14, 14), (32, 256, 14, 14), (32, 64, 56, 56), (32, 64, 112, 112)
PRODUCTS = (128, 256), (1024, 512), (65536, 256)  # results of matrix products
LOGITS = (128, 10), (4096, 1000)
# Tolerance of a rival's results, of the largest change that the work makes to an array. Sums over some 10,000
# elements, in any order, are well within; leaving out an operation is not.
ROUNDING = {"float32": 1e-4, "float64": 1e-9}


def shape_of_mask(arguments):
    """The shape of the mask of a dropout that draws for every element."""
    return arguments["grad_y" if "grad_y" in arguments else "x"].shape


@dataclass(frozen=True)
class Case:
    """One kernel with one set of options.

    kernel : the function's name in a backend
    options : what sets this case apart, for people; may be empty
    arguments : (size, dtype, rng) -> dict, all of the kernel's arguments by keyword, for `size`
        elements, or where shapes matter a shape of at least that many, or the very shape that
        `size` is; `size` may be 0
    passes : arguments -> list of (reads, updates, writes), three lists of arrays: what must be read,
        read and written in place, and written, pass after pass over memory, by anyone who does the
        kernel's work. A bit mask, 1/32 of an array, is left out.
    sizes : those of a full benchmark
    mask_shape : arguments -> the shape of dropout's mask, which broadcasts to that of the array
    """

    kernel: str
    options: str
    arguments: Callable
    passes: Callable
    sizes: tuple
    mask_shape: Callable = shape_of_mask

    @property
    def name(self):
        return f"{self.kernel} {self.options}".strip()

    def __reduce__(self):
        # In another process it is equal to the case of that name there.
        return _operations().find, (self.name,)

    @property
    def operation(self):
        """The module of `operations` that the case stands in."""
        return _operations().operation_of(self.kernel)

    @property
    def group(self):
        return self.operation.GROUP

    @property
    def same_bits(self):
        """Whether the reference has the kernel's bits."""
        return getattr(self.operation, "SAME_BITS", True)

    @property
    def tolerance(self):
        return self.operation.TOLERANCE

    def textbook(self, arguments):
        """The function that does the kernel's work as a NumPy user writes it from the paper."""
        return partial(self._version("textbook"), **self._with_float_mask(arguments))

    def in_place(self, arguments):
        """The same in NumPy with `out=` and scratch."""
        return self._version("in_place")(**self._with_float_mask(arguments))

    def steady_arguments(self, size, dtype, rng):
        """Arguments for a call that will be repeated thousands of times.

        The learning rate is next to 0: with any other the parameters drift off, or settle where
        gradient and decay cancel, and it is no ordinary step that would be measured.
        """
        arguments = self.arguments(size, dtype, rng)
        return arguments | {"lr": 1e-9} if "lr" in arguments else arguments

    def _version(self, source):
        return _operations().function(source, self.kernel)

    def _with_float_mask(self, arguments):
        """The arguments with a kernel's bit mask as the array of 0 and 1 / (1 - p) that NumPy users keep."""
        if "mask" not in arguments:
            return arguments
        kept, scale = unpacked(arguments["mask"], self.mask_shape(arguments)), 1 / (1 - arguments["p"])
        return arguments | {"mask": kept.astype(arguments["grad_y"].dtype) * scale}


def _operations():
    from . import operations  # which import this module

    return operations


def arrays(arguments):
    """All arrays among a call's arguments, those in lists too; the first has the case's shape."""
    values = []
    for value in arguments.values():
        values += value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, np.ndarray)]


def state_names(arguments):
    """The names of the lists that an optimizer step updates."""
    return [name for name, value in arguments.items() if isinstance(value, list) and name != "grads"]


def merge(calls):
    """The arguments of one optimizer step over the tensors of several."""
    merged = dict(calls[0])
    for name, value in merged.items():
        if isinstance(value, list):
            merged[name] = [array for call in calls for array in call[name]]
    merged["steps"] = np.concatenate([call["steps"] for call in calls])
    return merged


def unpacked(mask, shape):
    """A kernel's bit mask as an array of bool."""
    bits = np.unpackbits(mask.astype("<u4").view(np.uint8), count=math.prod(shape), bitorder="little")
    return bits.reshape(shape).astype(bool)


def single_pass(arguments):
    """The passes of a kernel that reads each array once and writes its result."""
    reads = [arguments[name] for name in ("x", "grad_y", "saved", "y", "prediction") if name in arguments]
    return [(reads, [], [arguments["out"]])]


def shape_of(size, rule):
    """`size` if it is a shape, else the shape that a rule finds for this many elements."""
    return size if isinstance(size, tuple) else rule(size)


def rows(size, row):
    """How many rows of `row` elements hold `size` elements, and have a variance."""
    return max(2, -(-size // row)) if size else 0  # one value per channel has no variance


def flat(size):
    """A shape (rows, channels), about a square."""
    channels = max(1, math.isqrt(size))
    return rows(size, channels), channels


def ten_classes(size):
    """A shape (rows, 10)."""
    return -(-size // 10), 10


def channels_first(size):
    """The shape of images, NCHW."""
    channels, side = max(1, math.isqrt(size) // 16), max(1, math.isqrt(math.isqrt(size)))
    return rows(size, channels * side * side), channels, side, side


def channels_last(size):
    """The shape of images, NHWC."""
    return to_last(channels_first(size))


def to_last(shape):
    """The shape NHWC of images of shape NCHW."""
    n, channels, height, width = shape
    return n, height, width, channels
