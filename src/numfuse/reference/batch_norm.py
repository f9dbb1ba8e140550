"""Batch normalisation (Ioffe and Szegedy 2015), one channel at a time along `axis`.

With n values of x in a channel, and w, b the channel's weight and bias (1 and 0 where None)::

    mean = sum(x) / n
    var  = sum((x - mean)^2) / n
    rstd = 1 / sqrt(var + eps)
    y    = (x - mean) * (rstd * w) + b

mean and rstd are float64 whatever x is, and x - mean is taken as (x - high) - low with the mean
split into two numbers of x's dtype: a float32 mean of data far from 0 would cost most of the digits.
"""

import numpy as np

from .rounding import flush


def batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out=None):
    """Normalise by the statistics of the batch, and update the running statistics in place::

        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var  = (1 - momentum) * running_var  + momentum * var * n / (n - 1)

    x : float32 or float64 array of 2 to 5 dimensions, C channels along `axis`
    weight, bias : (C,) arrays of x's dtype, or None
    running_mean, running_var : (C,) arrays of x's dtype, or None
    axis : 1 or -1, where the channels are
    momentum : weight of this batch in the running statistics
    out : array for y: x itself, or one of x's shape and dtype; None makes a new one

    Returns (y, mean, rstd); mean and rstd are float64 arrays (C,). An empty batch changes no
    running statistics. One value per channel has no variance and is refused.
    """
    axes, shape, n = _layout(x, axis)
    if n == 1:
        raise ValueError(f"x must have more than 1 value per channel in training, had shape {x.shape}")
    mean = x.sum(axis=axes, dtype=np.float64) / max(n, 1)
    centred = _centre(x, mean, shape)
    var = (centred * centred).sum(axis=axes, dtype=np.float64) / max(n, 1)
    rstd = 1 / np.sqrt(var + eps)
    if running_mean is not None and n:
        for running, batch in ((running_mean, mean), (running_var, var * n / (n - 1))):
            running[...] = flush(((1 - momentum) * running.astype(np.float64) + momentum * batch).astype(x.dtype))
    return _affine(centred, rstd, weight, bias, shape, out), mean, rstd


def batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out=None):
    """Normalise by the running statistics; arguments as in `batch_norm_forward`. Returns y."""
    _, shape, _ = _layout(x, axis)
    centred = x - running_mean.reshape(shape)
    rstd = 1 / np.sqrt(running_var.astype(np.float64) + eps)
    return _affine(centred, rstd, weight, bias, shape, out)


def batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out=None):
    """The gradient through `batch_norm_forward`, through the batch's mean and variance too.

    With g = grad_y, xhat = (x - mean) * rstd, and averages over the channel::

        grad_bias   = sum(g)
        grad_weight = sum(g * xhat)
        grad_x      = rstd * w * (g - average(g) - xhat * average(g * xhat))    if training
        grad_x      = rstd * w * g                                              otherwise

    grad_y, x : arrays of one shape and dtype
    mean, rstd : as `batch_norm_forward` returned them; the running ones, in float64, if not training
    grad_weight, grad_bias : (C,) arrays of x's dtype that are overwritten, or None
    training : whether mean and rstd depend on x
    out : array for grad_x: grad_y itself, or one of x's shape and dtype; None makes a new one

    Returns grad_x.
    """
    axes, shape, n = _layout(x, axis)
    centred = _centre(x, mean, shape)
    sum_g = grad_y.sum(axis=axes, dtype=np.float64)
    sum_g_centred = (grad_y.astype(np.float64) * centred).sum(axis=axes)
    if grad_weight is not None:
        grad_weight[...] = sum_g_centred * rstd
    if grad_bias is not None:
        grad_bias[...] = sum_g
    scale = (rstd if weight is None else rstd * weight).astype(x.dtype).reshape(shape)
    grad_x = np.empty_like(x) if out is None else out
    if training:
        average_g = (sum_g / max(n, 1)).astype(x.dtype).reshape(shape)
        slope = (rstd * rstd * (sum_g_centred / max(n, 1))).astype(x.dtype).reshape(shape)
        grad_x[...] = ((grad_y - average_g) - centred * slope) * scale
    else:
        grad_x[...] = grad_y * scale
    return grad_x


def _layout(x, axis):
    """The axes to sum over, the shape that broadcasts a (C,) array along x, values per channel."""
    axis %= x.ndim
    axes = tuple(i for i in range(x.ndim) if i != axis)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    return axes, shape, x.size // max(x.shape[axis], 1)


def _centre(x, mean, shape):
    high = mean.astype(x.dtype)
    low = (mean - high).astype(x.dtype)
    return (x - high.reshape(shape)) - low.reshape(shape)


def _affine(centred, rstd, weight, bias, shape, out):
    scale = (rstd if weight is None else rstd * weight).astype(centred.dtype).reshape(shape)
    y = np.empty_like(centred) if out is None else out
    if bias is None:
        y[...] = centred * scale
    else:
        y[...] = centred * scale + bias.reshape(shape)
    return y
