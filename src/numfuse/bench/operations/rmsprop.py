"""RMSProp."""

from functools import cache, partial

import numpy as np

from ... import optim
from ..case import ALL_SIZES, ROUNDING
from ..places import empty_like
from ..rivals import Unsupported
from .step import REGULARIZED, plain, regularize_after, regularize_before, regularizers, step_case

GROUP = "optimizers"
TOLERANCE = ROUNDING

_case = partial(step_case, "rmsprop_step", averages=["grad_avgs", "momentum_buffers"], squares=["square_avgs"],
                alpha=0.99, eps=1e-3)
CASES = [
    _case("", ["square_avgs"], momentum=0.0, nesterov=False, sizes=ALL_SIZES),
    _case("centered momentum", ["square_avgs", "grad_avgs", "momentum_buffers"], momentum=0.9, nesterov=False),
    _case("regularized", ["square_avgs", "momentum_buffers", "ema_params"], momentum=0.9, nesterov=True,
          **REGULARIZED),
]
OPTIMIZERS = {"rmsprop_step": partial(optim.RMSProp, eps=1e-3)}


def textbook_rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                          lr, alpha, eps, momentum, nesterov, **regularization):
    for i, (p, g) in enumerate(zip(params, grads)):
        g = regularize_before(g, p, lr=lr, **regularization)
        square_avgs[i] = variance = alpha * square_avgs[i] + (1 - alpha) * g**2
        if grad_avgs is not None:
            grad_avgs[i] = alpha * grad_avgs[i] + (1 - alpha) * g
            variance = np.maximum(variance - grad_avgs[i] ** 2, 0)
        u = g / (np.sqrt(variance) + eps)
        if momentum:
            momentum_buffers[i] = b = momentum * momentum_buffers[i] + u
            u = u + momentum * b if nesterov else b
        p -= lr * u
        regularize_after(p, ema_params, i, lr=lr, **regularization)


def in_place_rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                          lr, alpha, eps, momentum, nesterov, **regularization):
    before, after = regularizers(params, ema_params, **regularization)
    scratch = [empty_like(p, 8) for p in params]

    def step():
        for i, (p, g, s, a) in enumerate(zip(params, grads, square_avgs, scratch)):
            g = before(i, g, lr)
            np.multiply(g, g, out=a)
            a *= 1 - alpha
            s *= alpha
            s += a
            if grad_avgs is None:
                np.sqrt(s, out=a)
            else:
                average = grad_avgs[i]
                np.multiply(g, 1 - alpha, out=a)
                average *= alpha
                average += a
                np.multiply(average, average, out=a)
                np.subtract(s, a, out=a)
                np.maximum(a, 0, out=a)
                np.sqrt(a, out=a)
            a += eps
            np.divide(g, a, out=a)
            if momentum:
                momentum_buffers[i] *= momentum
                momentum_buffers[i] += a
                if nesterov:
                    a *= lr
                    p -= a
                np.multiply(momentum_buffers[i], lr * momentum if nesterov else lr, out=a)
            else:
                a *= lr
            p -= a
            after(i, lr)
    return step


def torch_rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                       lr, alpha, eps, momentum, nesterov, **regularization):
    import torch

    from ..peers import torch as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    if nesterov:
        raise Unsupported("RMSProp has no Nesterov momentum")
    make = partial(torch.optim.RMSprop, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay,
                   momentum=momentum, centered=grad_avgs is not None)
    return peer.steps(make, peer.FORMS, grad_scale, steps, params, grads, square_avgs=square_avgs, grad_avgs=grad_avgs,
                      momentum_buffers=momentum_buffers)


def jax_rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                     lr, alpha, eps, momentum, nesterov, **regularization):
    import optax

    from ..peers import jax as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    if nesterov:
        raise Unsupported("RMSProp has no Nesterov momentum")
    # optax.rmsprop puts the learning rate before the momentum, and the buffers hold it.
    parts, nu = peer.scale(grad_scale) + peer.decay(weight_decay), peer.device(square_avgs)
    if grad_avgs is None:
        parts.append((optax.scale_by_rms(alpha, eps, eps_in_sqrt=False), optax.ScaleByRmsState(nu)))
    else:
        state = optax.ScaleByRStdDevState(peer.device(grad_avgs), nu)
        parts.append((optax.scale_by_stddev(alpha, eps, eps_in_sqrt=False), state))
    if momentum:
        parts.append((optax.trace(momentum), optax.TraceState(peer.device(momentum_buffers))))
    names = {"nu": "square_avgs", "mu": "grad_avgs", "trace": "momentum_buffers"}
    return peer.step(parts, params, grads, lr, names)


def numba_rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                       lr, alpha, eps, momentum, nesterov, **regularization):
    from ..peers import numba as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    if nesterov:
        raise Unsupported("RMSProp has no Nesterov momentum")
    lists = {"params": params, "grads": grads, "square_avgs": square_avgs, "grad_avgs": grad_avgs,
             "momentum_buffers": momentum_buffers}
    hyper = peer.scalars(params[0], peer.unless_one(grad_scale), lr, alpha, 1 - alpha, eps, momentum,
                         weight_decay or None, 0)
    return peer.step(lists, [peer.call(_numba_loop(), *arrays, *hyper) for arrays in peer.tensors(lists)])


@cache
def _numba_loop():
    from numba import prange

    def rmsprop(p, g, s, a, b, scale, lr, alpha, gain, eps, momentum, weight_decay, zero):
        for i in prange(p.size):
            d = g[i]
            if scale is not None:
                d *= scale
            if weight_decay is not None:
                d += weight_decay * p[i]
            s[i] = alpha * s[i] + gain * d * d
            variance = s[i]
            if a is not None:
                a[i] = alpha * a[i] + gain * d
                variance = max(variance - a[i] * a[i], zero)
            u = d / (np.sqrt(variance) + eps)
            if b is not None:
                b[i] = momentum * b[i] + u
                u = b[i]
            p[i] -= lr * u

    return rmsprop
