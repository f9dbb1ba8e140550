import numpy as np

from .loss import element_weights, gradient_of, quotient, weighted


def mse(prediction, target, sample_weight, *, mean, gradient=True, out=None):
    """The squared error.

    With x = prediction, t = target and w the sample weight of an element's row::

        value = sum of w (x - t)^2
        grad  = 2 w (x - t)

    prediction, target : float32 or float64 arrays of one shape and dtype, and without sample weights of
        any memory order without gaps; with them (N, ...), C-contiguous
    sample_weight : (N,) of prediction's dtype, finite and >= 0, one for all elements of a row; or None: 1
    mean : whether to divide by the sum over the elements of w, which must be above 0
    gradient : whether to compute grad, too; it is None otherwise
    out : array for grad, like prediction and apart from it; None makes a new one

    Returns (value, grad).
    """
    w, divisor, share = element_weights(prediction, sample_weight, mean)
    with np.errstate(all="ignore"):
        difference = prediction - target
        value = quotient(weighted(w.astype(np.float64), np.square(difference, dtype=np.float64)), divisor)
        return value, gradient_of(prediction, w, difference, 2 * share, gradient, out)
