"""Adam, AdamW and AMSGrad."""

import math
from functools import cache, partial

import numpy as np

from ... import optim
from ..case import ALL_SIZES, ROUNDING
from ..places import empty_like
from ..rivals import Unsupported
from .step import ELASTIC_NET, REGULARIZED, plain, regularize_after, regularize_before, regularizers, step_case

GROUP = "optimizers"
TOLERANCE = ROUNDING

# With the usual eps of 1e-8 a kernel that forgot it would hardly be found out.
_case = partial(step_case, "adam_step", averages=["exp_avgs"], squares=["exp_avg_sqs", "max_exp_avg_sqs"],
                beta1=0.9, beta2=0.999, eps=1e-3)
_moments = ["exp_avgs", "exp_avg_sqs"]
CASES = [
    _case("", _moments, sizes=ALL_SIZES),
    _case("adamw", _moments, decoupled=True, weight_decay=0.1, sizes=ALL_SIZES),
    _case("amsgrad", [*_moments, "max_exp_avg_sqs"], weight_decay=0.1),
    _case("regularized", [*_moments, "ema_params"], sizes=ALL_SIZES, **REGULARIZED),
    _case("elastic net", _moments, **ELASTIC_NET),
]
OPTIMIZERS = {
    "adam_step": partial(optim.Adam, eps=1e-3),
    "adam_step adamw": partial(optim.AdamW, weight_decay=0.1, eps=1e-3),
}


def textbook_adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
                       lr, beta1, beta2, eps, **regularization):
    steps += 1
    for i, (p, g, t) in enumerate(zip(params, grads, steps.tolist())):
        g = regularize_before(g, p, lr=lr, **regularization)
        exp_avgs[i] = beta1 * exp_avgs[i] + (1 - beta1) * g
        exp_avg_sqs[i] = v = beta2 * exp_avg_sqs[i] + (1 - beta2) * g**2
        if max_exp_avg_sqs is not None:
            max_exp_avg_sqs[i] = v = np.maximum(max_exp_avg_sqs[i], v)
        m_hat = exp_avgs[i] / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p -= lr * m_hat / (np.sqrt(v_hat) + eps)
        regularize_after(p, ema_params, i, lr=lr, **regularization)


def in_place_adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
                       lr, beta1, beta2, eps, **regularization):
    before, after = regularizers(params, ema_params, **regularization)
    scratch = [empty_like(p, 8) for p in params]

    def step():
        steps[...] += 1
        for i, (p, g, m, v, t) in enumerate(zip(params, grads, exp_avgs, exp_avg_sqs, steps.tolist())):
            a, g = scratch[i], before(i, g, lr)
            np.multiply(g, 1 - beta1, out=a)
            m *= beta1
            m += a
            np.multiply(g, g, out=a)
            a *= 1 - beta2
            v *= beta2
            v += a
            if max_exp_avg_sqs is not None:
                v = np.maximum(max_exp_avg_sqs[i], v, out=max_exp_avg_sqs[i])
            root = math.sqrt(1 - beta2**t)
            np.sqrt(v, out=a)
            a += eps * root
            np.divide(m, a, out=a)
            a *= lr * root / (1 - beta1**t)
            p -= a
            after(i, lr)
    return step


def torch_adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
                    lr, beta1, beta2, eps, decoupled, **regularization):
    import torch

    from ..peers import torch as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    optimizer = torch.optim.AdamW if decoupled else torch.optim.Adam
    make = partial(optimizer, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay,
                   amsgrad=max_exp_avg_sqs is not None)
    return peer.steps(make, peer.FORMS_WITH_FUSED, grad_scale, steps, params, grads, exp_avgs=exp_avgs,
                      exp_avg_sqs=exp_avg_sqs, max_exp_avg_sqs=max_exp_avg_sqs)


def jax_adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
                  lr, beta1, beta2, eps, decoupled, **regularization):
    import jax.numpy as jnp
    import optax

    from ..peers import jax as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    if max_exp_avg_sqs is not None:
        raise Unsupported("optax.amsgrad takes the maximum after the bias correction, or leaves that out")
    if np.any(steps != steps[0]):
        raise Unsupported("optax counts steps once for all parameters")
    count = jnp.array(steps[0], dtype=jnp.int32)
    state = optax.ScaleByAdamState(count, peer.device(exp_avgs), peer.device(exp_avg_sqs))
    parts = [(optax.scale_by_adam(beta1, beta2, eps), state)]
    decay = peer.decay(weight_decay)
    parts = parts + decay if decoupled else decay + parts
    return peer.step(peer.scale(grad_scale) + parts, params, grads, lr, {"mu": "exp_avgs", "nu": "exp_avg_sqs"})


def numba_adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
                    lr, beta1, beta2, eps, decoupled, **regularization):
    from ..peers import numba as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    lists = {"params": params, "grads": grads, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs,
             "max_exp_avg_sqs": max_exp_avg_sqs}
    decay = weight_decay if weight_decay and not decoupled else None
    shrink = 1 - lr * weight_decay if weight_decay and decoupled else None
    hyper = peer.scalars(params[0], peer.unless_one(grad_scale), beta1, 1 - beta1, beta2, 1 - beta2, eps, decay, shrink)
    corrections = np.empty((len(params), 2), dtype=params[0].dtype)

    def correct():
        steps[...] += 1
        for i, t in enumerate(steps.tolist()):
            corrections[i] = lr / (1 - beta1**t), 1 / (1 - beta2**t) ** 0.5

    calls = [peer.call(_numba_loop(), *arrays, row, *hyper) for arrays, row in zip(peer.tensors(lists), corrections)]
    return peer.step(lists, [correct, *calls])


@cache
def _numba_loop():
    from numba import prange

    def adam(p, g, m, v, w, corrections, scale, beta1, gain1, beta2, gain2, eps, decay, shrink):
        step_size, root_scale = corrections
        for i in prange(p.size):
            d = g[i]
            if scale is not None:
                d *= scale
            if decay is not None:
                d += decay * p[i]
            m[i] = beta1 * m[i] + gain1 * d
            v[i] = beta2 * v[i] + gain2 * d * d
            square = v[i]
            if w is not None:
                w[i] = square = max(w[i], square)
            if shrink is not None:
                p[i] *= shrink
            p[i] -= step_size * (m[i] / (np.sqrt(square) * root_scale + eps))

    return adam
