"""The bias after a matrix product."""

import numpy as np

from ..case import PRODUCTS, ROUNDING, Case, flat, shape_of

GROUP = "fused"
TOLERANCE = ROUNDING


def _forward_arguments(size, dtype, rng):
    x = rng.standard_normal(shape_of(size, flat), dtype=dtype)
    return {"x": x, "bias": rng.standard_normal(x.shape[1], dtype=dtype), "out": np.empty_like(x)}


def _backward_arguments(size, dtype, rng):
    grad_y = rng.standard_normal(shape_of(size, flat), dtype=dtype)
    return {"grad_y": grad_y, "grad_bias": np.zeros(grad_y.shape[1], dtype=dtype)}


CASES = [
    Case("bias_forward", "", _forward_arguments, lambda a: [([a["x"]], [], [a["out"]])], PRODUCTS),
    Case("bias_backward", "", _backward_arguments, lambda a: [([a["grad_y"]], [], [])], PRODUCTS),
]


def textbook_bias_forward(x, bias, *, out=None):
    return x + bias


def textbook_bias_backward(grad_y, grad_bias):
    grad_bias[...] = grad_y.sum(axis=0)


def in_place_bias_forward(x, bias, *, out):
    return lambda: np.add(x, bias, out=out)


def in_place_bias_backward(grad_y, grad_bias):
    def step():
        np.sum(grad_y, axis=0, out=grad_bias)
    return step


def torch_bias_forward(*, x, bias, out):
    import torch

    from ..peers import torch as peer

    x, bias, y = peer.shared(x, bias, out)
    return peer.rival(lambda: torch.add(x, bias, out=y), {"y": out})


def torch_bias_backward(*, grad_y, grad_bias):
    import torch

    from ..peers import torch as peer

    grad_y, sums = peer.shared(grad_y, grad_bias)
    return peer.rival(lambda: torch.sum(grad_y, dim=0, out=sums), {"grad_bias": grad_bias})


def jax_bias_forward(x, bias, *, out):
    from ..peers import jax as peer

    return peer.rival(lambda y, x, bias: [x + bias], [peer.device(out)], [peer.device(x), peer.device(bias)], ["y"])


def jax_bias_backward(grad_y, grad_bias):
    from ..peers import jax as peer

    state, fixed = [peer.device(grad_bias)], [peer.device(grad_y)]
    return peer.rival(lambda sums, grad_y: [grad_y.sum(0)], state, fixed, ["grad_bias"])
