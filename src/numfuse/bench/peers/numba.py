"""Numba: the formulas as loops, which is what a NumPy user writes instead of C.

Each function takes the arguments of the kernel of its name. It takes for granted that no gradient is
None, that `maximize` is False, that batch norm has running statistics and its backward is in training,
and that SGD's first step, which dampening leaves alone, is behind it.

The loops come last. They run in the arrays' dtype, sums in double; what hangs on an argument of None is
left out when they are compiled. Batch norm takes rows, arrays (rows, channels), row by row, and planes,
arrays (items, channels, elements), channel by channel.
"""

import math
from functools import cache, partial

import numba
import numpy as np
from numba import prange
from numba.extending import register_jitable

from ..rivals import Rival, Unsupported, plain


def configure(threads):
    numba.set_num_threads(threads)


def versions():
    return {"numba": numba.__version__}


def sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
             lr, momentum, dampening, running_average, nesterov, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    if running_average:
        raise Unsupported("momentum is the heavy ball")
    lists = {"params": params, "grads": grads, "momentum_buffers": momentum_buffers}
    hyper = _scalars(params[0], _unless_one(grad_scale), lr, momentum, 1 - dampening, weight_decay or None)
    return _step(lists, [_call(_sgd, *arrays, *hyper, nesterov) for arrays in _tensors(lists)])


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                 lr, alpha, eps, momentum, nesterov, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    if nesterov:
        raise Unsupported("RMSProp has no Nesterov momentum")
    lists = {"params": params, "grads": grads, "square_avgs": square_avgs, "grad_avgs": grad_avgs,
             "momentum_buffers": momentum_buffers}
    hyper = _scalars(params[0], _unless_one(grad_scale), lr, alpha, 1 - alpha, eps, momentum, weight_decay or None, 0)
    return _step(lists, [_call(_rmsprop, *arrays, *hyper) for arrays in _tensors(lists)])


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
              lr, beta1, beta2, eps, decoupled, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    lists = {"params": params, "grads": grads, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs,
             "max_exp_avg_sqs": max_exp_avg_sqs}
    decay = weight_decay if weight_decay and not decoupled else None
    shrink = 1 - lr * weight_decay if weight_decay and decoupled else None
    hyper = _scalars(params[0], _unless_one(grad_scale), beta1, 1 - beta1, beta2, 1 - beta2, eps, decay, shrink)
    corrections = np.empty((len(params), 2), dtype=params[0].dtype)

    def correct():
        steps[...] += 1
        for i, t in enumerate(steps.tolist()):
            corrections[i] = lr / (1 - beta1**t), 1 / (1 - beta2**t) ** 0.5

    calls = [_call(_adam, *arrays, row, *hyper) for arrays, row in zip(_tensors(lists), corrections)]
    return _step(lists, [correct, *calls])


def grad_norm(grads):
    calls, norm = [_call(_square_sum, g.reshape(-1)) for g in grads], [None]

    def run():
        norm[0] = math.sqrt(sum(call() for call in calls))

    return {"numba": Rival(run, lambda: {"norm": norm[0]})}


def batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out):
    loops, x, y, sums = _view(_forward_rows, _forward_planes, axis, [x, out], 1)
    if weight is None:
        weight, bias = np.ones_like(running_mean), np.zeros_like(running_mean)
    mean, rstd = np.empty_like(weight), np.empty_like(weight)
    run = _call(loops, x, weight, bias, running_mean, running_var, y, mean, rstd, momentum, eps, *sums)
    return _rival(run, {"y": out, "running_mean": running_mean, "running_var": running_var})


def batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out):
    loops, x, y, _ = _view(_inference_rows, _inference_planes, axis, [x, out], 0)
    run = _call(loops, x, weight, bias, running_mean, running_var, y, *_scalars(x, eps))
    return _rival(run, {"y": out})


def batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out):
    loops, g, x, grad_x, sums = _view(_backward_rows, _backward_planes, axis, [grad_y, x, out], 2)
    mean, rstd = mean.astype(x.dtype), rstd.astype(x.dtype)
    grads = [grad_weight, grad_bias]
    if weight is None:
        weight, *grads = np.ones((3, len(mean)), dtype=x.dtype)
    n = _scalars(x, x.size // len(mean))
    run = _call(loops, g, x, weight, mean, rstd, *grads, grad_x, *n, *sums)
    return _rival(run, {"grad_x": out, "grad_weight": grad_weight, "grad_bias": grad_bias})


def dropout_forward(x, *, p, seed, offset, inverted, out):
    kept = np.empty(x.size, dtype=bool)
    run = _call(_dropout_forward, x.reshape(-1), kept, out.reshape(-1), *_scalars(x, 1 / (1 - p), 0), p)
    return _rival(run, {"y": out})


def dropout_backward(grad_y, mask, *, p, out):
    kept = np.unpackbits(mask.astype("<u4").view(np.uint8), count=grad_y.size, bitorder="little").astype(bool)
    arrays = grad_y.reshape(-1), kept, out.reshape(-1)
    return _rival(_call(_dropout_backward, *arrays, *_scalars(grad_y, 1 / (1 - p), 0)), {"grad_x": out})


def _call(loops, *arguments):
    """`loops` compiled for these arguments, as a function without any."""
    compiled = _compiled(loops, parallel=numba.get_num_threads() > 1)
    compiled.compile(tuple(map(numba.typeof, arguments)))
    return partial(compiled, *arguments)


@cache
def _compiled(loops, parallel):
    # Python's error model looks for zero at each division, and then nothing is vectorised; nor are sums whose
    # order is kept, which is all that fastmath may change here.
    fastmath = {"reassoc", "nsz", "contract"} if loops in REORDERED else False
    return numba.njit(loops, parallel=parallel, error_model="numpy", fastmath=fastmath)


def _unless_one(factor):
    return None if factor == 1 else factor


def _scalars(array, *values):
    """The values in the dtype of `array`, since with a Python float among them loops would run in double."""
    return [None if value is None else array.dtype.type(value) for value in values]


def _tensors(lists):
    """The lists' arrays, flattened, as one tuple a tensor; None in it for a list that is None."""
    columns = ([None] * len(lists["params"]) if arrays is None else arrays for arrays in lists.values())
    return [[array if array is None else array.reshape(-1) for array in arrays] for arrays in zip(*columns)]


def _view(rows, planes, axis, arrays, sums):
    """The loops for this layout, the arrays as these want them, and scratch for every thread's sums."""
    *outer, last = shape = arrays[0].shape
    if axis % len(shape) == len(outer):
        scratch = np.empty((sums, numba.get_num_threads(), last))
        return rows, *(array.reshape(-1, last) for array in arrays), scratch
    return planes, *(array.reshape(*shape[:2], -1) for array in arrays), ()


def _step(lists, calls):
    results = {name: arrays for name, arrays in lists.items() if name != "grads"}
    return _rival(lambda: [call() for call in calls], results)


def _rival(run, results):
    results = {name: value for name, value in results.items() if value is not None}
    return {"numba": Rival(run, lambda: results)}


def _sgd(p, g, v, scale, lr, momentum, gain, weight_decay, nesterov):
    for i in prange(p.size):
        d = g[i]
        if scale is not None:
            d *= scale
        if weight_decay is not None:
            d += weight_decay * p[i]
        if v is not None:
            v[i] = momentum * v[i] + gain * d
            d = d + momentum * v[i] if nesterov else v[i]
        p[i] -= lr * d


def _rmsprop(p, g, s, a, b, scale, lr, alpha, gain, eps, momentum, weight_decay, zero):
    for i in prange(p.size):
        d = g[i]
        if scale is not None:
            d *= scale
        if weight_decay is not None:
            d += weight_decay * p[i]
        s[i] = alpha * s[i] + gain * d * d
        variance = s[i]
        if a is not None:
            a[i] = alpha * a[i] + gain * d
            variance = max(variance - a[i] * a[i], zero)
        u = d / (np.sqrt(variance) + eps)
        if b is not None:
            b[i] = momentum * b[i] + u
            u = b[i]
        p[i] -= lr * u


def _adam(p, g, m, v, w, corrections, scale, beta1, gain1, beta2, gain2, eps, decay, shrink):
    step_size, root_scale = corrections
    for i in prange(p.size):
        d = g[i]
        if scale is not None:
            d *= scale
        if decay is not None:
            d += decay * p[i]
        m[i] = beta1 * m[i] + gain1 * d
        v[i] = beta2 * v[i] + gain2 * d * d
        square = v[i]
        if w is not None:
            w[i] = square = max(w[i], square)
        if shrink is not None:
            p[i] *= shrink
        p[i] -= step_size * (m[i] / (np.sqrt(square) * root_scale + eps))


def _square_sum(g):
    total = 0.0
    for i in prange(g.size):
        total += np.float64(g[i]) * np.float64(g[i])
    return total


def _forward_rows(x, weight, bias, running_mean, running_var, y, mean, rstd, momentum, eps, sums):
    (rows, channels), blocks = x.shape, len(sums)
    for block in prange(blocks):
        sums[block] = 0
        for i in range(block * rows // blocks, (block + 1) * rows // blocks):
            for c in range(channels):
                sums[block, c] += x[i, c]
    for c in range(channels):
        mean[c] = sum(sums[:, c]) / rows
    for block in prange(blocks):
        sums[block] = 0
        for i in range(block * rows // blocks, (block + 1) * rows // blocks):
            for c in range(channels):
                sums[block, c] += (x[i, c] - mean[c]) ** 2
    scale = np.empty_like(rstd)
    for c in range(channels):
        rstd[c] = _update(c, rows, mean[c], sum(sums[:, c]), running_mean, running_var, momentum, eps)
        scale[c] = rstd[c] * weight[c]
    for i in prange(rows):
        for c in range(channels):
            y[i, c] = (x[i, c] - mean[c]) * scale[c] + bias[c]


def _forward_planes(x, weight, bias, running_mean, running_var, y, mean, rstd, momentum, eps):
    items, channels, elements = x.shape
    for c in prange(channels):
        total = square = 0.0
        for i in range(items):
            for j in range(elements):
                total += x[i, c, j]
        mean[c] = total / (items * elements)
        for i in range(items):
            for j in range(elements):
                square += (x[i, c, j] - mean[c]) ** 2
        rstd[c] = _update(c, items * elements, mean[c], square, running_mean, running_var, momentum, eps)
        centre, scale, shift = mean[c], rstd[c] * weight[c], bias[c]
        for i in range(items):
            for j in range(elements):
                y[i, c, j] = (x[i, c, j] - centre) * scale + shift


@register_jitable
def _update(c, n, mean, square, running_mean, running_var, momentum, eps):
    running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean
    running_var[c] = (1 - momentum) * running_var[c] + momentum * square / (n - 1)
    return 1 / np.sqrt(square / n + eps)


def _inference_rows(x, weight, bias, mean, var, y, eps):
    rows, channels = x.shape
    scale = np.empty_like(mean)
    for c in range(channels):
        scale[c] = weight[c] / np.sqrt(var[c] + eps)
    for i in prange(rows):
        for c in range(channels):
            y[i, c] = (x[i, c] - mean[c]) * scale[c] + bias[c]


def _inference_planes(x, weight, bias, mean, var, y, eps):
    items, channels, elements = x.shape
    for c in prange(channels):
        centre, scale, shift = mean[c], weight[c] / np.sqrt(var[c] + eps), bias[c]
        for i in range(items):
            for j in range(elements):
                y[i, c, j] = (x[i, c, j] - centre) * scale + shift


def _backward_rows(g, x, weight, mean, rstd, grad_weight, grad_bias, grad_x, n, sums, sums_xhat):
    (rows, channels), blocks = x.shape, len(sums)
    for block in prange(blocks):
        sums[block] = sums_xhat[block] = 0
        for i in range(block * rows // blocks, (block + 1) * rows // blocks):
            for c in range(channels):
                sums[block, c] += g[i, c]
                sums_xhat[block, c] += g[i, c] * ((x[i, c] - mean[c]) * rstd[c])
    average, slope, scale = np.empty((3, channels), dtype=x.dtype)
    for c in range(channels):
        grad_bias[c], grad_weight[c] = sum(sums[:, c]), sum(sums_xhat[:, c])
        average[c], slope[c], scale[c] = grad_bias[c] / n, grad_weight[c] / n, rstd[c] * weight[c]
    for i in prange(rows):
        for c in range(channels):
            xhat = (x[i, c] - mean[c]) * rstd[c]
            grad_x[i, c] = (g[i, c] - average[c] - xhat * slope[c]) * scale[c]


def _backward_planes(g, x, weight, mean, rstd, grad_weight, grad_bias, grad_x, n):
    items, channels, elements = x.shape
    for c in prange(channels):
        centre, spread = mean[c], rstd[c]
        sum_g = sum_g_xhat = 0.0
        for i in range(items):
            for j in range(elements):
                sum_g += g[i, c, j]
                sum_g_xhat += g[i, c, j] * ((x[i, c, j] - centre) * spread)
        grad_bias[c], grad_weight[c] = sum_g, sum_g_xhat
        average, slope, scale = grad_bias[c] / n, grad_weight[c] / n, spread * weight[c]
        for i in range(items):
            for j in range(elements):
                xhat = (x[i, c, j] - centre) * spread
                grad_x[i, c, j] = (g[i, c, j] - average - xhat * slope) * scale


def _dropout_forward(x, kept, y, scale, zero, p):
    for i in prange(x.size):
        kept[i] = np.random.random() >= p
        y[i] = x[i] * scale if kept[i] else zero


def _dropout_backward(grad_y, kept, grad_x, scale, zero):
    for i in prange(grad_y.size):
        grad_x[i] = grad_y[i] * scale if kept[i] else zero


REORDERED = _square_sum, _forward_planes, _backward_planes
