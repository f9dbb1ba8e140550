import numpy as np

from .bias import bias_backward
from .dropout import apply_mask, check_p, random_mask


def bias_relu_dropout_forward(x, bias, *, relu, p, seed, offset, out=None):
    """What follows a matrix product: y = dropout(max(x + bias, 0)), each of the three optional.

    ::

        s[i] = x[i] + bias[i mod C]
        r[i] = 0 where s[i] <= 0, else s[i]       so that -0 becomes 0 and NaN stays NaN
        y, mask = dropout_forward(r, p, seed, offset)

    x : float32 or float64 array: C-contiguous of shape (..., C) with a bias, without gaps in memory else
    bias : (C,), or None for none
    relu : whether to take the maximum with 0
    p, seed, offset : as for `dropout_forward`; p = 0 draws nothing
    out : array for y: x itself, or one of x's shape, dtype and strides; None makes a new one

    Returns (y, mask). mask has the bits of `dropout_forward`'s, but 0 where r[i] <= 0 with `relu`: 1 where
    the gradient passes. It is None if neither `relu` nor p > 0.
    """
    check_p(p)
    with np.errstate(all="ignore"):
        s = x if bias is None else x + bias
    y = np.empty_like(x) if out is None else out
    if not relu and p == 0:
        y[...] = s
        return y, None
    mask = random_mask(x.size, 1.0 - p, seed, offset)
    if relu:
        passes = np.packbits(~(s.ravel(order="K") <= 0), bitorder="little")
        passes.resize(mask.nbytes)
        mask &= passes.view("<u4")
    return apply_mask(s, mask, p, y), mask


def bias_relu_dropout_backward(grad_y, mask, *, p, grad_bias, out=None):
    """The gradient through `bias_relu_dropout_forward`: grad_y / (1 - p) where the mask's bit is 1, else 0.

    grad_y : float32 or float64 array, in the memory order of x; C-contiguous of shape (..., C) with a grad_bias
    mask : what the forward returned; where it is None, p must be 0, and the gradient is grad_y itself
    grad_bias : (C,), set to the gradient's sum over all axes but the last, as `bias_backward` does; or None
    out : array for the result: grad_y itself, or one like it; None makes a new one. None without a mask.
    """
    check_p(p)
    if mask is None and (p > 0 or out is not None):
        raise ValueError("mask must be an array where p > 0 or out is given, was None")
    grad_x = grad_y if mask is None else apply_mask(grad_y, mask, p, out)
    if grad_bias is not None:
        bias_backward(grad_x, grad_bias)
    return grad_x
