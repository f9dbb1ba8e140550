import numpy as np


def softmax_forward(x, *, out=None):
    """The exponentials' shares along the last axis, with m the largest x of a row::

        y[c] = exp(x[c] - m) / sum_k exp(x[k] - m)

    x : float32 or float64 array of shape (..., C), C-contiguous
    out : array for y: x itself, or one of x's shape, dtype and strides; None makes a new one

    The sum is taken in float64. A row that holds NaN or infinity, or -infinity only, becomes NaN.
    """
    y = np.empty_like(x) if out is None else out
    with np.errstate(all="ignore"):
        exp = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
        total = exp.sum(axis=-1, keepdims=True, dtype=np.float64).astype(x.dtype)
        return np.multiply(exp, x.dtype.type(1) / total, out=y)


def softmax_backward(grad_y, y, *, out=None):
    """The gradient through `softmax_forward`, from its result::

        grad_x[c] = y[c] (grad_y[c] - sum_k grad_y[k] y[k])

    grad_y, y : arrays of one shape (..., C) and dtype, C-contiguous
    out : array for grad_x: grad_y itself, or one like it; None makes a new one

    The sum is taken in float64. Returns grad_x.
    """
    grad_x = np.empty_like(grad_y) if out is None else out
    with np.errstate(all="ignore"):
        total = np.multiply(grad_y, y, dtype=np.float64).sum(axis=-1, keepdims=True).astype(y.dtype)
        return np.multiply(y, grad_y - total, out=grad_x)
