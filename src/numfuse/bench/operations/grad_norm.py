"""The norm of all gradients together."""

import math
from functools import cache

import numpy as np

from ..case import ALL_SIZES, ROUNDING, Case
from ..rivals import Rival

GROUP = "optimizers"
TOLERANCE = ROUNDING


def _arguments(size, dtype, rng):
    return {"grads": [rng.standard_normal(size, dtype=dtype)]}


def _passes(arguments):
    return [(arguments["grads"], [], [])]


CASES = [Case("grad_norm", "", _arguments, _passes, ALL_SIZES)]


def textbook_grad_norm(grads):
    return math.sqrt(sum(float(np.sum(g**2)) for g in grads))


def in_place_grad_norm(grads):
    flat = [g.reshape(-1) for g in grads]
    return lambda: math.sqrt(sum(float(np.dot(g, g)) for g in flat))


def torch_grad_norm(*, grads):
    import torch

    from ..peers import torch as peer

    grads, norm = peer.shared(*grads), [None]

    def run():
        norm[0] = torch.nn.utils.get_total_norm(grads)

    return {"torch": Rival(run, lambda: {"norm": float(norm[0])})}


def jax_grad_norm(grads):
    import optax

    from ..peers import jax as peer

    def norm(last, grads):
        return [optax.tree.norm(grads)]

    state = [peer.device(grads[0].dtype.type(0))]
    return peer.rival(norm, state, [peer.device(grads)], lambda norm: {"norm": float(norm)})


def numba_grad_norm(grads):
    from ..peers import numba as peer

    calls, norm = [peer.call(_numba_loop(), g.reshape(-1)) for g in grads], [None]

    def run():
        norm[0] = math.sqrt(sum(call() for call in calls))

    return {"numba": Rival(run, lambda: {"norm": norm[0]})}


@cache
def _numba_loop():
    from numba import prange

    def square_sum(g):
        total = 0.0
        for i in prange(g.size):
            total += np.float64(g[i]) * np.float64(g[i])
        return total

    square_sum.sums = True
    return square_sum
