import numpy as np

from .activation import sigmoid
from .loss import check_rows, checked_weights, element_weights, gradient_of, quotient, weighted


def bce_with_logits(prediction, target, pos_weight, sample_weight, *, mean, gradient=True, out=None):
    """The binary cross-entropy of sigmoid(prediction) with target.

    With x = prediction, t = target, w the sample weight of an element's row and p the weight of its class::

        m     = 1 + (p - 1) t
        value = sum of w ((1 - t) max(x, 0) + p t max(-x, 0) + m log(1 + exp(-|x|)))
        grad  = w (sigmoid(x) m - p t)

    which is  -w (p t log(sigmoid(x)) + (1 - t) log(1 - sigmoid(x))).

    prediction, target : as for `mse`, with the classes as their last axis; target from 0 to 1
    pos_weight : (C,) of prediction's dtype, finite and >= 0, or (1,) for all classes, or None: 1; as with
        sample weights, prediction and target are then C-contiguous
    sample_weight, mean, gradient, out : as for `mse`

    Returns (value, grad).
    """
    p = prediction.dtype.type(1)
    if pos_weight is not None:
        check_rows(prediction)
        count = 1 if pos_weight.size == 1 else prediction.shape[-1]
        p = checked_weights("pos_weight", pos_weight, count, prediction.dtype)
    w, divisor, share = element_weights(prediction, sample_weight, mean)
    outside = (target < 0) | (target > 1)
    if outside.any():
        raise ValueError(f"target must be from 0 to 1, was {target[outside][0]}")
    x, one = prediction, prediction.dtype.type(1)
    with np.errstate(all="ignore"):
        positive, mixed = p * target, np.where(p == 1, one, one + (p - one) * target)
        # Where the target agrees with an infinite x, nothing is lost, rather than 0 times infinity.
        linear = weighted(np.where(x > 0, one - target, positive), np.abs(x))
        value = quotient(weighted(w, linear + mixed * np.log1p(np.exp(-np.abs(x)))), divisor)
        return value, gradient_of(x, w, sigmoid(x) * mixed - positive, share, gradient, out)
