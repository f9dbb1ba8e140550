"""Softmax cross-entropy of integer classes."""

from functools import partial

import numpy as np

from ..case import LOGITS, ROUNDING, Case, shape_of, single_pass, ten_classes
from ..places import empty_like
from ..rivals import Unsupported
from .loss import loss_in_jax, loss_in_torch

GROUP = "losses"
TOLERANCE = ROUNDING
SAME_BITS = False


def _arguments(size, dtype, rng, *, weighted=False, label_smoothing=0.0):
    x = rng.standard_normal(shape_of(size, ten_classes), dtype=dtype)
    n, classes = x.shape
    weights = {name: 0.5 + rng.random(count, dtype=dtype) if weighted else None
               for name, count in (("weight", classes), ("sample_weight", n))}
    return {"prediction": x, "target": rng.integers(0, classes, n), **weights, "mean": True,
            "label_smoothing": label_smoothing, "out": np.empty_like(x)}


CASES = [
    Case("cross_entropy", "", _arguments, single_pass, LOGITS),
    Case("cross_entropy", "weights", partial(_arguments, weighted=True), single_pass, LOGITS),
    Case("cross_entropy", "smoothing", partial(_arguments, label_smoothing=0.1), single_pass, LOGITS),
    Case("cross_entropy", "smoothing weights", partial(_arguments, weighted=True, label_smoothing=0.1), single_pass,
         LOGITS),
]


def textbook_cross_entropy(prediction, target, weight, sample_weight, *, mean, label_smoothing, gradient=True,
                           out=None):
    n, classes = prediction.shape
    rows = np.arange(n)
    exp = np.exp(prediction - prediction.max(axis=1, keepdims=True))
    softmax = exp / exp.sum(axis=1, keepdims=True)
    if weight is None and sample_weight is None and not label_smoothing:
        count = n if mean else 1
        value = -np.log(softmax[rows, target]).sum() / count
        softmax[rows, target] -= 1
        return float(value), softmax / count
    v = np.ones(classes, prediction.dtype) if weight is None else weight
    w = np.ones(n, prediction.dtype) if sample_weight is None else sample_weight
    wanted = np.full_like(prediction, label_smoothing / classes)
    wanted[rows, target] += 1 - label_smoothing
    wanted *= w[:, None] * v
    count = (w * v[target]).sum() if mean else 1
    value = -(wanted * np.log(softmax)).sum() / count
    return float(value), (wanted.sum(axis=1, keepdims=True) * softmax - wanted) / count


def in_place_cross_entropy(prediction, target, weight, sample_weight, *, mean, label_smoothing, out):
    n, classes = prediction.shape
    rows, share = np.arange(n), 1 / n if mean and n else 1
    if weight is not None or sample_weight is not None or label_smoothing:
        return _in_place_weighted(prediction, target, weight, sample_weight, mean, label_smoothing, out)

    def step():
        np.subtract(prediction, prediction.max(axis=1, keepdims=True, initial=-np.inf), out=out)
        chosen = out[rows, target].sum()
        np.exp(out, out=out)
        total = out.sum(axis=1, keepdims=True)
        value = np.log(total).sum() - chosen
        np.multiply(out, share / total, out=out)
        out[rows, target] -= share
        return float(value * share), out
    return step


def _in_place_weighted(prediction, target, weight, sample_weight, mean, label_smoothing, out):
    n, classes = prediction.shape
    rows, scratch = np.arange(n), empty_like(prediction, 7)
    v = np.ones(classes, prediction.dtype) if weight is None else weight
    w = np.ones(n, prediction.dtype) if sample_weight is None else sample_weight

    def step():
        weights = w * v[target]
        share = 1 / weights.sum() if mean and n else 1
        target_coef, smoothing_coef = weights * ((1 - label_smoothing) * share), w * (label_smoothing / classes * share)
        np.subtract(prediction, prediction.max(axis=1, keepdims=True, initial=-np.inf), out=out)
        value = -np.vdot(target_coef, out[rows, target]) - (np.vdot(smoothing_coef, out @ v) if label_smoothing else 0)
        np.exp(out, out=out)
        total, coef_sum = out.sum(axis=1), target_coef + smoothing_coef * v.sum()
        value += np.vdot(coef_sum, np.log(total))
        np.multiply(out, (coef_sum / total)[:, None], out=out)
        if label_smoothing:
            np.subtract(out, np.multiply(smoothing_coef[:, None], v, out=scratch), out=out)
        out[rows, target] -= target_coef
        return float(value), out
    return step


def torch_cross_entropy(*, prediction, target, weight, sample_weight, mean, label_smoothing, out):
    from torch.nn import functional

    from ..peers import torch as peer

    target, weight, sample_weight = peer.shared(target, weight, sample_weight)

    def total():
        return (sample_weight if weight is None else sample_weight * weight[target]).sum()

    function = partial(functional.cross_entropy, weight=weight, label_smoothing=label_smoothing)
    return loss_in_torch(function, prediction, target, sample_weight, mean, total)


def jax_cross_entropy(prediction, target, weight, sample_weight, *, mean, label_smoothing, out):
    import optax

    if weight is not None or label_smoothing:
        raise Unsupported("optax's cross-entropy of integer labels has no class weights and no label smoothing")
    terms = optax.softmax_cross_entropy_with_integer_labels
    return loss_in_jax(terms, prediction, target.astype(np.int32), sample_weight, mean, out)
