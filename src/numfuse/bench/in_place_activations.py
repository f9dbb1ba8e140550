"""The activations of `in_place`."""

import numpy as np

from .places import empty_like
from .textbook import GELU_SCALE, SQRT_2, SQRT_2PI, erf


def activation_forward(x, bias, *, function, alpha, out):
    scratch, positive = empty_like(x, 8), np.empty(x.shape, dtype=bool)

    def step():
        shifted = x if bias is None else np.add(x, bias, out=out)
        if function == "sigmoid":
            return sigmoid(shifted, out)
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
            sigmoid(shifted, scratch)
        elif function == "gelu":
            np.divide(shifted, SQRT_2, out=scratch)
            _half_plus_half(erf(scratch), scratch)
        else:
            _gelu_tanh(shifted, scratch)
        return np.multiply(shifted, scratch, out=out)
    return step


def activation_backward(grad_y, saved, bias, *, function, alpha, grad_bias, out):
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
            sigmoid(x, slope)
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
            _half_plus_half(erf(slope), slope)
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


def softmax_forward(x, *, out):
    def step():
        np.subtract(x, x.max(axis=-1, keepdims=True, initial=-np.inf), out=out)
        np.exp(out, out=out)
        return np.divide(out, out.sum(axis=-1, keepdims=True), out=out)
    return step


def softmax_backward(grad_y, y, *, out):
    def step():
        np.multiply(grad_y, y, out=out)
        np.subtract(grad_y, out.sum(axis=-1, keepdims=True), out=out)
        return np.multiply(y, out, out=out)
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


def sigmoid(x, out):
    np.negative(x, out=out)
    np.exp(out, out=out)
    np.add(out, 1, out=out)
    return np.divide(1, out, out=out)
