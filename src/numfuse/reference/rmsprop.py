import numpy as np

from .regularize import regularize_after, regularize_before
from .rounding import flush, flush_positive, flush_square, root_eps, scalar


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                 lr, alpha, eps, momentum, nesterov, **regularization):
    """One RMSProp step (Tieleman and Hinton 2012) on a list of arrays, in place.

    For every parameter p with gradient g, s the running average of its square, a that of the
    gradient itself (the centered form, Graves 2013) and b the velocity::

        s = alpha * s + (1 - alpha) * g * g
        a = alpha * a + (1 - alpha) * g           if centered
        u = g / (sqrt(max(s - a * a, 0)) + eps)   if centered
        u = g / (sqrt(s) + eps)                   otherwise
        b = momentum * b + u                      if momentum, else b = u
        p = p - lr * (u + momentum * b)           if nesterov (as in Dozat 2016)
        p = p - lr * b                            otherwise

    where g, and what else becomes of p, is as `numfuse.reference.regularize` says. Names and meanings are
    PyTorch's, `eps` outside the root among them; `nesterov` is ours, as is the clamp at 0: s - a * a can
    round to below 0.

    params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params : lists of arrays, float32 or
        float64, all of one dtype; the arrays of one index have one shape. A gradient of None leaves all
        that belongs to its parameter as it is. `grad_avgs` is None when not centered,
        `momentum_buffers` is None when momentum is 0, `ema_params` is None without an average.
    steps : int64 array (len(params),), the steps taken so far; counted up here.
    regularization : weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale;
        each is off unless given
    """
    for i, (p, g) in enumerate(zip(params, grads)):
        if g is None:
            continue
        steps[i] += 1
        dtype = p.dtype
        g = regularize_before(g, p, lr=lr, **regularization)
        g = flush_square(g, 1 - alpha)
        s = square_avgs[i]
        s[...] = flush_positive(scalar(alpha, dtype) * s + (scalar(1 - alpha, dtype) * g) * g)
        if grad_avgs is None:
            variance = s
        else:
            a = grad_avgs[i]
            a[...] = flush_square(scalar(alpha, dtype) * a + scalar(1 - alpha, dtype) * g, 1.0)
            variance = s - a * a
            variance = np.where(variance < np.finfo(dtype).tiny, dtype.type(0), variance)
        u = g / (np.sqrt(variance) + root_eps(eps, dtype))
        if momentum:
            b = momentum_buffers[i]
            b[...] = flush(scalar(momentum, dtype) * b + u)
            u = u + scalar(momentum, dtype) * b if nesterov else b
        p[...] = p - scalar(lr, dtype) * u
        regularize_after(p, ema_params and ema_params[i], lr=lr, **regularization)
