import numpy as np

from .loss import element_weights, gradient_of, quotient, weighted
from .rounding import scalar


def huber(prediction, target, sample_weight, *, mean, delta, gradient=True, out=None):
    """The squared error where it is small, and the absolute error where it is large (Huber 1964).

    With d = prediction - target, w the sample weight of an element's row and c = d clipped to
    [-delta, delta]::

        value = sum of w c (d - c / 2),  which is  w d^2 / 2  up to delta,  w delta (|d| - delta / 2)  beyond it
        grad  = w c

    delta : above 0

    prediction, target, sample_weight, mean, gradient, out and what it returns are as for `mse`.
    """
    w, divisor, share = element_weights(prediction, sample_weight, mean)
    limit = scalar(delta, prediction.dtype)
    with np.errstate(all="ignore"):
        difference = prediction - target
        clipped = np.where(difference > limit, limit, difference)
        clipped = np.where(clipped < -limit, -limit, clipped)
        wide = clipped.astype(np.float64)
        value = quotient(weighted(w.astype(np.float64), wide * (difference.astype(np.float64) - wide * 0.5)), divisor)
        return value, gradient_of(prediction, w, clipped, share, gradient, out)
