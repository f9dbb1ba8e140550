"""Softmax over the last axis."""

import numpy as np

from ... import reference
from ..case import LOGITS, ROUNDING, Case, shape_of, single_pass, ten_classes

GROUP = "activations"
TOLERANCE = ROUNDING
SAME_BITS = False


def _forward_arguments(size, dtype, rng):
    x = rng.standard_normal(shape_of(size, ten_classes), dtype=dtype)
    return {"x": x, "out": np.empty_like(x)}


def _backward_arguments(size, dtype, rng):
    x, y = (_forward_arguments(size, dtype, rng)["x"] for _ in range(2))
    return {"grad_y": x, "y": reference.softmax_forward(y), "out": np.empty_like(x)}


CASES = [
    Case("softmax_forward", "", _forward_arguments, single_pass, LOGITS),
    Case("softmax_backward", "", _backward_arguments, single_pass, LOGITS),
]


def textbook_softmax_forward(x, *, out=None):
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def textbook_softmax_backward(grad_y, y, *, out=None):
    return y * (grad_y - (grad_y * y).sum(axis=-1, keepdims=True))


def in_place_softmax_forward(x, *, out):
    def step():
        np.subtract(x, x.max(axis=-1, keepdims=True, initial=-np.inf), out=out)
        np.exp(out, out=out)
        return np.divide(out, out.sum(axis=-1, keepdims=True), out=out)
    return step


def in_place_softmax_backward(grad_y, y, *, out):
    def step():
        np.multiply(grad_y, y, out=out)
        np.subtract(grad_y, out.sum(axis=-1, keepdims=True), out=out)
        return np.multiply(y, out, out=out)
    return step


def torch_softmax_forward(*, x, out):
    import torch

    from ..peers import torch as peer

    x, y = peer.shared(x, out)
    return peer.rival(lambda: torch.softmax(x, -1, out=y), {"y": out})


def torch_softmax_backward(*, grad_y, y, out):
    import torch

    from ..peers import torch as peer

    grad_y, y, grad_x = peer.shared(grad_y, y, out)
    backward = torch.ops.aten._softmax_backward_data.out
    return peer.rival(lambda: backward(grad_y, y, -1, y.dtype, grad_input=grad_x), {"grad_x": out})


def jax_softmax_forward(x, *, out):
    import jax

    from ..peers import jax as peer

    return peer.rival(lambda y, x: [jax.nn.softmax(x)], [peer.device(out)], [peer.device(x)], ["y"])


def jax_softmax_backward(grad_y, y, *, out):
    from ..peers import jax as peer

    def backward(grad_x, grad_y, y):
        return [y * (grad_y - (grad_y * y).sum(-1, keepdims=True))]

    return peer.rival(backward, [peer.device(out)], [peer.device(grad_y), peer.device(y)], ["grad_x"])
