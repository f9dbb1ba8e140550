"""Batch normalization, ReLU and dropout in one operation."""

from functools import partial

import numpy as np

from ..case import PRODUCTS, ROUNDING, Case, unpacked
from ..places import empty_like
from ..rivals import Rival
from .batch_norm import (
    batch_norm_arguments,
    in_place_batch_norm_backward,
    in_place_batch_norm_forward,
    statistics_passes,
    textbook_batch_norm_backward,
    textbook_batch_norm_forward,
)
from .bias_relu_dropout import textbook_bias_relu_dropout_forward
from .dropout import DRAW, draw_mask, in_place_dropout_forward

GROUP = "fused"
TOLERANCE = ROUNDING
SAME_BITS = False


def _arguments(size, dtype, rng, *, backward, p):
    name = "backward" if backward else "forward"
    arguments = batch_norm_arguments(size, dtype, rng, kernel=f"batch_norm_{name}")
    if not backward:
        return arguments | {"relu": True, "p": p, **DRAW}
    del arguments["training"]
    return arguments | {"mask": draw_mask(arguments["x"].size, rng), "p": p}


CASES = [
    Case(f"batch_norm_relu_dropout_{name}", f"p={p:g}", partial(_arguments, backward=name == "backward", p=p),
         statistics_passes, PRODUCTS)
    for name in ("forward", "backward")
    for p in (0.0, 0.2)
]


def textbook_batch_norm_relu_dropout_forward(x, weight, bias, running_mean, running_var, *,
                                             axis, momentum, eps, relu, p, seed, offset, out=None):
    y, mean, rstd = textbook_batch_norm_forward(
        x, weight, bias, running_mean, running_var, axis=axis, momentum=momentum, eps=eps)
    y, mask = textbook_bias_relu_dropout_forward(y, None, relu=relu, p=p, seed=seed, offset=offset)
    return y, mean, rstd, mask


def textbook_batch_norm_relu_dropout_backward(grad_y, x, weight, mean, rstd, mask, grad_weight, grad_bias, *,
                                              axis, p, out=None):
    passed = grad_y if mask is None else grad_y * mask
    return textbook_batch_norm_backward(passed, x, weight, mean, rstd, grad_weight, grad_bias, axis=axis, training=True)


def in_place_batch_norm_relu_dropout_forward(x, weight, bias, running_mean, running_var, *,
                                             axis, momentum, eps, relu, p, seed, offset, out):
    normalize = in_place_batch_norm_forward(x, weight, bias, running_mean, running_var, axis=axis, momentum=momentum,
                                            eps=eps, out=out)
    drop = in_place_dropout_forward(out, p=p, seed=seed, offset=offset, inverted=True, out=out) if p else None
    positive = np.empty(x.shape, dtype=bool)

    def step():
        normalize()
        np.maximum(out, 0, out=out)
        if drop:
            drop()
        return out, np.greater(out, 0, out=positive)
    return step


def in_place_batch_norm_relu_dropout_backward(grad_y, x, weight, mean, rstd, mask, grad_weight, grad_bias, *,
                                              axis, p, out):
    passed = empty_like(x, 7)
    through = in_place_batch_norm_backward(passed, x, weight, mean, rstd, grad_weight, grad_bias, axis=axis,
                                           training=True, out=out)

    def step():
        np.multiply(grad_y, mask, out=passed)
        return through()
    return step


def torch_batch_norm_relu_dropout_forward(*, x, weight, bias, running_mean, running_var, axis, momentum, eps,
                                          relu, p, seed, offset, out):
    from torch.nn import functional

    from ..peers import torch as peer

    x = peer.channels_second(x, axis).requires_grad_()
    weight, bias, *running = peer.shared(weight, bias, running_mean, running_var)
    weight, bias, y = weight.requires_grad_(), bias.requires_grad_(), [None]

    def run():
        positive = functional.relu(functional.batch_norm(x, *running, weight, bias, True, momentum, eps))
        y[0] = functional.dropout(positive, p) if p else positive

    updated = {"running_mean": running_mean, "running_var": running_var}
    return {"torch": Rival(run, lambda: {"y": y[0].detach().movedim(1, axis).numpy()} | updated)}


def torch_batch_norm_relu_dropout_backward(*, grad_y, x, weight, mean, rstd, mask, grad_weight, grad_bias,
                                           axis, p, out):
    import torch

    from ..peers import torch as peer

    positive = unpacked(mask, grad_y.shape).astype(grad_y.dtype)
    noise = positive / (1 - p)
    grad_y, x, positive, noise = (peer.channels_second(array, axis) for array in (grad_y, x, positive, noise))
    weight, mean, rstd = peer.shared(weight, mean.astype(out.dtype), rstd.astype(out.dtype))
    grads = [None] * 3

    def run():
        grad = grad_y * noise if p else grad_y
        grad = torch.ops.aten.threshold_backward.default(grad, positive, 0)
        grads[:] = torch.ops.aten.native_batch_norm_backward.default(
            grad, x, weight, None, None, mean, rstd, True, 0.0, [True, True, True])

    def results():
        return {"grad_x": grads[0].movedim(1, axis).numpy(), "grad_weight": grads[1].numpy(),
                "grad_bias": grads[2].numpy()}

    return {"torch": Rival(run, results)}
