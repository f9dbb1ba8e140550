"""Dropout of whole channels of a sample."""

import math
from functools import partial

import numpy as np

from ..case import IMAGES, ROUNDING, Case, channels_first, channels_last, shape_of, single_pass, to_last
from .dropout import DRAW, draw_mask, drop, dropout_in_torch

GROUP = "dropout"
TOLERANCE = ROUNDING


def _arguments(size, dtype, rng, *, backward, shape, axis):
    x = rng.standard_normal(shape_of(size, shape), dtype=dtype)
    arguments = {"p": 0.2, "axis": axis, "out": np.empty_like(x)}
    if not backward:
        return {"x": x, **DRAW, "inverted": True} | arguments
    return {"grad_y": x, "mask": draw_mask(math.prod(_units(x, axis)), rng)} | arguments


def _units(x, axis):
    """The shape in which one value per sample and channel broadcasts."""
    between = [1] * (x.ndim - 2)
    return (len(x), x.shape[1], *between) if axis == 1 else (len(x), *between, x.shape[-1])


def _mask_shape(arguments):
    return _units(arguments["grad_y" if "grad_y" in arguments else "x"], arguments["axis"])


CASES = [
    Case(f"channel_dropout_{name}", options,
         partial(_arguments, backward=name == "backward", shape=shape, axis=axis), single_pass, sizes, _mask_shape)
    for name in ("forward", "backward")
    for options, shape, axis, sizes in (("NCHW", channels_first, 1, IMAGES[1:3]),
                                        ("NHWC", channels_last, -1, tuple(map(to_last, IMAGES[1:3]))))
]


def textbook_channel_dropout_forward(x, *, p, seed, offset, inverted, axis, out=None):
    return drop(x, _units(x, axis), p, inverted)


def textbook_channel_dropout_backward(grad_y, mask, *, p, axis, out=None):
    return grad_y * mask


def in_place_channel_dropout_forward(x, *, p, seed, offset, inverted, axis, out):
    rng, shape = np.random.default_rng(seed), _units(x, axis)
    scale = x.dtype.type(1 / (1 - p) if inverted else 1)

    def step():
        mask = (rng.random(shape, dtype=np.float32) < 1 - p) * scale
        return np.multiply(x, mask, out=out), mask
    return step


def in_place_channel_dropout_backward(grad_y, mask, *, p, axis, out):
    return partial(np.multiply, grad_y, mask, out=out)


def torch_channel_dropout_forward(*, x, p, seed, offset, inverted, axis, out):
    from torch.nn import functional

    from ..peers import torch as peer

    return dropout_in_torch(functional.dropout2d, peer.channels_second(x, axis), p, lambda y: y.movedim(1, axis))
