"""Losses and their gradients, together: both come from the same exponentials.

Each function returns (value, grad): a Python float, whose terms are added up in float64, and an array
of prediction's shape and dtype. With `mean` both are divided by what all rows or elements weigh together,
which is their number if no weights are given; the mean of nothing is NaN. What weighs 0 counts for
nothing, even if it is NaN or infinite.
"""

import math

import numpy as np

from .activation import sigmoid
from .rounding import scalar


def cross_entropy(prediction, target, weight, sample_weight, *, mean, label_smoothing, out=None):
    """The cross-entropy of softmax(prediction) with integer labels, which may be smoothed and weighted.

    With m the largest logit of a row, t its label, w its sample weight, v the classes' weights and
    s = label_smoothing::

        total    = sum_c exp(x[c] - m)
        loss[c]  = log(total) - (x[c] - m)
        target_coef      = (1 - s) w v[t],    smoothing_coef = w s / C
        value    = sum over rows of  target_coef loss[t] + smoothing_coef sum_c v[c] loss[c]
        grad[c]  = (target_coef + smoothing_coef sum_c v[c]) exp(x[c] - m) / total
                   - smoothing_coef v[c] - target_coef (c == t)

    That is the cross-entropy with 1 - s of a one-hot distribution and s of an even one (Szegedy et al.
    2016, section 7), each class weighted.

    prediction : (N, C) float32 or float64, C-contiguous, logits
    target : (N,) int64, from 0 to C - 1
    weight : (C,) of prediction's dtype, finite and >= 0, or None: 1 for every class
    sample_weight : (N,) of prediction's dtype, finite and >= 0, or None: 1 for every row
    mean : whether to divide by the sum over the rows of w v[t], which must be above 0
    label_smoothing : from 0 to 1
    out : array for grad, of prediction's shape and dtype, apart from it; None makes a new one

    Returns (value, grad).
    """
    n, classes = prediction.shape
    dtype = prediction.dtype
    wrong = np.flatnonzero((target < 0) | (target >= classes))
    if wrong.size:
        raise ValueError(f"target must be labels from 0 to {classes - 1}; target[{wrong[0]}] is {target[wrong[0]]}")
    v = _checked_weights("weight", weight, classes, dtype)
    w = _checked_weights("sample_weight", sample_weight, n, dtype)
    divisor, share = _divisor(v[target] * w, 1, mean)
    rows = np.arange(n)
    with np.errstate(all="ignore"):  # infinite logits and overflow show in the value
        target_coef = ((1 - label_smoothing) * (v[target] * w).astype(np.float64)).astype(dtype)
        smoothing_coef = (label_smoothing / max(classes, 1) * w.astype(np.float64)).astype(dtype)
        v_sum = scalar(float(v.sum(dtype=np.float64)), dtype)
        shifted = prediction - prediction.max(axis=1, keepdims=True, initial=-np.inf)
        exp = np.exp(shifted)
        total = exp.sum(axis=1, dtype=np.float64).astype(dtype)
        logit_sum = _times(v, shifted).sum(axis=1, dtype=np.float64).astype(dtype)
        terms = _times(target_coef, np.log(total) - shifted[rows, target])
        terms += _times(smoothing_coef, v_sum * np.log(total) - logit_sum)
        target_coef, smoothing_coef = _shares(target_coef, share), _shares(smoothing_coef, share)
        coef_sum = target_coef + smoothing_coef * v_sum
        grad = np.multiply(exp, (coef_sum / total)[:, None], out=out)
        grad -= smoothing_coef[:, None] * v
        grad[rows, target] -= target_coef
        grad[coef_sum == 0] = 0
    return _quotient(terms, divisor), grad


def mse(prediction, target, sample_weight, *, mean, out=None):
    """The squared error.

    With x = prediction, t = target and w the sample weight of an element's row::

        value = sum of w (x - t)^2
        grad  = 2 w (x - t)

    prediction, target : float32 or float64 arrays of one shape and dtype, and without sample weights of
        any memory order without gaps; with them (N, ...), C-contiguous
    sample_weight : (N,) of prediction's dtype, finite and >= 0, one for all elements of a row; or None: 1
    mean : whether to divide by the sum over the elements of w, which must be above 0
    out : array for grad, like prediction and apart from it; None makes a new one

    Returns (value, grad).
    """
    w, divisor, share = _element_weights(prediction, sample_weight, mean)
    with np.errstate(all="ignore"):
        difference = prediction - target
        value = _quotient(_times(w.astype(np.float64), np.square(difference, dtype=np.float64)), divisor)
        return value, _gradient(prediction, w, difference, 2 * share, out)


def huber(prediction, target, sample_weight, *, mean, delta, out=None):
    """The squared error where it is small, and the absolute error where it is large (Huber 1964).

    With d = prediction - target, w the sample weight of an element's row and c = d clipped to
    [-delta, delta]::

        value = sum of w c (d - c / 2),  which is  w d^2 / 2  up to delta,  w delta (|d| - delta / 2)  beyond it
        grad  = w c

    delta : above 0

    prediction, target, sample_weight, mean, out and what it returns are as for `mse`.
    """
    w, divisor, share = _element_weights(prediction, sample_weight, mean)
    limit = scalar(delta, prediction.dtype)
    with np.errstate(all="ignore"):
        difference = prediction - target
        clipped = np.where(difference > limit, limit, difference)
        clipped = np.where(clipped < -limit, -limit, clipped)
        wide = clipped.astype(np.float64)
        value = _quotient(_times(w.astype(np.float64), wide * (difference.astype(np.float64) - wide * 0.5)), divisor)
        return value, _gradient(prediction, w, clipped, share, out)


def bce_with_logits(prediction, target, pos_weight, sample_weight, *, mean, out=None):
    """The binary cross-entropy of sigmoid(prediction) with target.

    With x = prediction, t = target, w the sample weight of an element's row and p the weight of its class::

        m     = 1 + (p - 1) t
        value = sum of w ((1 - t) max(x, 0) + p t max(-x, 0) + m log(1 + exp(-|x|)))
        grad  = w (sigmoid(x) m - p t)

    which is  -w (p t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x))).

    prediction, target : as for `mse`, with the classes as their last axis; target from 0 to 1
    pos_weight : (C,) of prediction's dtype, finite and >= 0, or (1,) for all classes, or None: 1; as with
        sample weights, prediction and target are then C-contiguous
    sample_weight, mean, out : as for `mse`

    Returns (value, grad).
    """
    p = prediction.dtype.type(1)
    if pos_weight is not None:
        _needs_rows(prediction)
        count = 1 if pos_weight.size == 1 else prediction.shape[-1]
        p = _checked_weights("pos_weight", pos_weight, count, prediction.dtype)
    w, divisor, share = _element_weights(prediction, sample_weight, mean)
    outside = (target < 0) | (target > 1)
    if outside.any():
        raise ValueError(f"target must be from 0 to 1, was {target[outside][0]}")
    x, one = prediction, prediction.dtype.type(1)
    with np.errstate(all="ignore"):
        positive, mixed = p * target, np.where(p == 1, one, one + (p - one) * target)
        # Where the target agrees with an infinite x, nothing is lost, rather than 0 times infinity.
        linear = _times(np.where(x > 0, one - target, positive), np.abs(x))
        value = _quotient(_times(w, linear + mixed * np.log1p(np.exp(-np.abs(x)))), divisor)
        return value, _gradient(x, w, sigmoid(x) * mixed - positive, share, out)


def _checked_weights(name, weight, count, dtype):
    if weight is None:
        return np.ones(count, dtype)
    if weight.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), had {weight.shape}")
    wrong = np.flatnonzero(~((weight >= 0) & (weight < np.inf)))
    if wrong.size:
        raise ValueError(f"{name} must be finite and >= 0; {name}[{wrong[0]}] is {weight[wrong[0]]}")
    return weight


def _needs_rows(prediction):
    if not prediction.ndim:
        raise ValueError("prediction must have rows to be weighted, had shape ()")


def _element_weights(prediction, sample_weight, mean):
    """The weights in a shape that broadcasts, and what `_divisor` says of them."""
    w = np.ones((), prediction.dtype)
    if sample_weight is not None:
        _needs_rows(prediction)
        w = _checked_weights("sample_weight", sample_weight, len(prediction), prediction.dtype)
        w = w.reshape(-1, *(1,) * (prediction.ndim - 1))
    return w, *_divisor(w, prediction.size // max(w.size, 1), mean)


def _divisor(weight, times, mean):
    """What a loss is divided by, and 1 / that, which a gradient is multiplied with."""
    if not mean:
        return 1.0, 1.0
    divisor = times * float(weight.sum(dtype=np.float64))
    share = 1 / divisor if divisor else math.inf
    if weight.size and times and not 0 < share < math.inf:
        raise ValueError(f"the weights must have a finite sum above 0 over the rows of a mean, was {divisor:g}")
    return divisor, share


def _times(weight, x):
    """weight x, and 0 where the weight is 0."""
    return np.where(weight == 0, weight.dtype.type(0), weight * x)


def _shares(weight, share):
    """weight times a Python float, rounded once."""
    return (weight.astype(np.float64) * share).astype(weight.dtype)


def _gradient(prediction, weight, slope, share, out):
    grad = np.empty_like(prediction) if out is None else out
    grad[...] = np.where(weight == 0, weight.dtype.type(0), slope * _shares(weight, share))
    return grad


def _quotient(terms, divisor):
    total = float(terms.sum(dtype=np.float64))
    return total / divisor if divisor else math.nan
