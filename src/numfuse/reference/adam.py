import math

import numpy as np

from .regularize import regularize_after, regularize_before
from .rounding import flush, flush_positive, flush_square, integer_power, root_eps, scalar


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
              lr, beta1, beta2, eps, **regularization):
    """One step of Adam (Kingma and Ba 2015) or AdamW on a list of arrays, in place.

    For every parameter p with gradient g, m and v the running averages of the gradient and of its
    square, t being its step count::

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = max(w, v)                          with AMSGrad (Reddi et al. 2018), else w = v
        p = p - lr / (1 - beta1^t) * m / (sqrt(w) / sqrt(1 - beta2^t) + eps)

    where g, and what else becomes of p, is as `numfuse.reference.regularize` says; AdamW is `decoupled`
    (Loshchilov and Hutter 2019). Names and meanings are PyTorch's.

    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params : lists of arrays, float32 or
        float64, all of one dtype; the arrays of one index have one shape. A gradient of None leaves all
        that belongs to its parameter as it is. `max_exp_avg_sqs` is None without AMSGrad, `ema_params`
        without an average.
    steps : int64 array (len(params),), the steps taken so far; counted up here.
    regularization : weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale;
        each is off unless given
    """
    for i, (p, g) in enumerate(zip(params, grads)):
        if g is None:
            continue
        steps[i] += 1
        dtype = p.dtype
        step_size = lr / (1 - integer_power(beta1, int(steps[i])))
        root_scale = 1 / math.sqrt(1 - integer_power(beta2, int(steps[i])))
        g = regularize_before(g, p, lr=lr, **regularization)
        g = flush_square(g, 1 - beta2)
        m, v = exp_avgs[i], exp_avg_sqs[i]
        m[...] = flush(scalar(beta1, dtype) * m + scalar(1 - beta1, dtype) * g)
        v[...] = flush_positive(scalar(beta2, dtype) * v + (scalar(1 - beta2, dtype) * g) * g)
        if max_exp_avg_sqs is not None:
            w = max_exp_avg_sqs[i]
            w[...] = np.where(w >= v, w, v)
            v = w
        denominator = np.sqrt(v) * scalar(root_scale, dtype) + root_eps(eps, dtype, root_scale)
        p[...] = p - scalar(step_size, dtype) * (m / denominator)
        regularize_after(p, ema_params and ema_params[i], lr=lr, **regularization)
