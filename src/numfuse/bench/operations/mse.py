"""Mean squared error."""

from functools import partial

import numpy as np

from ..case import ROUNDING, TWO_SIZES, Case
from ..places import empty_like
from .loss import element_loss_in_torch, loss_in_jax, pair_arguments, pair_passes, share_and_weights, weighted

GROUP = "losses"
TOLERANCE = ROUNDING
SAME_BITS = False
CASES = [
    Case("mse", "", partial(pair_arguments, absent=["sample_weight"]), pair_passes, TWO_SIZES),
    Case("mse", "weights", partial(pair_arguments, weights=["sample_weight"]), pair_passes, TWO_SIZES),
]


def textbook_mse(prediction, target, sample_weight, *, mean, gradient=True, out=None):
    difference = prediction - target
    return weighted(difference**2, 2 * difference, sample_weight, mean)


def in_place_mse(prediction, target, sample_weight, *, mean, out):
    scratch = empty_like(prediction, 8)

    def step():
        share, w = share_and_weights(prediction, sample_weight, mean)
        np.subtract(prediction, target, out=out)
        slopes = out if w is None else np.multiply(out, w, out=scratch)
        value = float(np.vdot(out, slopes)) * share
        return value, np.multiply(slopes, 2 * share, out=out)
    return step


def torch_mse(*, prediction, target, sample_weight, mean, out):
    from torch.nn import functional

    return element_loss_in_torch(functional.mse_loss, prediction, target, sample_weight, mean)


def jax_mse(prediction, target, sample_weight, *, mean, out):
    import optax

    return loss_in_jax(optax.squared_error, prediction, target, sample_weight, mean, out)
