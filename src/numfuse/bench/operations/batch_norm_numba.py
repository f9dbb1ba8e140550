"""Batch normalization as Numba's loops, over one of two views of an array.

Rows, arrays (rows, channels), are taken row by row, and planes, arrays (items, channels, elements), channel by channel.
"""

from functools import cache
from types import SimpleNamespace

import numpy as np


def view(name, axis, arrays, sums):
    """The loops for this layout, the arrays as these want them, and scratch for every thread's sums."""
    import numba

    rows, planes = (getattr(_loops(), f"{name}_{kind}") for kind in ("rows", "planes"))
    *outer, last = shape = arrays[0].shape
    if axis % len(shape) == len(outer):
        scratch = np.empty((sums, numba.get_num_threads(), last))
        return rows, *(array.reshape(-1, last) for array in arrays), scratch
    return planes, *(array.reshape(*shape[:2], -1) for array in arrays), ()


@cache
def _loops():
    from numba import prange
    from numba.extending import register_jitable

    @register_jitable
    def update(c, n, mean, square, running_mean, running_var, momentum, eps):
        running_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean
        running_var[c] = (1 - momentum) * running_var[c] + momentum * square / (n - 1)
        return 1 / np.sqrt(square / n + eps)

    def forward_rows(x, weight, bias, running_mean, running_var, y, mean, rstd, momentum, eps, sums):
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
            rstd[c] = update(c, rows, mean[c], sum(sums[:, c]), running_mean, running_var, momentum, eps)
            scale[c] = rstd[c] * weight[c]
        for i in prange(rows):
            for c in range(channels):
                y[i, c] = (x[i, c] - mean[c]) * scale[c] + bias[c]

    def forward_planes(x, weight, bias, running_mean, running_var, y, mean, rstd, momentum, eps):
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
            rstd[c] = update(c, items * elements, mean[c], square, running_mean, running_var, momentum, eps)
            centre, scale, shift = mean[c], rstd[c] * weight[c], bias[c]
            for i in range(items):
                for j in range(elements):
                    y[i, c, j] = (x[i, c, j] - centre) * scale + shift

    def inference_rows(x, weight, bias, mean, var, y, eps):
        rows, channels = x.shape
        scale = np.empty_like(mean)
        for c in range(channels):
            scale[c] = weight[c] / np.sqrt(var[c] + eps)
        for i in prange(rows):
            for c in range(channels):
                y[i, c] = (x[i, c] - mean[c]) * scale[c] + bias[c]

    def inference_planes(x, weight, bias, mean, var, y, eps):
        items, channels, elements = x.shape
        for c in prange(channels):
            centre, scale, shift = mean[c], weight[c] / np.sqrt(var[c] + eps), bias[c]
            for i in range(items):
                for j in range(elements):
                    y[i, c, j] = (x[i, c, j] - centre) * scale + shift

    def backward_rows(g, x, weight, mean, rstd, grad_weight, grad_bias, grad_x, n, sums, sums_xhat):
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

    def backward_planes(g, x, weight, mean, rstd, grad_weight, grad_bias, grad_x, n):
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

    forward_planes.sums = backward_planes.sums = True
    return SimpleNamespace(**locals())
