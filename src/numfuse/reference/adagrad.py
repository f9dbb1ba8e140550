import numpy as np

from .regularize import regularize_after, regularize_before
from .rounding import flush_positive, flush_square, root_eps, scalar


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def adagrad_step(params, grads, sums, ema_params, steps, *, lr, lr_decay, eps, **regularization):
    """One Adagrad step (Duchi, Hazan and Singer 2011) on a list of arrays, in place.

    For every parameter p with gradient g and sum s of its squares, t being its step count::

        s = s + g * g
        p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    where g, and what else becomes of p, is as `numfuse.reference.regularize` says, for the learning
    rate lr / (1 + (t - 1) * lr_decay). Names and meanings are PyTorch's.

    params, grads, sums, ema_params : lists of arrays, float32 or float64, all of one dtype; the
        arrays of one index have one shape. A gradient of None leaves all that belongs to its
        parameter as it is. `ema_params` is None without an average.
    steps : int64 array (len(params),), the steps taken so far; counted up here.
    regularization : weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale;
        each is off unless given
    """
    for i, (p, g) in enumerate(zip(params, grads)):
        if g is None:
            continue
        steps[i] += 1
        step_lr = lr / (1 + float(steps[i] - 1) * lr_decay)
        g = regularize_before(g, p, lr=step_lr, **regularization)
        s = sums[i]
        g = flush_square(g, 1.0)
        s[...] = flush_positive(s + g * g)
        p[...] = p - scalar(step_lr, p.dtype) * (g / (np.sqrt(s) + root_eps(eps, p.dtype)))
        regularize_after(p, ema_params and ema_params[i], lr=step_lr, **regularization)
