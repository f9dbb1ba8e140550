import numpy as np

from .loss import checked_weights, divisor_of, no_gradient, quotient, scaled, weighted
from .rounding import scalar


def cross_entropy(prediction, target, weight, sample_weight, *, mean, label_smoothing, gradient=True, out=None):
    """The cross-entropy of softmax(prediction) with integer labels, which may be smoothed and weighted.

    With m the largest logit of a row, t its label, w its sample weight, v the classes' weights and
    s = label_smoothing::

        total           = sum_c exp(x[c] - m)
        loss[c]         = log(total) - (x[c] - m)
        target_coef     = (1 - s) w v[t]
        smoothing_coef  = w s / C
        value           = sum over rows of  target_coef loss[t] + smoothing_coef sum_c v[c] loss[c]
        grad[c]         = (target_coef + smoothing_coef sum_c v[c]) exp(x[c] - m) / total
                          - smoothing_coef v[c] - target_coef (c == t)

    That is the cross-entropy with 1 - s of a one-hot distribution and s of an even one (Szegedy et al.
    2016, section 7), each class weighted.

    prediction : (N, C) float32 or float64, C-contiguous, logits
    target : (N,) integers of any type, from 0 to C - 1
    weight : (C,) of prediction's dtype, finite and >= 0, or None: 1 for every class
    sample_weight : (N,) of prediction's dtype, finite and >= 0, or None: 1 for every row
    mean : whether to divide by the sum over the rows of w v[t], which must be above 0
    label_smoothing : from 0 to 1
    gradient : whether to compute grad, too; it is None otherwise
    out : array for grad, of prediction's shape and dtype, apart from it; None makes a new one

    Returns (value, grad).
    """
    n, classes = prediction.shape
    dtype = prediction.dtype
    wrong = np.flatnonzero((target < 0) | (target >= classes))
    if wrong.size:
        raise ValueError(f"target must be labels from 0 to {classes - 1}; target[{wrong[0]}] is {target[wrong[0]]}")
    v = checked_weights("weight", weight, classes, dtype)
    w = checked_weights("sample_weight", sample_weight, n, dtype)
    divisor, share = divisor_of(v[target] * w, 1, mean)
    rows = np.arange(n)
    with np.errstate(all="ignore"):  # infinite logits and overflow show in the value
        target_coef = ((1 - label_smoothing) * (v[target] * w).astype(np.float64)).astype(dtype)
        smoothing_coef = (label_smoothing / max(classes, 1) * w.astype(np.float64)).astype(dtype)
        v_sum = scalar(float(v.sum(dtype=np.float64)), dtype)
        shifted = prediction - prediction.max(axis=1, keepdims=True, initial=-np.inf)
        exp = np.exp(shifted)
        total = exp.sum(axis=1, dtype=np.float64).astype(dtype)
        logit_sum = weighted(v, shifted).sum(axis=1, dtype=np.float64).astype(dtype)
        terms = weighted(target_coef, np.log(total) - shifted[rows, target])
        terms += weighted(smoothing_coef, v_sum * np.log(total) - logit_sum)
        if not gradient:
            return quotient(terms, divisor), no_gradient(out)
        target_coef, smoothing_coef = scaled(target_coef, share), scaled(smoothing_coef, share)
        coef_sum = target_coef + smoothing_coef * v_sum
        grad = np.multiply(exp, (coef_sum / total)[:, None], out=out)
        grad -= smoothing_coef[:, None] * v
        grad[rows, target] -= target_coef
        grad[coef_sum == 0] = 0
    return quotient(terms, divisor), grad
