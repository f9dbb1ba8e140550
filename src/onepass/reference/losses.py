"""Losses and their gradients, together: both come from the same exponentials.

Each function returns (value, grad): a Python float, whose terms are added up in float64, and an array
of prediction's shape and dtype. With `mean` both are divided by the number N of rows or elements; the
mean of nothing is NaN.
"""

import numpy as np

from .activation import sigmoid
from .rounding import scalar


def cross_entropy(prediction, target, *, mean, out=None):
    """The cross-entropy of softmax(prediction) with integer labels.

    With m the largest logit of a row::

        total    = sum_c exp(x[c] - m)
        value    = sum over rows of  log(total) - (x[target] - m)
        grad[c]  = exp(x[c] - m) / total - (c == target)

    prediction : (N, C) float32 or float64, C-contiguous, logits
    target : (N,) int64, from 0 to C - 1
    mean : whether to divide by N
    out : array for grad, of prediction's shape and dtype, apart from it; None makes a new one

    Returns (value, grad).
    """
    wrong = np.flatnonzero((target < 0) | (target >= prediction.shape[1]))
    if wrong.size:
        raise ValueError(f"target must be labels from 0 to {prediction.shape[1] - 1}; "
                         f"target[{wrong[0]}] is {target[wrong[0]]}")
    rows = np.arange(len(prediction))
    share = scalar(_share(1.0, len(rows), mean), prediction.dtype)
    with np.errstate(all="ignore"):  # infinite logits and overflow show in the value
        shifted = prediction - prediction.max(axis=1, keepdims=True, initial=-np.inf)
        chosen = shifted[rows, target]
        exp = np.exp(shifted)
        total = exp.sum(axis=1, dtype=np.float64).astype(prediction.dtype)
        value = _reduce(np.log(total) - chosen, mean)
        grad = np.multiply(exp, (share / total)[:, None], out=out)
        grad[rows, target] -= share
    return value, grad


def mse(prediction, target, *, mean, out=None):
    """The squared error: value = sum (prediction - target)^2, grad = 2 (prediction - target).

    prediction, target : float32 or float64 arrays of one shape, dtype and memory order, without gaps
    mean : whether to divide by the number of elements
    out : array for grad, like prediction and apart from it; None makes a new one

    Returns (value, grad).
    """
    with np.errstate(all="ignore"):
        difference = prediction - target
        value = _reduce(np.square(difference, dtype=np.float64), mean)
        return value, _times(difference, _share(2.0, difference.size, mean), out)


def bce_with_logits(prediction, target, *, mean, out=None):
    """The binary cross-entropy of sigmoid(prediction) with target.

    With x = prediction and t = target::

        value = sum of (1 - t) max(x, 0) + t max(-x, 0) + log(1 + exp(-|x|))
        grad  = sigmoid(x) - t

    prediction, target : as for `mse`; target from 0 to 1
    mean : whether to divide by the number of elements
    out : as for `mse`

    Returns (value, grad).
    """
    outside = (target < 0) | (target > 1)
    if outside.any():
        raise ValueError(f"target must be from 0 to 1, was {target[outside][0]}")
    x, one = prediction, prediction.dtype.type(1)
    with np.errstate(all="ignore"):
        # Where the target agrees with an infinite x, nothing is lost, rather than 0 times infinity.
        against = np.where(x > 0, one - target, target)
        linear = np.where(against == 0, against, against * np.abs(x))
        value = _reduce(linear + np.log1p(np.exp(-np.abs(x))), mean)
        return value, _times(sigmoid(x) - target, _share(1.0, x.size, mean), out)


def _share(of, count, mean):
    return of / max(count, 1) if mean else of


def _times(x, factor, out):
    grad = np.empty_like(x) if out is None else out
    return np.multiply(x, scalar(factor, x.dtype), out=grad)


def _reduce(terms, mean):
    total = float(terms.sum(dtype=np.float64))
    if not mean:
        return total
    return total / terms.size if terms.size else float("nan")
