import numpy as np

from .rounding import flush, scalar, scaled, scaled_square


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, steps, *,
                 lr, alpha, eps, momentum, weight_decay, maximize, grad_scale):
    """One RMSProp step (Tieleman and Hinton 2012) on a list of arrays, in place.

    For every parameter p with gradient g, s the running average of its square, a that of the
    gradient itself (the centered form, Graves 2013) and b the velocity::

        g = grad_scale * g                        -grad_scale if maximize
        g = g + weight_decay * p                  if weight_decay
        s = alpha * s + (1 - alpha) * g * g
        a = alpha * a + (1 - alpha) * g           if centered
        u = g / (sqrt(max(s - a * a, 0)) + eps)   if centered
        u = g / (sqrt(s) + eps)                   otherwise
        u = b = momentum * b + u                  if momentum
        p = p - lr * u

    Names and meanings are PyTorch's, `eps` outside the root among them; the clamp at 0 is ours:
    s - a * a can round to below 0.

    params, grads, square_avgs, grad_avgs, momentum_buffers : lists of arrays, float32 or float64,
        all of one dtype; the arrays of one index have one shape. A gradient of None leaves all
        that belongs to its parameter as it is. `grad_avgs` is None when not centered,
        `momentum_buffers` is None when momentum is 0.
    steps : int64 array (len(params),), the steps taken so far; counted up here.
    grad_scale : what every gradient is multiplied by first, >= 0 or infinite.
    """
    for i, (p, g) in enumerate(zip(params, grads)):
        if g is None:
            continue
        steps[i] += 1
        dtype = p.dtype
        g = scalar(-grad_scale if maximize else grad_scale, p.dtype) * g
        if weight_decay:
            g = g + scaled(weight_decay, p)
        s = square_avgs[i]
        s[...] = flush(scalar(alpha, dtype) * s + scaled_square(1 - alpha, g))
        if grad_avgs is None:
            variance = s
        else:
            a = grad_avgs[i]
            a[...] = flush(scalar(alpha, dtype) * a + scaled(1 - alpha, g))
            variance = s - scaled_square(1.0, a)
            variance = np.where(variance < np.finfo(dtype).tiny, dtype.type(0), variance)
        u = g / (np.sqrt(variance) + scalar(eps, dtype))
        if momentum:
            b = momentum_buffers[i]
            b[...] = flush(scalar(momentum, dtype) * b + u)
            u = b
        p[...] = p - scaled(lr, u)
