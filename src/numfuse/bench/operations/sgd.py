"""SGD with momentum."""

from functools import cache, partial

import numpy as np

from ... import optim
from ..case import ALL_SIZES, ROUNDING
from ..places import empty_like
from ..rivals import Unsupported
from .step import REGULARIZED, plain, regularize_after, regularize_before, regularizers, step_case

GROUP = "optimizers"
TOLERANCE = ROUNDING

_case = partial(step_case, "sgd_step", averages=["momentum_buffers"], running_average=False)
CASES = [
    _case("", [], momentum=0.0, dampening=0.0, nesterov=False),
    _case("momentum", ["momentum_buffers"], momentum=0.9, dampening=0.9, nesterov=False, sizes=ALL_SIZES),
    _case("nesterov decay", ["momentum_buffers"], momentum=0.9, dampening=0.0, nesterov=True,
          weight_decay=0.1, grad_scale=0.3),
    _case("regularized", ["momentum_buffers", "ema_params"], momentum=0.9, dampening=0.0, nesterov=True,
          **REGULARIZED | {"running_average": True}),
]
OPTIMIZERS = {"sgd_step momentum": partial(optim.SGD, momentum=0.9, dampening=0.9)}


def textbook_sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
                      lr, momentum, dampening, running_average, nesterov, **regularization):
    if running_average:
        dampening = momentum
    for i, (p, g) in enumerate(zip(params, grads)):
        g = regularize_before(g, p, lr=lr, **regularization)
        if momentum:
            gain = (1 - dampening) * g if dampening else g
            momentum_buffers[i] = v = momentum * momentum_buffers[i] + gain
            g = gain + momentum * v if nesterov else v
        p -= lr * g
        regularize_after(p, ema_params, i, lr=lr, **regularization)


def in_place_sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
                      lr, momentum, dampening, running_average, nesterov, **regularization):
    if running_average:
        dampening = momentum
    before, after = regularizers(params, ema_params, **regularization)
    scratch = [(empty_like(p, 8), empty_like(p, 9)) for p in params]

    def step():
        for i, (p, g) in enumerate(zip(params, grads)):
            a, b = scratch[i]
            g = before(i, g, lr)
            if momentum:
                v = momentum_buffers[i]
                g = np.multiply(g, 1 - dampening, out=a) if dampening else g
                v *= momentum
                v += g
                if nesterov:
                    np.multiply(v, momentum, out=b)
                    b += g
                g = b if nesterov else v
            np.multiply(g, lr, out=a)
            p -= a
            after(i, lr)
    return step


def torch_sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
                   lr, momentum, dampening, running_average, nesterov, **regularization):
    import torch

    from ..peers import torch as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    if running_average:
        raise Unsupported("momentum is the heavy ball")
    make = partial(torch.optim.SGD, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                   nesterov=nesterov)
    return peer.steps(make, peer.FORMS_WITH_FUSED, grad_scale, steps, params, grads, momentum_buffers=momentum_buffers)


def jax_sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
                 lr, momentum, dampening, running_average, nesterov, **regularization):
    import optax

    from ..peers import jax as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    if running_average:
        raise Unsupported("momentum is the heavy ball")
    if momentum and dampening and nesterov:
        raise Unsupported("optax.trace cannot dampen Nesterov's momentum")
    parts = peer.scale(grad_scale) + peer.decay(weight_decay)
    if momentum:
        if dampening:
            parts += peer.scale(1 - dampening)
        parts.append((optax.trace(momentum, nesterov), optax.TraceState(peer.device(momentum_buffers))))
    return peer.step(parts, params, grads, lr, {"trace": "momentum_buffers"})


def numba_sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
                   lr, momentum, dampening, running_average, nesterov, **regularization):
    from ..peers import numba as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    if running_average:
        raise Unsupported("momentum is the heavy ball")
    lists = {"params": params, "grads": grads, "momentum_buffers": momentum_buffers}
    hyper = peer.scalars(params[0], peer.unless_one(grad_scale), lr, momentum, 1 - dampening, weight_decay or None)
    return peer.step(lists, [peer.call(_numba_loop(), *arrays, *hyper, nesterov) for arrays in peer.tensors(lists)])


@cache
def _numba_loop():
    from numba import prange

    def sgd(p, g, v, scale, lr, momentum, gain, weight_decay, nesterov):
        for i in prange(p.size):
            d = g[i]
            if scale is not None:
                d *= scale
            if weight_decay is not None:
                d += weight_decay * p[i]
            if v is not None:
                v[i] = momentum * v[i] + gain * d
                d = d + momentum * v[i] if nesterov else v[i]
            p[i] -= lr * d

    return sgd
