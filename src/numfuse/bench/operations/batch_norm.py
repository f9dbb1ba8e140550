"""Batch normalization: training, inference and backward."""

from functools import partial

import numpy as np

from ... import reference
from ..case import IMAGES, ROUNDING, ROWS, Case, channels_first, channels_last, flat, shape_of, single_pass, to_last
from ..machine import l2_bytes
from ..places import empty_like
from ..rivals import Rival
from .batch_norm_numba import view

GROUP = "batch norm"
TOLERANCE = ROUNDING
SAME_BITS = False
CACHE_LINE = 64  # bytes


def _case(kernel, options, shape, sizes, axis=1, affine=True):
    arguments = partial(batch_norm_arguments, kernel=kernel, shape=shape, axis=axis, affine=affine)
    passes = single_pass if kernel == "batch_norm_inference" else statistics_passes
    return Case(kernel, options, arguments, passes, sizes)


def statistics_passes(arguments):
    """One pass for the statistics and one for the result.

    The first is left out where all that belongs to a channel fits in the L2 cache, and can be read
    twice at the price of once. Channels that lie side by side are read by the cache line.
    """
    x, axis = arguments["x"], arguments["axis"]
    ((reads, _, writes),) = last = single_pass(arguments)
    side_by_side = CACHE_LINE // x.itemsize if x.strides[axis] == x.itemsize else 1
    per_channel = (len(reads) + len(writes)) * x.nbytes // max(x.shape[axis], 1) * side_by_side
    return last if per_channel <= (l2_bytes() or 0) else [(reads, [], []), *last]


def batch_norm_arguments(size, dtype, rng, *, kernel, shape=flat, axis=1, affine=True):
    """The arguments of a kernel of batch normalization; without `affine`, weight and bias are None."""
    x = rng.standard_normal(shape_of(size, shape), dtype=dtype)
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


_images = tuple(map(to_last, IMAGES))
CASES = [
    _case("batch_norm_forward", "", flat, ROWS),
    _case("batch_norm_forward", "no affine", flat, ROWS[1:2], affine=False),
    _case("batch_norm_forward", "NCHW", channels_first, IMAGES),
    _case("batch_norm_forward", "NHWC", channels_last, _images, axis=-1),
    _case("batch_norm_inference", "", flat, ROWS[1:2]),
    _case("batch_norm_inference", "NCHW", channels_first, IMAGES[1:2]),
    _case("batch_norm_inference", "NHWC", channels_last, _images[1:2], axis=-1),
    _case("batch_norm_backward", "", flat, ROWS),
    _case("batch_norm_backward", "no affine", flat, ROWS[1:2], affine=False),
    _case("batch_norm_backward", "NCHW", channels_first, IMAGES),
    _case("batch_norm_backward", "NHWC", channels_last, _images, axis=-1),
]


def textbook_batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out=None):
    axes, shape = layout(x, axis)
    n = x.size / x.shape[axis]
    mean = x.mean(axis=axes, keepdims=True)
    var = x.var(axis=axes, keepdims=True)
    running_mean[...] = (1 - momentum) * running_mean + momentum * mean.ravel()
    running_var[...] = (1 - momentum) * running_var + momentum * var.ravel() * n / (n - 1)
    std = np.sqrt(var + eps)
    xhat = (x - mean) / std
    y = xhat if weight is None else weight.reshape(shape) * xhat + bias.reshape(shape)
    return y, mean.ravel(), 1 / std.ravel()


def textbook_batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out=None):
    _, shape = layout(x, axis)
    weight, bias, mean, var = (a.reshape(shape) for a in (weight, bias, running_mean, running_var))
    return weight * ((x - mean) / np.sqrt(var + eps)) + bias


def textbook_batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out=None):
    axes, shape = layout(x, axis)
    mean, rstd = (a.astype(x.dtype).reshape(shape) for a in (mean, rstd))
    xhat = (x - mean) * rstd
    grad_xhat = grad_y
    if weight is not None:
        grad_weight[...] = (grad_y * xhat).sum(axis=axes)
        grad_bias[...] = grad_y.sum(axis=axes)
        grad_xhat = grad_y * weight.reshape(shape)
    average = grad_xhat.mean(axis=axes, keepdims=True)
    slope = (grad_xhat * xhat).mean(axis=axes, keepdims=True)
    return rstd * (grad_xhat - average - xhat * slope)


def in_place_batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out):
    axes, shape, n = *layout(x, axis), x.size / x.shape[axis]
    scratch = empty_like(x, 8)
    if weight is not None:
        weight, bias = weight.reshape(shape), bias.reshape(shape)

    def step():
        mean = x.mean(axis=axes, keepdims=True)
        np.subtract(x, mean, out=out)
        var = np.multiply(out, out, out=scratch).mean(axis=axes, keepdims=True)
        running_mean[...] = (1 - momentum) * running_mean + momentum * mean.ravel()
        running_var[...] = (1 - momentum) * running_var + momentum * var.ravel() * n / (n - 1)
        rstd = 1 / np.sqrt(var + eps)
        np.multiply(out, rstd if weight is None else rstd * weight, out=out)
        return out if bias is None else np.add(out, bias, out=out)
    return step


def in_place_batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out):
    _, shape = layout(x, axis)

    def step():
        scale = weight / np.sqrt(running_var + eps)
        np.multiply(x, scale.reshape(shape), out=out)
        return np.add(out, (bias - running_mean * scale).reshape(shape), out=out)
    return step


def in_place_batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out):
    axes, shape, n = *layout(x, axis), x.size / x.shape[axis]
    mean, rstd = (a.astype(x.dtype).reshape(shape) for a in (mean, rstd))
    scale = rstd if weight is None else rstd * weight.reshape(shape)
    xhat = empty_like(x, 8)

    def step():
        np.subtract(x, mean, out=xhat)
        np.multiply(xhat, rstd, out=xhat)
        sum_g = grad_y.sum(axis=axes, keepdims=True)
        sum_g_xhat = np.multiply(grad_y, xhat, out=out).sum(axis=axes, keepdims=True)
        if weight is not None:
            grad_weight[...] = sum_g_xhat.ravel()
            grad_bias[...] = sum_g.ravel()
        np.multiply(xhat, sum_g_xhat / n, out=out)
        np.subtract(grad_y, out, out=out)
        np.subtract(out, sum_g / n, out=out)
        return np.multiply(out, scale, out=out)
    return step


def torch_batch_norm_forward(*, x, weight, bias, running_mean, running_var, axis, momentum, eps, out):
    import torch

    from ..peers import torch as peer

    y = peer.channels_second(out, axis)
    # The operator beneath functional.batch_norm; of the two, only this one writes into given memory.
    run = partial(
        torch.native_batch_norm, peer.channels_second(x, axis), *peer.shared(weight, bias, running_mean, running_var),
        True, momentum, eps, out=(y, *torch.empty((2, x.shape[axis]), dtype=y.dtype)))
    return peer.rival(run, {"y": out, "running_mean": running_mean, "running_var": running_var})


def torch_batch_norm_inference(*, x, weight, bias, running_mean, running_var, axis, eps, out):
    import torch

    from ..peers import torch as peer

    y = peer.channels_second(out, axis)
    run = partial(
        torch.native_batch_norm, peer.channels_second(x, axis), *peer.shared(weight, bias, running_mean, running_var),
        False, 0.0, eps, out=(y, *torch.empty((2, 0), dtype=y.dtype)))
    return peer.rival(run, {"y": out})


def torch_batch_norm_backward(*, grad_y, x, weight, mean, rstd, grad_weight, grad_bias, axis, training, out):
    import torch

    from ..peers import torch as peer

    # Its form with `out` only copies into it what this one returns.
    backward = partial(
        torch.ops.aten.native_batch_norm_backward.default,
        peer.channels_second(grad_y, axis), peer.channels_second(x, axis), *peer.shared(weight), None, None,
        *peer.shared(mean.astype(x.dtype), rstd.astype(x.dtype)), training, 0.0,
        [True, weight is not None, weight is not None])
    grads = [None] * 3

    def run():
        grads[:] = backward()

    def results():
        found = {"grad_x": grads[0].movedim(1, axis), "grad_weight": grads[1], "grad_bias": grads[2]}
        return {name: grad.numpy() for name, grad in found.items() if grad is not None}

    return {"torch": Rival(run, results)}


def jax_batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out):
    from ..peers import jax as peer

    axes, shape = layout(x, axis)

    def forward(y, running_mean, running_var, mean, rstd, x, weight, bias):
        return batch_norm_in_jax(x, weight, bias, running_mean, running_var, axes, shape, momentum, eps)

    statistics = [peer.device(array) for array in (running_mean, running_var, running_mean, running_var)]
    fixed = [peer.device(array) for array in (x, weight, bias)]
    return peer.rival(forward, [peer.device(out), *statistics], fixed, ("y", "running_mean", "running_var"))


def jax_batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out):
    import jax

    from ..peers import jax as peer

    _, shape = layout(x, axis)

    def inference(y, x, weight, bias, mean, var):
        return [normalize_in_jax(x, weight, bias, mean, jax.lax.rsqrt(var + eps), shape)]

    fixed = [peer.device(array) for array in (x, weight, bias, running_mean, running_var)]
    return peer.rival(inference, [peer.device(out)], fixed, ["y"])


def jax_batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out):
    from ..peers import jax as peer

    axes, shape = layout(x, axis)
    n = x.size // x.shape[axis]

    def backward(grad_x, grad_weight, grad_bias, grad_y, x, weight, mean, rstd):
        xhat = (x - mean.reshape(shape)) * rstd.reshape(shape)
        sum_g, sum_g_xhat = grad_y.sum(axes), (grad_y * xhat).sum(axes)
        scale = rstd if weight is None else rstd * weight
        grad_x = grad_y - (sum_g / n).reshape(shape) - xhat * (sum_g_xhat / n).reshape(shape)
        affine = (None, None) if weight is None else (sum_g_xhat, sum_g)
        return grad_x * scale.reshape(shape), *affine

    state = [peer.device(array) for array in (out, grad_weight, grad_bias)]
    fixed = [peer.device(array) for array in (grad_y, x, weight, mean.astype(x.dtype), rstd.astype(x.dtype))]
    return peer.rival(backward, state, fixed, ("grad_x", "grad_weight", "grad_bias"))


def numba_batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out):
    from ..peers import numba as peer

    loops, x, y, sums = view("forward", axis, [x, out], 1)
    if weight is None:
        weight, bias = np.ones_like(running_mean), np.zeros_like(running_mean)
    mean, rstd = np.empty_like(weight), np.empty_like(weight)
    run = peer.call(loops, x, weight, bias, running_mean, running_var, y, mean, rstd, momentum, eps, *sums)
    return peer.rival(run, {"y": out, "running_mean": running_mean, "running_var": running_var})


def numba_batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out):
    from ..peers import numba as peer

    loops, x, y, _ = view("inference", axis, [x, out], 0)
    run = peer.call(loops, x, weight, bias, running_mean, running_var, y, *peer.scalars(x, eps))
    return peer.rival(run, {"y": out})


def numba_batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out):
    from ..peers import numba as peer

    loops, g, x, grad_x, sums = view("backward", axis, [grad_y, x, out], 2)
    mean, rstd = mean.astype(x.dtype), rstd.astype(x.dtype)
    grads = [grad_weight, grad_bias]
    if weight is None:
        weight, *grads = np.ones((3, len(mean)), dtype=x.dtype)
    n = peer.scalars(x, x.size // len(mean))
    run = peer.call(loops, g, x, weight, mean, rstd, *grads, grad_x, *n, *sums)
    return peer.rival(run, {"grad_x": out, "grad_weight": grad_weight, "grad_bias": grad_bias})


def layout(x, axis):
    """All axes of x but the channels', and the shape in which one value per channel broadcasts."""
    axis %= x.ndim
    axes = tuple(i for i in range(x.ndim) if i != axis)
    return axes, [x.shape[i] if i == axis else 1 for i in range(x.ndim)]


def batch_norm_in_jax(x, weight, bias, running_mean, running_var, axes, shape, momentum, eps):
    """(y, running_mean, running_var, mean, rstd) in training, over `axes`; vectors broadcast in `shape`."""
    import jax
    import jax.numpy as jnp

    mean, var = jnp.mean(x, axes), jnp.var(x, axes)
    rstd = jax.lax.rsqrt(var + eps)
    n = x.size // mean.size
    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var = (1 - momentum) * running_var + momentum * var * (n / (n - 1))
    return normalize_in_jax(x, weight, bias, mean, rstd, shape), running_mean, running_var, mean, rstd


def normalize_in_jax(x, weight, bias, mean, rstd, shape):
    """x with given statistics, scaled and shifted; weight and bias may be None."""
    scale = rstd if weight is None else rstd * weight
    y = (x - mean.reshape(shape)) * scale.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)
