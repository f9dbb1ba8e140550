"""One case per kernel and set of options that matters: tests, `numfuse bench` and `benchmarks/` walk them.

A kernel listed here is compared with its reference on every instruction set, and timed, with no
further code.

>>> from numfuse import native
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
from .machine import l2_bytes
from .textbook import channel_shape

LADDER = tuple(1 << k for k in range(10, 27, 2))  # 1 Ki to 64 Mi elements
ROWS = (128, 256), (256, 1024), (4096, 1024), (65536, 256), (262144, 64)
IMAGES = (8, 32, 14, 14), (32, 256, 14, 14), (32, 64, 56, 56), (32, 64, 112, 112)
PRODUCTS = (128, 256), (1024, 512), (65536, 256)  # results of matrix products
ONE = (1 << 20,)
# What every step has beside its own formula: nothing of it, nearly all of it, and the penalties as gradients.
PLAIN = {"weight_decay": 0.0, "decoupled": False, "l1": 0.0, "proximal": False, "max_grad_value": math.inf,
         "ema_decay": 0.0, "maximize": False, "grad_scale": 1.0}
REGULARIZED = {"max_grad_value": 1.5, "weight_decay": 0.1, "decoupled": True, "l1": 0.1, "proximal": True,
               "ema_decay": 0.999}
ELASTIC_NET = {"max_grad_value": 1.5, "weight_decay": 0.1, "l1": 0.1}
TWO = 1 << 16, 1 << 22
LOGITS = (128, 10), (4096, 1000)
CACHE_LINE = 64  # bytes


GROUPS = {"_step": "optimizers", "grad_norm": "optimizers", "max_norm": "optimizers", "relu": "fused",
          "batch_norm": "batch norm", "dropout": "dropout", "activation": "activations", "softmax": "activations",
          "cross_entropy": "losses", "mse": "losses", "huber": "losses", "bce_with_logits": "losses"}


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
    """

    kernel: str
    options: str
    arguments: Callable
    passes: Callable
    sizes: tuple

    @property
    def name(self):
        return f"{self.kernel} {self.options}".strip()

    def __reduce__(self):
        # In another process it is equal to the case of that name there.
        return find, (self.name,)

    @property
    def group(self):
        return next(group for word, group in GROUPS.items() if word in self.kernel)

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


def _with_float_mask(arguments):
    """The arguments with a kernel's bit mask as the array of 0 and 1 / (1 - p) that NumPy users keep."""
    if "mask" not in arguments:
        return arguments
    like, scale = arguments["grad_y"], 1 / (1 - arguments["p"])
    shape = like.shape if "x" in arguments or "axis" not in arguments else channel_shape(like, arguments["axis"])
    bits = np.unpackbits(arguments["mask"].astype("<u4").view(np.uint8), count=math.prod(shape), bitorder="little")
    return arguments | {"mask": bits.reshape(shape).astype(like.dtype) * scale}


def _optimizer(kernel, options, state, absent=(), *, sizes=ONE, **hyper):
    absent = [name for name in (*absent, "ema_params") if name not in state]
    arguments = partial(_step_arguments, state=state, **dict.fromkeys(absent), **hyper)
    return Case(kernel, options, arguments, _step_passes, sizes)


def _step_arguments(size, dtype, rng, *, state, **options):
    arguments = {name: [rng.standard_normal(size, dtype=dtype)] for name in ("params", "grads")}
    for name in state:
        average = rng.standard_normal(size, dtype=dtype)
        # An average of squares is never below the square of the average.
        of_squares = "sq" in name or name == "sums"
        arguments[name] = [average * average + 1 if of_squares else average * 0.1]
    steps = np.array([10], dtype=np.int64)
    return arguments | {"steps": steps, "lr": 0.01} | PLAIN | options


def _step_passes(arguments):
    updates = [arguments[name] for name in state_names(arguments)]
    return [(arguments["grads"], sum(updates, []), [])]


def _max_norm_arguments(size, dtype, rng):
    shape = size if isinstance(size, tuple) else _flat(size)
    params, averages = ([rng.standard_normal(shape, dtype=dtype)] for _ in range(2))
    # That is about the norm of standard normal rows: of half of them it is more.
    return {"params": params, "ema_params": averages, "max_norm": max(1, math.sqrt(shape[1])), "ema_decay": 0.999}


def _max_norm_passes(arguments):
    return [([], arguments["params"] + arguments["ema_params"], [])]


def _grad_norm_arguments(size, dtype, rng):
    return {"grads": [rng.standard_normal(size, dtype=dtype)]}


def _grad_norm_passes(arguments):
    return [(arguments["grads"], [], [])]


def _batch_norm(kernel, options, shape, sizes, axis=1, affine=True):
    arguments = partial(_batch_norm_arguments, kernel=kernel, shape=shape, axis=axis, affine=affine)
    passes = _single_pass if kernel == "batch_norm_inference" else _statistics_passes
    return Case(kernel, options, arguments, passes, sizes)


def _single_pass(arguments):
    reads = [arguments[name] for name in ("x", "grad_y") if name in arguments]
    return [(reads, [], [arguments["out"]])]


def _statistics_passes(arguments):
    """One pass for the statistics and one for the result.

    The first is left out where all that belongs to a channel fits in the L2 cache, and can be read
    twice at the price of once. Channels that lie side by side are read by the cache line.
    """
    x, axis = arguments["x"], arguments["axis"]
    ((reads, _, writes),) = last = _single_pass(arguments)
    side_by_side = CACHE_LINE // x.itemsize if x.strides[axis] == x.itemsize else 1
    per_channel = (len(reads) + len(writes)) * x.nbytes // max(x.shape[axis], 1) * side_by_side
    return last if per_channel <= (l2_bytes() or 0) else [(reads, [], []), *last]


def _batch_norm_arguments(size, dtype, rng, *, kernel, shape, axis, affine):
    x = rng.standard_normal(size if isinstance(size, tuple) else shape(size), dtype=dtype)
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
    return _last(_channels_first(size))


def _last(shape):
    n, channels, height, width = shape
    return n, height, width, channels


def _dropout_forward_arguments(size, dtype, rng, *, p):
    x = rng.standard_normal(size, dtype=dtype)
    return {"x": x, "p": p, "seed": 0x123456789ABCDEF, "offset": 3, "inverted": True, "out": np.empty_like(x)}


def _dropout_backward_arguments(size, dtype, rng, *, p):
    grad_y = rng.standard_normal(size, dtype=dtype)
    mask = rng.integers(0, 2**32, -(-size // 32), dtype=np.uint32)
    return {"grad_y": grad_y, "mask": mask, "p": p, "out": np.empty_like(grad_y)}


def _channel_dropout_arguments(size, dtype, rng, *, kernel, shape, axis):
    x = rng.standard_normal(size if isinstance(size, tuple) else shape(size), dtype=dtype)
    arguments = {"p": 0.2, "axis": axis, "out": np.empty_like(x)}
    if kernel == "channel_dropout_forward":
        return {"x": x, "seed": 0x123456789ABCDEF, "offset": 3, "inverted": True} | arguments
    mask = rng.integers(0, 2**32, -(-math.prod(channel_shape(x, axis)) // 32), dtype=np.uint32)
    return {"grad_y": x, "mask": mask} | arguments


def _dropout(kernel, options, arguments, sizes=LADDER):
    return Case(kernel, options, arguments, _single_pass, sizes)


def _batch_norm_relu_dropout_arguments(size, dtype, rng, *, kernel, p):
    batch_norm = kernel.replace("_relu_dropout", "")
    arguments = _batch_norm_arguments(size, dtype, rng, kernel=batch_norm, shape=_flat, axis=1, affine=True)
    if kernel.endswith("forward"):
        return arguments | {"relu": True, "p": p, "seed": 0x123456789ABCDEF, "offset": 3}
    del arguments["training"]
    return arguments | {"mask": rng.integers(0, 2**32, -(-arguments["x"].size // 32), dtype=np.uint32), "p": p}


def _bias_relu_dropout_forward_arguments(size, dtype, rng, *, p):
    arguments = _dropout_forward_arguments(size if isinstance(size, tuple) else _flat(size), dtype, rng, p=p)
    del arguments["inverted"]
    return arguments | {"bias": rng.standard_normal(arguments["x"].shape[1], dtype=dtype), "relu": True}


def _bias_relu_dropout_backward_arguments(size, dtype, rng, *, p):
    grad_y = rng.standard_normal(size if isinstance(size, tuple) else _flat(size), dtype=dtype)
    mask = rng.integers(0, 2**32, -(-grad_y.size // 32), dtype=np.uint32)
    grad_bias = rng.standard_normal(grad_y.shape[1], dtype=dtype)
    return {"grad_y": grad_y, "mask": mask, "p": p, "grad_bias": grad_bias, "out": np.empty_like(grad_y)}


def _cross_entropy_arguments(size, dtype, rng, *, weighted=False, label_smoothing=0.0):
    x = rng.standard_normal(size if isinstance(size, tuple) else (-(-size // 10), 10), dtype=dtype)
    n, classes = x.shape
    weights = {name: 0.5 + rng.random(count, dtype=dtype) if weighted else None
               for name, count in (("weight", classes), ("sample_weight", n))}
    return {"prediction": x, "target": rng.integers(0, classes, n), **weights, "mean": True,
            "label_smoothing": label_smoothing, "out": np.empty_like(x)}


def _pair_arguments(size, dtype, rng, *, weights=(), absent=(), **options):
    x = rng.standard_normal(size, dtype=dtype)
    counts = {"sample_weight": len(x), "pos_weight": x.shape[-1]}
    given = {name: 0.5 + rng.random(counts[name], dtype=dtype) for name in weights} | dict.fromkeys(absent)
    return {"prediction": x, "target": rng.random(size, dtype=dtype), **given, "mean": True, **options,
            "out": np.empty_like(x)}


def _logits_passes(arguments):
    return [([arguments["prediction"]], [], [arguments["out"]])]


def _pair_passes(arguments):
    """Weights, of which there are as many as elements in a vector, are added up before."""
    pair, weights = [arguments["prediction"], arguments["target"]], arguments["sample_weight"]
    if weights is None or weights.size < pair[0].size:
        return [(pair, [], [arguments["out"]])]
    return [([weights], [], []), ([*pair, weights], [], [arguments["out"]])]


def _checked_pair_passes(arguments):
    """The targets must be looked at before anything is written."""
    return [([arguments["target"]], [], []), *_pair_passes(arguments)]


def _activation(kernel, function, options="", affine=False, sizes=TWO):
    arguments = partial(_activation_arguments, kernel=kernel, function=function, affine=affine)
    return Case(kernel, f"{function} {options}".strip(), arguments, _activation_passes, sizes)


def _activation_arguments(size, dtype, rng, *, kernel, function, affine):
    shape = size if isinstance(size, tuple) or not affine else _flat(size)
    x = rng.standard_normal(shape, dtype=dtype)
    vector = rng.standard_normal(x.shape[-1], dtype=dtype) if affine else None
    if kernel == "activation_forward":
        return {"x": x, "bias": vector, "function": function, "alpha": 0.3, "out": np.empty_like(x)}
    saved = (rng.random if function in ("sigmoid", "tanh") else rng.standard_normal)(shape, dtype=dtype)
    bias = rng.standard_normal(x.shape[-1], dtype=dtype) if affine else None
    return {"grad_y": x, "saved": saved, "bias": bias, "function": function, "alpha": 0.3, "grad_bias": vector,
            "out": np.empty_like(x)}


def _activation_passes(arguments):
    reads = [arguments[name] for name in ("x", "grad_y", "saved", "y") if name in arguments]
    return [(reads, [], [arguments["out"]])]


def _softmax_forward_arguments(size, dtype, rng):
    x = rng.standard_normal(size if isinstance(size, tuple) else (-(-size // 10), 10), dtype=dtype)
    return {"x": x, "out": np.empty_like(x)}


def _softmax_backward_arguments(size, dtype, rng):
    x, y = (_softmax_forward_arguments(size, dtype, rng)["x"] for _ in range(2))
    return {"grad_y": x, "y": reference.softmax_forward(y), "out": np.empty_like(x)}


_sgd = partial(_optimizer, "sgd_step", running_average=False)
_rmsprop = partial(_optimizer, "rmsprop_step", alpha=0.99, eps=1e-3, nesterov=False)
_adagrad = partial(_optimizer, "adagrad_step", eps=1e-3)
# With the usual eps of 1e-8 a kernel that forgot it would hardly be found out.
_adam = partial(_optimizer, "adam_step", beta1=0.9, beta2=0.999, eps=1e-3)
_moments = ["exp_avgs", "exp_avg_sqs"]
_forward, _inference, _backward = (
    partial(_batch_norm, f"batch_norm_{name}") for name in ("forward", "inference", "backward"))
_samples, _both = ("sample_weight",), ("pos_weight", "sample_weight")

CASES = [
    _sgd("", [], ["momentum_buffers"], momentum=0.0, dampening=0.0, nesterov=False),
    _sgd("momentum", ["momentum_buffers"], momentum=0.9, dampening=0.9, nesterov=False, sizes=LADDER),
    _sgd("nesterov decay", ["momentum_buffers"], momentum=0.9, dampening=0.0, nesterov=True,
         weight_decay=0.1, grad_scale=0.3),
    _rmsprop("", ["square_avgs"], ["grad_avgs", "momentum_buffers"], momentum=0.0, sizes=LADDER),
    _rmsprop("centered momentum", ["square_avgs", "grad_avgs", "momentum_buffers"], momentum=0.9),
    _adam("", _moments, ["max_exp_avg_sqs"], sizes=LADDER),
    _adam("adamw", _moments, ["max_exp_avg_sqs"], decoupled=True, weight_decay=0.1, sizes=LADDER),
    _adam("amsgrad", [*_moments, "max_exp_avg_sqs"], weight_decay=0.1),
    _adagrad("", ["sums"], lr_decay=0.1, sizes=LADDER),
    _sgd("regularized", ["momentum_buffers", "ema_params"], momentum=0.9, dampening=0.0, nesterov=True,
         running_average=True, **REGULARIZED),
    _rmsprop("regularized", ["square_avgs", "momentum_buffers", "ema_params"], ["grad_avgs"], momentum=0.9,
             nesterov=True, **REGULARIZED),
    _adam("regularized", [*_moments, "ema_params"], ["max_exp_avg_sqs"], sizes=LADDER, **REGULARIZED),
    _adam("elastic net", _moments, ["max_exp_avg_sqs"], **ELASTIC_NET),
    _adagrad("regularized", ["sums", "ema_params"], lr_decay=0.1, **REGULARIZED),
    Case("max_norm", "", _max_norm_arguments, _max_norm_passes, ROWS),
    Case("grad_norm", "", _grad_norm_arguments, _grad_norm_passes, LADDER),
    _forward("", _flat, ROWS),
    _forward("no affine", _flat, ROWS[1:2], affine=False),
    _forward("NCHW", _channels_first, IMAGES),
    _forward("NHWC", _channels_last, tuple(map(_last, IMAGES)), axis=-1),
    _inference("", _flat, ROWS[1:2]),
    _inference("NCHW", _channels_first, IMAGES[1:2]),
    _inference("NHWC", _channels_last, (_last(IMAGES[1]),), axis=-1),
    _backward("", _flat, ROWS),
    _backward("no affine", _flat, ROWS[1:2], affine=False),
    _backward("NCHW", _channels_first, IMAGES),
    _backward("NHWC", _channels_last, tuple(map(_last, IMAGES)), axis=-1),
    _dropout("dropout_forward", "p=0.5", partial(_dropout_forward_arguments, p=0.5)),
    _dropout("dropout_forward", "p=0.2", partial(_dropout_forward_arguments, p=0.2)),
    _dropout("dropout_backward", "p=0.5", partial(_dropout_backward_arguments, p=0.5)),
    *[_dropout(f"channel_dropout_{name}", options,
               partial(_channel_dropout_arguments, kernel=f"channel_dropout_{name}", shape=shape, axis=axis), sizes)
      for name in ("forward", "backward")
      for options, shape, axis, sizes in (("NCHW", _channels_first, 1, IMAGES[1:3]),
                                          ("NHWC", _channels_last, -1, tuple(map(_last, IMAGES[1:3]))))],
    *[_dropout(f"bias_relu_dropout_{name}", f"p={p:g}", partial(arguments, p=p), PRODUCTS)
      for name, arguments in (("forward", _bias_relu_dropout_forward_arguments),
                              ("backward", _bias_relu_dropout_backward_arguments))
      for p in (0.0, 0.2)],
    *[Case(kernel, f"p={p:g}", partial(_batch_norm_relu_dropout_arguments, kernel=kernel, p=p), _statistics_passes,
           PRODUCTS)
      for kernel in ("batch_norm_relu_dropout_forward", "batch_norm_relu_dropout_backward")
      for p in (0.0, 0.2)],
    Case("cross_entropy", "", _cross_entropy_arguments, _logits_passes, LOGITS),
    Case("cross_entropy", "weights", partial(_cross_entropy_arguments, weighted=True), _logits_passes, LOGITS),
    Case("cross_entropy", "smoothing", partial(_cross_entropy_arguments, label_smoothing=0.1), _logits_passes, LOGITS),
    Case("cross_entropy", "smoothing weights",
         partial(_cross_entropy_arguments, weighted=True, label_smoothing=0.1), _logits_passes, LOGITS),
    Case("mse", "", partial(_pair_arguments, absent=_samples), _pair_passes, TWO),
    Case("mse", "weights", partial(_pair_arguments, weights=_samples), _pair_passes, TWO),
    Case("huber", "", partial(_pair_arguments, absent=_samples, delta=0.5), _pair_passes, TWO),
    Case("huber", "weights", partial(_pair_arguments, weights=_samples, delta=0.5), _pair_passes, TWO),
    Case("bce_with_logits", "", partial(_pair_arguments, absent=_both), _checked_pair_passes, TWO),
    Case("bce_with_logits", "weights", partial(_pair_arguments, weights=_both), _checked_pair_passes, TWO),
    *[_activation(kernel, *options)
      for kernel in ("activation_forward", "activation_backward")
      for options in (["sigmoid"], ["tanh"], ["tanh", "bias", True], ["leaky_relu"], ["leaky_relu", "bias", True],
                      ["elu"], ["silu"], ["gelu", "", False, TWO[:1]], ["gelu", "bias", True, TWO[:1]], ["gelu_tanh"])],
    Case("softmax_forward", "", _softmax_forward_arguments, _activation_passes, LOGITS),
    Case("softmax_backward", "", _softmax_backward_arguments, _activation_passes, LOGITS),
]
