import numpy as np


def activation_forward(x, bias, *, function, out=None):
    """y = f(x + bias), where f is sigmoid, 1 / (1 + exp(-x)), or tanh.

    x : float32 or float64 array, C-contiguous; without a bias any that has no gaps in memory
    bias : (C,) array of x's dtype, C being the length of x's last axis, or None
    function : "sigmoid" or "tanh"
    out : array for y: x itself, or one of x's shape, dtype and strides; None makes a new one
    """
    with np.errstate(all="ignore"):
        shifted = x if bias is None else x + bias
        y = np.empty_like(x) if out is None else out
        y[...] = FUNCTIONS[function](shifted)
    return y


def activation_backward(grad_y, y, *, function, grad_bias, out=None):
    """The gradient through `activation_forward`, from its result::

        grad_x    = grad_y * y (1 - y)     for sigmoid
        grad_x    = grad_y * (1 - y^2)     for tanh
        grad_bias = sum of grad_x over all axes but the last, in float64

    grad_y, y : arrays of one shape, dtype and memory order
    grad_bias : (C,) array of their dtype that is overwritten, or None
    out : array for grad_x: grad_y itself, or one like it; None makes a new one

    Returns grad_x.
    """
    one = y.dtype.type(1)
    grad_x = np.empty_like(grad_y) if out is None else out
    with np.errstate(all="ignore"):
        grad_x[...] = grad_y * (y * (one - y) if function == "sigmoid" else one - y * y)
        if grad_bias is not None:
            grad_bias[...] = grad_x.sum(axis=tuple(range(y.ndim - 1)), dtype=np.float64)
    return grad_x


def sigmoid(x):
    """1 / (1 + exp(-x)), where exp sees no positive number and so cannot overflow."""
    one = x.dtype.type(1)
    with np.errstate(all="ignore"):
        small = np.exp(-np.abs(x))
        return np.where(x < 0, small, one) / (one + small)


FUNCTIONS = {"sigmoid": sigmoid, "tanh": np.tanh}
