"""Dropout of elements."""

from functools import cache, partial

import numpy as np

from ..case import ALL_SIZES, ROUNDING, Case, single_pass, unpacked
from ..rivals import Rival

GROUP = "dropout"
TOLERANCE = ROUNDING
DRAW = {"seed": 0x123456789ABCDEF, "offset": 3}
GENERATOR = np.random.default_rng(0)


def _forward_arguments(size, dtype, rng, *, p):
    x = rng.standard_normal(size, dtype=dtype)
    return {"x": x, "p": p, **DRAW, "inverted": True, "out": np.empty_like(x)}


def _backward_arguments(size, dtype, rng, *, p):
    grad_y = rng.standard_normal(size, dtype=dtype)
    return {"grad_y": grad_y, "mask": draw_mask(grad_y.size, rng), "p": p, "out": np.empty_like(grad_y)}


def draw_mask(count, rng):
    """A bit mask for `count` elements as a kernel's backward takes it."""
    return rng.integers(0, 2**32, -(-count // 32), dtype=np.uint32)


CASES = [
    Case("dropout_forward", "p=0.5", partial(_forward_arguments, p=0.5), single_pass, ALL_SIZES),
    Case("dropout_forward", "p=0.2", partial(_forward_arguments, p=0.2), single_pass, ALL_SIZES),
    Case("dropout_backward", "p=0.5", partial(_backward_arguments, p=0.5), single_pass, ALL_SIZES),
]


def textbook_dropout_forward(x, *, p, seed, offset, inverted, out=None):
    return drop(x, x.shape, p, inverted)


def textbook_dropout_backward(grad_y, mask, *, p, out=None):
    return grad_y * mask


def in_place_dropout_forward(x, *, p, seed, offset, inverted, out):
    rng = np.random.default_rng(seed)
    random, kept = np.empty(x.shape, dtype=np.float32), np.empty(x.shape, dtype=bool)

    def step():
        rng.random(out=random, dtype=np.float32)
        np.less(random, 1 - p, out=kept)
        np.multiply(x, kept, out=out)
        return np.multiply(out, 1 / (1 - p), out=out) if inverted else out, kept
    return step


def in_place_dropout_backward(grad_y, mask, *, p, out):
    return partial(np.multiply, grad_y, mask, out=out)


def torch_dropout_forward(*, x, p, seed, offset, inverted, out):
    import torch
    from torch.nn import functional

    return dropout_in_torch(functional.dropout, torch.from_numpy(x), p, lambda y: y)


def torch_dropout_backward(*, grad_y, mask, p, out):
    import torch

    from ..peers import torch as peer

    # functional.dropout keeps its mask on a CPU as an array of 0 and 1 / (1 - p), and multiplies by it. There
    # is a native_dropout_backward with a mask of bool, several times slower.
    noise = unpacked(mask, grad_y.shape).astype(grad_y.dtype) / (1 - p)
    run = partial(torch.mul, *peer.shared(grad_y, noise), out=torch.from_numpy(out))
    return peer.rival(run, {"grad_x": out})


def jax_dropout_forward(x, *, p, seed, offset, inverted, out):
    import jax

    from ..peers import jax as peer

    def forward(y, mask, key, x):
        key, own = jax.random.split(key)
        return *dropout_in_jax(own, x, p), key

    state = [peer.device(out), peer.device(np.empty(x.shape, dtype=bool)), jax.random.key(0)]
    return peer.rival(forward, state, [peer.device(x)], ["y"])


def jax_dropout_backward(grad_y, mask, *, p, out):
    import jax.numpy as jnp

    from ..peers import jax as peer

    def backward(grad_x, grad_y, mask):
        return [jnp.where(mask, grad_y / (1 - p), 0)]

    fixed = [peer.device(grad_y), peer.device(unpacked(mask, grad_y.shape))]
    return peer.rival(backward, [peer.device(out)], fixed, ["grad_x"])


def numba_dropout_forward(x, *, p, seed, offset, inverted, out):
    from ..peers import numba as peer

    loop, _ = _numba_loops()
    kept = np.empty(x.size, dtype=bool)
    run = peer.call(loop, x.reshape(-1), kept, out.reshape(-1), *peer.scalars(x, 1 / (1 - p), 0), p)
    return peer.rival(run, {"y": out})


def numba_dropout_backward(grad_y, mask, *, p, out):
    from ..peers import numba as peer

    _, loop = _numba_loops()
    arrays = grad_y.reshape(-1), unpacked(mask, grad_y.shape).reshape(-1), out.reshape(-1)
    return peer.rival(peer.call(loop, *arrays, *peer.scalars(grad_y, 1 / (1 - p), 0)), {"grad_x": out})


def drop(x, shape, p, inverted):
    """x with a mask of `shape`, which broadcasts to its own, drawn and applied; and that mask."""
    mask = (GENERATOR.random(shape, dtype=np.float32) < 1 - p) * x.dtype.type(1 / (1 - p) if inverted else 1)
    return x * mask, mask


def dropout_in_torch(function, x, p, as_given):
    """One of PyTorch's functions for dropout of a tensor; `as_given` undoes what was done to its axes."""
    x = x.requires_grad_()  # so that y's graph keeps the mask for backward
    y = [None]

    def run():
        y[0] = function(x, p)

    return {"torch": Rival(run, lambda: {"y": as_given(y[0].detach()).numpy()})}


def dropout_in_jax(key, x, p):
    """(x after dropout, the mask)."""
    import jax
    import jax.numpy as jnp

    mask = jax.random.bernoulli(key, np.float32(1 - p), x.shape)
    return jnp.where(mask, x / (1 - p), 0), mask


@cache
def _numba_loops():
    from numba import prange

    def dropout_forward(x, kept, y, scale, zero, p):
        for i in prange(x.size):
            kept[i] = np.random.random() >= p
            y[i] = x[i] * scale if kept[i] else zero

    def dropout_backward(grad_y, kept, grad_x, scale, zero):
        for i in prange(grad_y.size):
            grad_x[i] = grad_y[i] * scale if kept[i] else zero

    return dropout_forward, dropout_backward
