"""Huber loss."""

from functools import partial

import numpy as np

from ..case import ROUNDING, TWO_SIZES, Case
from ..places import empty_like
from .loss import element_loss_in_torch, loss_in_jax, pair_arguments, pair_passes, share_and_weights, weighted

GROUP = "losses"
TOLERANCE = ROUNDING
SAME_BITS = False
CASES = [
    Case("huber", "", partial(pair_arguments, absent=["sample_weight"], delta=0.5), pair_passes, TWO_SIZES),
    Case("huber", "weights", partial(pair_arguments, weights=["sample_weight"], delta=0.5), pair_passes, TWO_SIZES),
]


def textbook_huber(prediction, target, sample_weight, *, mean, delta, gradient=True, out=None):
    d = prediction - target
    size = np.abs(d)
    terms = np.where(size <= delta, d**2 / 2, delta * (size - delta / 2))
    return weighted(terms, np.clip(d, -delta, delta), sample_weight, mean)


def in_place_huber(prediction, target, sample_weight, *, mean, delta, out):
    scratch, half = empty_like(prediction, 8), empty_like(prediction, 9)

    def step():
        share, w = share_and_weights(prediction, sample_weight, mean)
        np.subtract(prediction, target, out=scratch)
        np.clip(scratch, -delta, delta, out=out)
        np.subtract(scratch, np.multiply(out, 0.5, out=half), out=scratch)
        if w is not None:
            np.multiply(out, w, out=out)
        return float(np.vdot(out, scratch)) * share, np.multiply(out, share, out=out)
    return step


def torch_huber(*, prediction, target, sample_weight, mean, delta, out):
    from torch.nn import functional

    function = partial(functional.huber_loss, delta=delta)
    return element_loss_in_torch(function, prediction, target, sample_weight, mean)


def jax_huber(prediction, target, sample_weight, *, mean, delta, out):
    import optax

    return loss_in_jax(partial(optax.huber_loss, delta=delta), prediction, target, sample_weight, mean, out)
