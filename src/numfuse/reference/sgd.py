import numpy as np

from .regularize import regularize_after, regularize_before
from .rounding import flush, scalar


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
             lr, momentum, dampening, running_average, nesterov, **regularization):
    """One step of stochastic gradient descent on a list of arrays, in place.

    For every parameter p with gradient g and velocity v, t being its step count::

        v = g                                                if t = 1 and not running_average
        v = momentum * v + (1 - dampening) * g               otherwise
        p = p - lr * ((1 - dampening) * g + momentum * v)    if nesterov
        p = p - lr * v                                       otherwise

    where g, and what else becomes of p, is as `numfuse.reference.regularize` says. With momentum 0 there is
    no v: p = p - lr * g. `dampening=0` is the heavy ball (Polyak 1964; Nesterov's form as in Sutskever
    et al. 2013). `running_average` takes the momentum as the dampening: v is the running average of the
    gradients, from 0 on. Names and meanings are PyTorch's, which has no `running_average`.

    params, grads, momentum_buffers, ema_params : lists of arrays, float32 or float64, all of one dtype;
        the arrays of one index have one shape. A gradient of None leaves its parameter, its velocity
        and its count as they are. `momentum_buffers` is None when momentum is 0, `ema_params` is
        None without an average.
    steps : int64 array (len(params),), the steps taken so far; counted up here.
    regularization : weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale;
        each is off unless given
    """
    if running_average:
        dampening = momentum
    for i, (p, g) in enumerate(zip(params, grads)):
        if g is None:
            continue
        steps[i] += 1
        g = regularize_before(g, p, lr=lr, **regularization)
        if momentum:
            v, gained = momentum_buffers[i], scalar(1 - dampening, p.dtype) * g
            if steps[i] == 1 and not running_average:
                v[...] = flush(g)
            else:
                v[...] = flush(scalar(momentum, p.dtype) * v + gained)
            g = gained + scalar(momentum, p.dtype) * v if nesterov else v
        p[...] = p - scalar(lr, p.dtype) * g
        regularize_after(p, ema_params and ema_params[i], lr=lr, **regularization)
