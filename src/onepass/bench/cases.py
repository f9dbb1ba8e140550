"""One case per kernel and set of options that matters: tests, `onepass bench` and `benchmarks/` walk them.

A kernel listed here is compared with its reference on every instruction set, and timed, with no
further code.

>>> from onepass import native
>>> case = find("adam_step amsgrad")
>>> arguments = case.arguments(1000, np.float32, np.random.default_rng(0))
>>> arguments["params"][0].shape, arguments["eps"]
((1000,), 0.001)
>>> getattr(native, case.kernel)(**arguments)
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Callable

import numpy as np

from .. import reference
from . import in_place, textbook


@dataclass(frozen=True)
class Case:
    """One kernel with one set of options.

    kernel : the function's name in a backend
    options : what sets this case apart, for people; may be empty
    arguments : (size, dtype, rng) -> dict, all of the kernel's arguments by keyword, for `size`
        elements, or for batch normalisation a shape of at least that many; `size` may be 0
    reads, updates, writes : how many arrays of the case's size the kernel reads, reads and writes
        in place, or writes. An array that must be read twice, as batch statistics ask, counts
        twice; a bit mask, 1/32 of an array, does not count.
    """

    kernel: str
    options: str
    arguments: Callable
    reads: int
    updates: int
    writes: int

    @property
    def name(self):
        return f"{self.kernel} {self.options}".strip()

    def textbook(self, arguments):
        """The function that does the kernel's work as a NumPy user writes it from the paper."""
        return partial(getattr(textbook, self.kernel), **_with_float_mask(arguments))

    def in_place(self, arguments):
        """The same in NumPy with `out=` and scratch."""
        return getattr(in_place, self.kernel)(**_with_float_mask(arguments))

    def steady_arguments(self, size, dtype, rng):
        """Arguments for a call that will be repeated thousands of times.

        The learning rate is next to 0: with any other the parameters drift off, or settle where
        gradient and decay cancel, and it is no ordinary step that would be measured.
        """
        arguments = self.arguments(size, dtype, rng)
        return arguments | {"lr": 1e-9} if "lr" in arguments else arguments


def find(name):
    """The case of that name."""
    return next(case for case in CASES if case.name == name)


def arrays(arguments):
    """All arrays among a call's arguments, those in lists too; the first has the case's shape."""
    values = []
    for value in arguments.values():
        values += value if isinstance(value, list) else [value]
    return [value for value in values if isinstance(value, np.ndarray)]


def merge(calls):
    """The arguments of one optimizer step over the tensors of several."""
    merged = dict(calls[0])
    for name, value in merged.items():
        if isinstance(value, list):
            merged[name] = [array for call in calls for array in call[name]]
    merged["steps"] = np.concatenate([call["steps"] for call in calls])
    return merged


def _with_float_mask(arguments):
    """The arguments with a kernel's bit mask as the array of 0 and 1 / (1 - p) that NumPy users keep."""
    if "mask" not in arguments:
        return arguments
    like, scale = arguments["grad_y"], 1 / (1 - arguments["p"])
    bits = np.unpackbits(arguments["mask"].astype("<u4").view(np.uint8), count=like.size, bitorder="little")
    return arguments | {"mask": bits.reshape(like.shape).astype(like.dtype) * scale}


def _optimizer(kernel, options, state, absent=(), **hyper):
    arguments = partial(_step_arguments, state=state, **dict.fromkeys(absent), **hyper)
    return Case(kernel, options, arguments, reads=1, updates=1 + len(state), writes=0)


def _step_arguments(size, dtype, rng, *, state, **options):
    arguments = {name: [rng.standard_normal(size, dtype=dtype)] for name in ("params", "grads")}
    for name in state:
        average = rng.standard_normal(size, dtype=dtype)
        # An average of squares is never below the square of the average.
        arguments[name] = [average * average + 1 if "sq" in name else average * 0.1]
    steps = np.array([10], dtype=np.int64)
    return arguments | {"steps": steps, "lr": 0.01, "weight_decay": 0.0, "maximize": False} | options


def _batch_norm(kernel, options, shape, axis=1, affine=True):
    reads = {"batch_norm_forward": 2, "batch_norm_inference": 1, "batch_norm_backward": 4}[kernel]
    arguments = partial(_batch_norm_arguments, kernel=kernel, shape=shape, axis=axis, affine=affine)
    return Case(kernel, options, arguments, reads=reads, updates=0, writes=1)


def _batch_norm_arguments(size, dtype, rng, *, kernel, shape, axis, affine):
    x = rng.standard_normal(shape(size), dtype=dtype)
    vectors = rng.standard_normal((6, x.shape[axis]), dtype=dtype)
    weight, bias = vectors[:2] if affine else (None, None)
    arguments = {"x": x, "weight": weight, "axis": axis, "out": np.empty_like(x)}
    if kernel == "batch_norm_backward":
        _, mean, rstd = reference.batch_norm_forward(
            x, None, None, None, None, axis=axis, momentum=0.1, eps=1e-5)
        grad_weight, grad_bias = vectors[4:] if affine else (None, None)
        grad_y = rng.standard_normal(x.shape, dtype=dtype)
        return arguments | {"grad_y": grad_y, "mean": mean, "rstd": rstd, "training": True,
                            "grad_weight": grad_weight, "grad_bias": grad_bias}
    arguments |= {"bias": bias, "running_mean": vectors[2], "running_var": vectors[3] ** 2 + 1, "eps": 1e-5}
    return arguments if kernel == "batch_norm_inference" else arguments | {"momentum": 0.1}


def _rows(size, row):
    return max(2, -(-size // row)) if size else 0  # one value per channel has no variance


def _flat(size):
    channels = max(1, math.isqrt(size))
    return _rows(size, channels), channels


def _channels_first(size):
    channels, side = max(1, math.isqrt(size) // 16), max(1, math.isqrt(math.isqrt(size)))
    return _rows(size, channels * side * side), channels, side, side


def _channels_last(size):
    n, channels, height, width = _channels_first(size)
    return n, height, width, channels


def _dropout_forward_arguments(size, dtype, rng, *, p):
    x = rng.standard_normal(size, dtype=dtype)
    return {"x": x, "p": p, "seed": 0x123456789ABCDEF, "offset": 3, "out": np.empty_like(x)}


def _dropout_backward_arguments(size, dtype, rng, *, p):
    grad_y = rng.standard_normal(size, dtype=dtype)
    mask = rng.integers(0, 2**32, -(-size // 32), dtype=np.uint32)
    return {"grad_y": grad_y, "mask": mask, "p": p, "out": np.empty_like(grad_y)}


def _dropout(kernel, options, arguments):
    return Case(kernel, options, arguments, reads=1, updates=0, writes=1)


_sgd = partial(_optimizer, "sgd_step")
_rmsprop = partial(_optimizer, "rmsprop_step", alpha=0.99, eps=1e-3)
# With the usual eps of 1e-8 a kernel that forgot it would hardly be found out.
_adam = partial(_optimizer, "adam_step", beta1=0.9, beta2=0.999, eps=1e-3)
_moments = ["exp_avgs", "exp_avg_sqs"]

CASES = [
    _sgd("", [], ["momentum_buffers"], momentum=0.0, dampening=0.0, nesterov=False),
    _sgd("momentum", ["momentum_buffers"], momentum=0.9, dampening=0.9, nesterov=False),
    _sgd("nesterov decay", ["momentum_buffers"], momentum=0.9, dampening=0.0, nesterov=True,
         weight_decay=0.1),
    _rmsprop("", ["square_avgs"], ["grad_avgs", "momentum_buffers"], momentum=0.0),
    _rmsprop("centered momentum", ["square_avgs", "grad_avgs", "momentum_buffers"], momentum=0.9),
    _adam("", _moments, ["max_exp_avg_sqs"], decoupled=False),
    _adam("adamw", _moments, ["max_exp_avg_sqs"], decoupled=True, weight_decay=0.1),
    _adam("amsgrad", [*_moments, "max_exp_avg_sqs"], decoupled=False, weight_decay=0.1),
    _batch_norm("batch_norm_forward", "", _flat),
    _batch_norm("batch_norm_forward", "no affine", _flat, affine=False),
    _batch_norm("batch_norm_forward", "NCHW", _channels_first),
    _batch_norm("batch_norm_forward", "NHWC", _channels_last, axis=-1),
    _batch_norm("batch_norm_inference", "", _flat),
    _batch_norm("batch_norm_inference", "NCHW", _channels_first),
    _batch_norm("batch_norm_inference", "NHWC", _channels_last, axis=-1),
    _batch_norm("batch_norm_backward", "", _flat),
    _batch_norm("batch_norm_backward", "no affine", _flat, affine=False),
    _batch_norm("batch_norm_backward", "NCHW", _channels_first),
    _batch_norm("batch_norm_backward", "NHWC", _channels_last, axis=-1),
    _dropout("dropout_forward", "p=0.5", partial(_dropout_forward_arguments, p=0.5)),
    _dropout("dropout_forward", "p=0.2", partial(_dropout_forward_arguments, p=0.2)),
    _dropout("dropout_backward", "p=0.5", partial(_dropout_backward_arguments, p=0.5)),
]
