"""Lion."""

from functools import cache, partial

import numpy as np

from ... import optim
from ..case import ALL_SIZES, ROUNDING
from ..places import empty_like
from ..rivals import Unsupported
from .step import REGULARIZED, plain, regularize_after, regularize_before, regularizers, step_case

GROUP = "optimizers"
TOLERANCE = ROUNDING

_case = partial(step_case, "lion_step", averages=["exp_avgs"], beta1=0.9, beta2=0.99)
CASES = [
    _case("", ["exp_avgs"], sizes=ALL_SIZES),
    _case("decay", ["exp_avgs"], weight_decay=0.1, decoupled=True),
    _case("regularized", ["exp_avgs", "ema_params"], **REGULARIZED),
]
OPTIMIZERS = {"lion_step": partial(optim.Lion, betas=(0.9, 0.99))}


def textbook_lion_step(params, grads, exp_avgs, ema_params, steps, *, lr, beta1, beta2, **regularization):
    for i, (p, g) in enumerate(zip(params, grads)):
        g = regularize_before(g, p, lr=lr, **regularization)
        p -= lr * np.sign(beta1 * exp_avgs[i] + (1 - beta1) * g)
        exp_avgs[i] = beta2 * exp_avgs[i] + (1 - beta2) * g
        regularize_after(p, ema_params, i, lr=lr, **regularization)
    steps += 1


def in_place_lion_step(params, grads, exp_avgs, ema_params, steps, *, lr, beta1, beta2, **regularization):
    before, after = regularizers(params, ema_params, **regularization)
    scratch = [(empty_like(p, 8), empty_like(p, 9)) for p in params]

    def step():
        for i, (p, g, m) in enumerate(zip(params, grads, exp_avgs)):
            a, b = scratch[i]
            g = before(i, g, lr)
            np.multiply(m, beta1, out=a)
            a += np.multiply(g, 1 - beta1, out=b)
            np.sign(a, out=a)
            a *= lr
            p -= a
            m *= beta2
            m += np.multiply(g, 1 - beta2, out=b)
            after(i, lr)
        steps[...] += 1
    return step


def jax_lion_step(params, grads, exp_avgs, ema_params, steps, *, lr, beta1, beta2, decoupled, **regularization):
    import jax.numpy as jnp
    import optax

    from ..peers import jax as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    if np.any(steps != steps[0]):
        raise Unsupported("optax counts steps once for all parameters")
    state = optax.ScaleByLionState(jnp.array(steps[0], dtype=jnp.int32), peer.device(exp_avgs))
    parts = [(optax.scale_by_lion(beta1, beta2), state)]
    decay = peer.decay(weight_decay)
    parts = parts + decay if decoupled else decay + parts
    return peer.step(peer.scale(grad_scale) + parts, params, grads, lr, {"mu": "exp_avgs"})


def numba_lion_step(params, grads, exp_avgs, ema_params, steps, *, lr, beta1, beta2, decoupled, **regularization):
    from ..peers import numba as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    lists = {"params": params, "grads": grads, "exp_avgs": exp_avgs}
    decay = weight_decay if weight_decay and not decoupled else None
    shrink = 1 - lr * weight_decay if weight_decay and decoupled else None
    hyper = peer.scalars(params[0], peer.unless_one(grad_scale), lr, beta1, 1 - beta1, beta2, 1 - beta2, decay, shrink)
    return peer.step(lists, [peer.call(_numba_loop(), *arrays, *hyper) for arrays in peer.tensors(lists)])


@cache
def _numba_loop():
    from numba import prange

    def lion(p, g, m, scale, lr, beta1, gain1, beta2, gain2, weight_decay, shrink):
        for i in prange(p.size):
            d = g[i]
            if scale is not None:
                d *= scale
            if weight_decay is not None:
                d += weight_decay * p[i]
            c = beta1 * m[i] + gain1 * d
            m[i] = beta2 * m[i] + gain2 * d
            step = lr if c > 0 else -lr if c < 0 else lr * c
            p[i] = (p[i] if shrink is None else p[i] * shrink) - step

    return lion
