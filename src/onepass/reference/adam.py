import math

import numpy as np

from .rounding import flush, integer_power, scalar, scaled, scaled_square


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, *,
              lr, beta1, beta2, eps, weight_decay, decoupled, maximize, grad_scale):
    """One step of Adam (Kingma and Ba 2015) or AdamW on a list of arrays, in place.

    For every parameter p with gradient g, m and v the running averages of the gradient and of its
    square, t being its step count::

        g = grad_scale * g                     -grad_scale if maximize
        g = g + weight_decay * p               if not decoupled (Adam with L2)
        p = p * (1 - lr * weight_decay)        if decoupled (AdamW, Loshchilov and Hutter 2019)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = max(w, v)                          with AMSGrad (Reddi et al. 2018), else w = v
        p = p - lr / (1 - beta1^t) * m / (sqrt(w) / sqrt(1 - beta2^t) + eps)

    Names and meanings are PyTorch's.

    params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs : lists of arrays, float32 or float64,
        all of one dtype; the arrays of one index have one shape. A gradient of None leaves all
        that belongs to its parameter as it is. `max_exp_avg_sqs` is None without AMSGrad.
    steps : int64 array (len(params),), the steps taken so far; counted up here.
    grad_scale : what every gradient is multiplied by first, >= 0 or infinite.
    """
    for i, (p, g) in enumerate(zip(params, grads)):
        if g is None:
            continue
        steps[i] += 1
        dtype = p.dtype
        step_size = lr / (1 - integer_power(beta1, int(steps[i])))
        root_scale = 1 / math.sqrt(1 - integer_power(beta2, int(steps[i])))
        g = scalar(-grad_scale if maximize else grad_scale, p.dtype) * g
        if weight_decay and not decoupled:
            g = g + scaled(weight_decay, p)
        m, v = exp_avgs[i], exp_avg_sqs[i]
        m[...] = flush(scalar(beta1, dtype) * m + scaled(1 - beta1, g))
        v[...] = flush(scalar(beta2, dtype) * v + scaled_square(1 - beta2, g))
        if max_exp_avg_sqs is not None:
            w = max_exp_avg_sqs[i]
            w[...] = np.where(w >= v, w, v)
            v = w
        denominator = np.sqrt(v) * scalar(root_scale, dtype) + scalar(eps, dtype)
        if decoupled:
            p[...] = p * scalar(1 - lr * weight_decay, dtype)
        p[...] = p - scaled(step_size, m / denominator)
