"""Bias, ReLU and dropout in one pass."""

from functools import partial

import numpy as np

from ..case import PRODUCTS, ROUNDING, Case, flat, shape_of, single_pass, unpacked
from ..rivals import Rival
from .dropout import DRAW, draw_mask, in_place_dropout_forward, textbook_dropout_forward

GROUP = "fused"
TOLERANCE = ROUNDING


def _forward_arguments(size, dtype, rng, *, p):
    x = rng.standard_normal(shape_of(size, flat), dtype=dtype)
    bias = rng.standard_normal(x.shape[1], dtype=dtype)
    return {"x": x, "bias": bias, "relu": True, "p": p, **DRAW, "out": np.empty_like(x)}


def _backward_arguments(size, dtype, rng, *, p):
    grad_y = rng.standard_normal(shape_of(size, flat), dtype=dtype)
    mask = draw_mask(grad_y.size, rng)
    grad_bias = rng.standard_normal(grad_y.shape[1], dtype=dtype)
    return {"grad_y": grad_y, "mask": mask, "p": p, "grad_bias": grad_bias, "out": np.empty_like(grad_y)}


CASES = [
    Case(f"bias_relu_dropout_{name}", f"p={p:g}", partial(arguments, p=p), single_pass, PRODUCTS)
    for name, arguments in (("forward", _forward_arguments), ("backward", _backward_arguments))
    for p in (0.0, 0.2)
]


def textbook_bias_relu_dropout_forward(x, bias, *, relu, p, seed, offset, out=None):
    y, mask = x if bias is None else x + bias, None
    if relu:
        y = np.maximum(y, 0)
        mask = (y > 0).astype(x.dtype)
    if p:
        y, kept = textbook_dropout_forward(y, p=p, seed=seed, offset=offset, inverted=True)
        mask = kept * mask if relu else kept
    return y, mask


def textbook_bias_relu_dropout_backward(grad_y, mask, *, p, grad_bias, out=None):
    grad_x = grad_y if mask is None else grad_y * mask
    if grad_bias is not None:
        grad_bias[...] = grad_x.reshape(-1, grad_bias.size).sum(axis=0)
    return grad_x


def in_place_bias_relu_dropout_forward(x, bias, *, relu, p, seed, offset, out):
    drop = in_place_dropout_forward(out, p=p, seed=seed, offset=offset, inverted=True, out=out) if p else None
    positive = np.empty(x.shape, dtype=bool)

    def step():
        np.add(x, bias, out=out)
        np.maximum(out, 0, out=out)
        if drop:
            drop()
        return out, np.greater(out, 0, out=positive)
    return step


def in_place_bias_relu_dropout_backward(grad_y, mask, *, p, grad_bias, out):
    def step():
        np.multiply(grad_y, mask, out=out)
        np.sum(out, axis=0, out=grad_bias)
        return out
    return step


def torch_bias_relu_dropout_forward(*, x, bias, relu, p, seed, offset, out):
    from torch.nn import functional

    from ..peers import torch as peer

    x, bias = (tensor.requires_grad_() for tensor in peer.shared(x, bias))
    y = [None]

    def run():
        positive = functional.relu(x + bias)
        y[0] = functional.dropout(positive, p) if p else positive

    return {"torch": Rival(run, lambda: {"y": y[0].detach().numpy()})}


def torch_bias_relu_dropout_backward(*, grad_y, mask, p, grad_bias, out):
    import torch

    from ..peers import torch as peer

    # The operators that autograd calls; the mask says both what dropout kept and where ReLU's result was positive.
    positive = unpacked(mask, grad_y.shape).astype(grad_y.dtype)
    grad_y, positive, noise = peer.shared(grad_y, positive, positive / (1 - p))
    grads = [None, None]

    def run():
        grad = grad_y * noise if p else grad_y
        grads[0] = torch.ops.aten.threshold_backward.default(grad, positive, 0)
        grads[1] = grads[0].sum(0)

    return {"torch": Rival(run, lambda: {"grad_x": grads[0].numpy(), "grad_bias": grads[1].numpy()})}
