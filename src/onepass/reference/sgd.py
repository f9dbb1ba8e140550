import numpy as np

from .rounding import flush, scalar, scaled


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def sgd_step(params, grads, momentum_buffers, steps, *,
             lr, momentum, dampening, weight_decay, nesterov, maximize, grad_scale):
    """One step of stochastic gradient descent on a list of arrays, in place.

    For every parameter p with gradient g and velocity v, t being its step count::

        g = grad_scale * g                        -grad_scale if maximize
        g = g + weight_decay * p                  if weight_decay
        v = g                                     if t = 1
        v = momentum * v + (1 - dampening) * g    if t > 1
        p = p - lr * (g + momentum * v)           if nesterov
        p = p - lr * v                            otherwise

    With momentum 0 there is no v: p = p - lr * g. `dampening=momentum` makes v the running average
    of the gradients, `dampening=0` the heavy ball (Polyak 1964; Nesterov's form as in Sutskever et
    al. 2013). Names and meanings are PyTorch's.

    params, grads, momentum_buffers : lists of arrays, float32 or float64, all of one dtype; the
        arrays of one index have one shape. A gradient of None leaves its parameter, its velocity
        and its count as they are. `momentum_buffers` is None when momentum is 0.
    steps : int64 array (len(params),), the steps taken so far; counted up here.
    grad_scale : what every gradient is multiplied by first, >= 0 or infinite.
    """
    for i, (p, g) in enumerate(zip(params, grads)):
        if g is None:
            continue
        steps[i] += 1
        g = scalar(-grad_scale if maximize else grad_scale, p.dtype) * g
        if weight_decay:
            g = g + scaled(weight_decay, p)
        if momentum:
            v = momentum_buffers[i]
            if steps[i] == 1:
                v[...] = flush(g)
            else:
                v[...] = flush(scalar(momentum, p.dtype) * v + scaled(1 - dampening, g))
            g = g + scaled(momentum, v) if nesterov else v
        p[...] = p - scaled(lr, g)
