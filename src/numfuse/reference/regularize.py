import math

import numpy as np

from .rounding import flush, scalar


def regularize_before(g, p, *, lr, weight_decay=0.0, decoupled=False, l1=0.0, proximal=False,
                      max_grad_value=math.inf, ema_decay=0.0, maximize=False, grad_scale=1.0):
    """What a step's own formula takes as the gradient of p, once p has decayed in place if `decoupled`.

    Every step has these keywords, all of them off unless given, and its learning rate `lr`. For a parameter p with
    gradient g, and the average e of p if `ema_params` are given::

        g = grad_scale * g                                -grad_scale if maximize
        g = min(max(g, -max_grad_value), max_grad_value)  a NaN stays one
        g = g + weight_decay * p                          L2, if not decoupled
        g = g + l1 * sign(p)                              L1 as subgradient, if not proximal; 0 at p = 0
        p = p * (1 - lr * weight_decay)                   if decoupled (Loshchilov and Hutter 2019)
        p = p - lr * ...                                  the step's own formula
        p = p - min(max(p, -lr * l1), lr * l1)            if proximal: the soft threshold (Parikh and Boyd 2014)
        e = e + (1 - ema_decay) * (p - e)                 exponential moving average

    L1 and L2 together are the elastic net (Zou and Hastie 2005).

    weight_decay, l1 : strengths, >= 0
    max_grad_value : what gradients are clipped to, > 0; infinite for none
    ema_decay : decay of the average a step, in [0, 1)
    grad_scale : what every gradient is multiplied by first, >= 0 or infinite
    """
    dtype = p.dtype
    g = scalar(-grad_scale if maximize else grad_scale, dtype) * g
    largest = scalar(max_grad_value, dtype)
    g = np.where(g > largest, largest, g)
    g = np.where(g < -largest, -largest, g)
    if weight_decay and not decoupled:
        g = g + scalar(weight_decay, dtype) * p
    strength = flush(scalar(0.0 if proximal else l1, dtype))
    if strength > 0:
        g = np.where(np.abs(p) > 0, g + np.copysign(strength, p), g)
    if decoupled:
        p[...] = p * scalar(1 - lr * weight_decay, dtype)
    return g


def regularize_after(p, e, *, lr, l1=0.0, proximal=False, ema_decay=0.0, **_):
    """What follows a step's own formula, in place. `e` is None without an average."""
    threshold = scalar(lr * l1, p.dtype)
    if proximal and threshold > 0:
        cut = np.where(p > threshold, threshold, p)
        p[...] = p - np.where(cut < -threshold, -threshold, cut)
    if e is not None:
        e[...] = average(e, p, ema_decay)


def average(e, p, ema_decay):
    """The exponential moving average once p has come. Of a p that stays the same it stays the same, too."""
    return flush(e + scalar(1 - ema_decay, p.dtype) * (p - e))
