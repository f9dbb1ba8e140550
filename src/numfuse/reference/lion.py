import numpy as np

from .regularize import regularize_after, regularize_before
from .rounding import flush, flush_share, scalar


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def lion_step(params, grads, exp_avgs, ema_params, steps, *, lr, beta1, beta2, **regularization):
    """One step of Lion (Chen et al. 2023) on a list of arrays, in place.

    For every parameter p with gradient g and m the running average of the gradients::

        c = beta1 * m + (1 - beta1) * g
        m = beta2 * m + (1 - beta2) * g
        p = p - lr * sign(c)             sign(0) = 0, and a NaN stays one

    where g, and what else becomes of p, is as `numfuse.reference.regularize` says; the paper's weight decay is
    `decoupled`. A gradient of which a share would be subnormal counts as 0.

    params, grads, exp_avgs, ema_params : lists of arrays, float32 or float64, all of one dtype; the arrays of one
        index have one shape. A gradient of None leaves all that belongs to its parameter as it is.
        `ema_params` is None without an average.
    steps : int64 array (len(params),), the steps taken so far; counted up here.
    regularization : weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale;
        each is off unless given
    """
    for i, (p, g) in enumerate(zip(params, grads)):
        if g is None:
            continue
        steps[i] += 1
        dtype, m = p.dtype, exp_avgs[i]
        g = regularize_before(g, p, lr=lr, **regularization)
        g = flush_share(g, 1 - max(beta1, beta2))
        c = scalar(beta1, dtype) * m + scalar(1 - beta1, dtype) * g
        m[...] = flush(scalar(beta2, dtype) * m + scalar(1 - beta2, dtype) * g)
        p[...] = p - np.where(c > 0, scalar(lr, dtype), np.where(c < 0, -scalar(lr, dtype), c - c))
        regularize_after(p, ema_params and ema_params[i], lr=lr, **regularization)
