"""Parts of the losses. A loss is computed with its gradient, unless that is not wanted: both need the same terms.

Each function returns (value, grad): a Python float, whose terms are added up in float64, and an array of prediction's
shape and dtype, or None. With `mean` both are divided by what all rows or elements weigh together, which is their
number if no weights are given; the mean of nothing is NaN. What weighs 0 counts for nothing, even if it is NaN or
infinite.
"""

import math

import numpy as np


def checked_weights(name, weight, count, dtype):
    if weight is None:
        return np.ones(count, dtype)
    if weight.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), had {weight.shape}")
    wrong = np.flatnonzero(~((weight >= 0) & (weight < np.inf)))
    if wrong.size:
        raise ValueError(f"{name} must be finite and >= 0; {name}[{wrong[0]}] is {weight[wrong[0]]}")
    return weight


def check_rows(prediction):
    if not prediction.ndim:
        raise ValueError("prediction must have rows to be weighted, had shape ()")


def element_weights(prediction, sample_weight, mean):
    """The weights in a shape that broadcasts, and what `divisor_of` says of them."""
    w = np.ones((), prediction.dtype)
    if sample_weight is not None:
        check_rows(prediction)
        w = checked_weights("sample_weight", sample_weight, len(prediction), prediction.dtype)
        w = w.reshape(-1, *(1,) * (prediction.ndim - 1))
    return w, *divisor_of(w, prediction.size // max(w.size, 1), mean)


def divisor_of(weight, times, mean):
    """What a loss is divided by, and 1 / that, which a gradient is multiplied with."""
    if not mean:
        return 1.0, 1.0
    divisor = times * float(weight.sum(dtype=np.float64))
    share = 1 / divisor if divisor else math.inf
    if weight.size and times and not 0 < share < math.inf:
        raise ValueError(f"the weights must have a finite sum above 0 over the rows of a mean, was {divisor:g}")
    return divisor, share


def weighted(weight, x):
    """weight x, and 0 where the weight is 0."""
    return np.where(weight == 0, weight.dtype.type(0), weight * x)


def scaled(weight, share):
    """weight times a Python float, rounded once."""
    return (weight.astype(np.float64) * share).astype(weight.dtype)


def gradient_of(prediction, weight, slope, share, wanted, out):
    if not wanted:
        return no_gradient(out)
    grad = np.empty_like(prediction) if out is None else out
    grad[...] = np.where(weight == 0, weight.dtype.type(0), slope * scaled(weight, share))
    return grad


def no_gradient(out):
    if out is not None:
        raise ValueError("out must be None where gradient is False")


def quotient(terms, divisor):
    total = float(terms.sum(dtype=np.float64))
    return total / divisor if divisor else math.nan
