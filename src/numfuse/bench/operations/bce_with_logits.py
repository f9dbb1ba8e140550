"""Binary cross-entropy of logits."""

from functools import partial

import numpy as np

from ..case import ROUNDING, TWO_SIZES, Case
from ..places import empty_like
from ..rivals import Unsupported
from .activation import sigmoid_in_place
from .loss import element_loss_in_torch, loss_in_jax, pair_arguments, pair_passes, share_and_weights, weighted

GROUP = "losses"
TOLERANCE = ROUNDING
SAME_BITS = False


def _passes(arguments):
    """The targets must be looked at before anything is written."""
    return [([arguments["target"]], [], []), *pair_passes(arguments)]


_weights = ["pos_weight", "sample_weight"]
CASES = [
    Case("bce_with_logits", "", partial(pair_arguments, absent=_weights), _passes, TWO_SIZES),
    Case("bce_with_logits", "weights", partial(pair_arguments, weights=_weights), _passes, TWO_SIZES),
]


def textbook_bce_with_logits(prediction, target, pos_weight, sample_weight, *, mean, gradient=True, out=None):
    x = prediction
    if pos_weight is None:
        terms = np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))
        return weighted(terms, 1 / (1 + np.exp(-x)) - target, sample_weight, mean)
    mixed = 1 + (pos_weight - 1) * target
    terms = (1 - target) * x + mixed * (np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0))
    return weighted(terms, mixed / (1 + np.exp(-x)) - pos_weight * target, sample_weight, mean)


def in_place_bce_with_logits(prediction, target, pos_weight, sample_weight, *, mean, out):
    scratch, linear, mixed = (empty_like(prediction, place) for place in (8, 9, 7))

    def step():
        share, w = share_and_weights(prediction, sample_weight, mean)
        np.abs(prediction, out=scratch)
        np.negative(scratch, out=scratch)
        np.exp(scratch, out=scratch)
        np.log1p(scratch, out=scratch)
        positive = target
        if pos_weight is None:
            np.multiply(prediction, target, out=linear)
            np.maximum(prediction, 0, out=out)
            np.subtract(out, linear, out=out)
        else:
            np.maximum(np.negative(prediction, out=linear), 0, out=linear)
            np.add(scratch, linear, out=scratch)
            np.multiply(target, pos_weight - 1, out=mixed)
            np.add(mixed, 1, out=mixed)
            np.multiply(scratch, mixed, out=scratch)
            np.multiply(prediction, np.subtract(1, target, out=linear), out=out)
            positive = np.multiply(target, pos_weight, out=linear)
        np.add(out, scratch, out=out)
        value = float((out if w is None else np.multiply(out, w, out=out)).sum()) * share
        sigmoid_in_place(prediction, out)
        if pos_weight is not None:
            np.multiply(out, mixed, out=out)
        np.subtract(out, positive, out=out)
        if w is not None:
            np.multiply(out, w, out=out)
        return value, np.multiply(out, share, out=out)
    return step


def torch_bce_with_logits(*, prediction, target, pos_weight, sample_weight, mean, out):
    from torch.nn import functional

    from ..peers import torch as peer

    (pos_weight,) = peer.shared(pos_weight)
    function = partial(functional.binary_cross_entropy_with_logits, pos_weight=pos_weight)
    return element_loss_in_torch(function, prediction, target, sample_weight, mean)


def jax_bce_with_logits(prediction, target, pos_weight, sample_weight, *, mean, out):
    import optax

    if pos_weight is not None:
        raise Unsupported("optax.sigmoid_binary_cross_entropy has no weight of positive targets")
    return loss_in_jax(optax.sigmoid_binary_cross_entropy, prediction, target, sample_weight, mean, out)
