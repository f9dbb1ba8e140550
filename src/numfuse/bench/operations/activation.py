"""Activation functions, with a bias before them or without."""

import math
from functools import partial

import numpy as np

from ..case import ROUNDING, TWO_SIZES, Case, flat, shape_of, single_pass
from ..places import empty_like

GROUP = "activations"
TOLERANCE = ROUNDING
SAME_BITS = False
SQRT_2, SQRT_2PI, GELU_SCALE = math.sqrt(2), math.sqrt(2 * math.pi), math.sqrt(2 / math.pi)


def _case(kernel, function, options="", affine=False, sizes=TWO_SIZES):
    arguments = partial(_arguments, backward=kernel == "activation_backward", function=function, affine=affine)
    return Case(kernel, f"{function} {options}".strip(), arguments, single_pass, sizes)


def _arguments(size, dtype, rng, *, backward, function, affine):
    x = rng.standard_normal(shape_of(size, flat) if affine else size, dtype=dtype)
    vector = rng.standard_normal(x.shape[-1], dtype=dtype) if affine else None
    if not backward:
        return {"x": x, "bias": vector, "function": function, "alpha": 0.3, "out": np.empty_like(x)}
    saved = (rng.random if function in ("sigmoid", "tanh") else rng.standard_normal)(x.shape, dtype=dtype)
    bias = rng.standard_normal(x.shape[-1], dtype=dtype) if affine else None
    return {"grad_y": x, "saved": saved, "bias": bias, "function": function, "alpha": 0.3, "grad_bias": vector,
            "out": np.empty_like(x)}


CASES = [
    _case(kernel, *options)
    for kernel in ("activation_forward", "activation_backward")
    for options in (["sigmoid"], ["tanh"], ["tanh", "bias", True], ["leaky_relu"], ["leaky_relu", "bias", True],
                    ["elu"], ["silu"], ["gelu", "", False, TWO_SIZES[:1]], ["gelu", "bias", True, TWO_SIZES[:1]], ["gelu_tanh"])
]


def textbook_activation_forward(x, bias, *, function, alpha, out=None):
    if bias is not None:
        x = x + bias
    if function == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if function == "tanh":
        return np.tanh(x)
    if function == "leaky_relu":
        return np.where(x > 0, x, alpha * x)
    if function == "elu":
        return np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))
    if function == "silu":
        return x / (1 + np.exp(-x))
    if function == "gelu":
        return 0.5 * x * (1 + _erf(x / SQRT_2))
    return 0.5 * x * (1 + np.tanh(GELU_SCALE * (x + 0.044715 * x**3)))


def textbook_activation_backward(grad_y, saved, bias, *, function, alpha, grad_bias, out=None):
    x = y = saved
    if bias is not None and function not in ("sigmoid", "tanh"):
        x = x + bias
    if function == "sigmoid":
        slope = y * (1 - y)
    elif function == "tanh":
        slope = 1 - y**2
    elif function == "leaky_relu":
        slope = np.where(x > 0, 1, alpha).astype(x.dtype)
    elif function == "elu":
        slope = np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))
    elif function == "silu":
        sigmoid = 1 / (1 + np.exp(-x))
        slope = sigmoid * (1 + x * (1 - sigmoid))
    elif function == "gelu":
        slope = 0.5 * (1 + _erf(x / SQRT_2)) + x * np.exp(-0.5 * x**2) / SQRT_2PI
    else:
        tanh = np.tanh(GELU_SCALE * (x + 0.044715 * x**3))
        slope = 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * GELU_SCALE * (1 + 3 * 0.044715 * x**2)
    grad_x = grad_y * slope
    if grad_bias is not None:
        grad_bias[...] = grad_x.sum(axis=0)
    return grad_x


def _erf(x):
    """NumPy has none; SciPy's would be faster."""
    return np.array([math.erf(v) for v in x.ravel().tolist()], x.dtype).reshape(x.shape)


def in_place_activation_forward(x, bias, *, function, alpha, out):
    scratch, positive = empty_like(x, 8), np.empty(x.shape, dtype=bool)

    def step():
        shifted = x if bias is None else np.add(x, bias, out=out)
        if function == "sigmoid":
            return sigmoid_in_place(shifted, out)
        if function == "tanh":
            return np.tanh(shifted, out=out)
        if function in ("leaky_relu", "elu"):
            np.greater(shifted, 0, out=positive)
            np.minimum(shifted, 0, out=scratch)
            if function == "elu":
                np.expm1(scratch, out=scratch)
            np.multiply(scratch, alpha, out=scratch)
            np.copyto(scratch, shifted, where=positive)
            np.copyto(out, scratch)
            return out
        if function == "silu":
            sigmoid_in_place(shifted, scratch)
        elif function == "gelu":
            np.divide(shifted, SQRT_2, out=scratch)
            _half_plus_half(_erf(scratch), scratch)
        else:
            _gelu_tanh(shifted, scratch)
        return np.multiply(shifted, scratch, out=out)
    return step


def in_place_activation_backward(grad_y, saved, bias, *, function, alpha, grad_bias, out):
    slope, other = empty_like(saved, 8), empty_like(saved, 9)
    positive = np.empty(saved.shape, dtype=bool)
    shifted = None if bias is None or function in ("sigmoid", "tanh") else empty_like(saved, 7)

    def step():
        x = saved if shifted is None else np.add(saved, bias, out=shifted)
        if function == "sigmoid":
            np.subtract(1, x, out=slope)
            np.multiply(slope, x, out=slope)
        elif function == "tanh":
            np.multiply(x, x, out=slope)
            np.subtract(1, slope, out=slope)
        elif function in ("leaky_relu", "elu"):
            np.greater(x, 0, out=positive)
            np.minimum(x, 0, out=slope)
            if function == "elu":
                np.exp(slope, out=slope)
                np.multiply(slope, alpha, out=slope)
            else:
                slope.fill(alpha)
            np.copyto(slope, 1, where=positive)
        elif function == "silu":
            sigmoid_in_place(x, slope)
            np.subtract(1, slope, out=other)
            np.multiply(other, x, out=other)
            np.add(other, 1, out=other)
            np.multiply(slope, other, out=slope)
        elif function == "gelu":
            np.multiply(x, x, out=other)
            np.multiply(other, -0.5, out=other)
            np.exp(other, out=other)
            np.multiply(other, x, out=other)
            np.multiply(other, 1 / SQRT_2PI, out=other)
            np.divide(x, SQRT_2, out=slope)
            _half_plus_half(_erf(slope), slope)
            np.add(slope, other, out=slope)
        else:
            _gelu_tanh(x, slope)
            np.multiply(x, x, out=other)
            np.multiply(other, 2 * GELU_SCALE * 3 * 0.044715, out=other)
            np.add(other, 2 * GELU_SCALE, out=other)
            np.multiply(other, x, out=other)
            np.multiply(other, slope, out=other)
            np.subtract(1, slope, out=out)
            np.multiply(other, out, out=other)
            np.add(slope, other, out=slope)
        np.multiply(grad_y, slope, out=out)
        if grad_bias is not None:
            np.sum(out, axis=0, out=grad_bias)
        return out
    return step


def _half_plus_half(x, out):
    np.multiply(x, 0.5, out=out)
    return np.add(out, 0.5, out=out)


def _gelu_tanh(x, out):
    """(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2."""
    np.multiply(x, x, out=out)
    np.multiply(out, GELU_SCALE * 0.044715, out=out)
    np.add(out, GELU_SCALE, out=out)
    np.multiply(out, x, out=out)
    np.tanh(out, out=out)
    return _half_plus_half(out, out)


def sigmoid_in_place(x, out):
    """1 / (1 + exp(-x))."""
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.divide(1, out, out=out)


def torch_activation_forward(*, x, bias, function, alpha, out):
    import torch

    from ..peers import torch as peer

    x, bias, y = peer.shared(x, bias, out)
    name, approximate = _torch_operator(function)
    options = [alpha] if function in ("leaky_relu", "elu") else []
    compute = getattr(torch.ops.aten, name).out

    def run():
        compute(x if bias is None else torch.add(x, bias, out=y), *options, **approximate, out=y)

    return peer.rival(run, {"y": out})


def torch_activation_backward(*, grad_y, saved, bias, function, alpha, grad_bias, out):
    import torch

    from ..peers import torch as peer

    grad_y, saved, bias, sums, grad_x = peer.shared(grad_y, saved, bias, grad_bias, out)
    if bias is not None and function not in ("sigmoid", "tanh"):
        saved = saved + bias
    name, approximate = _torch_operator(function)
    options = {"leaky_relu": [saved, alpha, False], "elu": [alpha, 1, 1, False, saved]}.get(function, [saved])
    backward = getattr(torch.ops.aten, f"{name}_backward").grad_input

    def run():
        backward(grad_y, *options, **approximate, grad_input=grad_x)
        if sums is not None:
            torch.sum(grad_x, dim=0, out=sums)

    named = {"grad_x": out, "grad_bias": grad_bias}
    return peer.rival(run, {name: array for name, array in named.items() if array is not None})


def _torch_operator(function):
    return ("gelu", {"approximate": "tanh"}) if function == "gelu_tanh" else (function, {})


def jax_activation_forward(x, bias, *, function, alpha, out):
    from ..peers import jax as peer

    def forward(y, x, bias):
        return [_jax_function(function, alpha)(x if bias is None else x + bias)]

    return peer.rival(forward, [peer.device(out)], [peer.device(x), peer.device(bias)], ["y"])


def jax_activation_backward(grad_y, saved, bias, *, function, alpha, grad_bias, out):
    import jax

    from ..peers import jax as peer

    def backward(grad_x, grad_bias, grad_y, saved, bias):
        if function in ("sigmoid", "tanh"):
            grad_x = grad_y * (1 - saved * saved if function == "tanh" else saved * (1 - saved))
        else:
            (grad_x,) = jax.vjp(_jax_function(function, alpha), saved if bias is None else saved + bias)[1](grad_y)
        return grad_x, None if grad_bias is None else grad_x.sum(0)

    fixed = [peer.device(grad_y), peer.device(saved), peer.device(bias)]
    return peer.rival(backward, [peer.device(out), peer.device(grad_bias)], fixed, ("grad_x", "grad_bias"))


def _jax_function(name, alpha):
    import jax

    if name in ("leaky_relu", "elu"):
        return lambda x: getattr(jax.nn, name)(x, alpha)
    if name in ("gelu", "gelu_tanh"):
        return lambda x: jax.nn.gelu(x, approximate=name == "gelu_tanh")
    return getattr(jax.nn, name)
