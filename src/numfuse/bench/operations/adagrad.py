"""Adagrad."""

from functools import partial

import numpy as np

from ..case import ALL_SIZES, ROUNDING
from ..places import empty_like
from .step import REGULARIZED, plain, regularize_after, regularize_before, regularizers, step_case

GROUP = "optimizers"
TOLERANCE = ROUNDING

_case = partial(step_case, "adagrad_step", squares=["sums"], lr_decay=0.1, eps=1e-3)
CASES = [_case("", ["sums"], sizes=ALL_SIZES), _case("regularized", ["sums", "ema_params"], **REGULARIZED)]


def textbook_adagrad_step(params, grads, sums, ema_params, steps, *, lr, lr_decay, eps, **regularization):
    for i, (p, g, t) in enumerate(zip(params, grads, steps.tolist())):
        step_lr = lr / (1 + t * lr_decay)
        g = regularize_before(g, p, lr=step_lr, **regularization)
        sums[i] = sums[i] + g**2
        p -= step_lr * g / (np.sqrt(sums[i]) + eps)
        regularize_after(p, ema_params, i, lr=step_lr, **regularization)
    steps += 1


def in_place_adagrad_step(params, grads, sums, ema_params, steps, *, lr, lr_decay, eps, **regularization):
    before, after = regularizers(params, ema_params, **regularization)
    scratch = [(empty_like(p, 8), empty_like(p, 9)) for p in params]

    def step():
        for i, (p, g, s, t) in enumerate(zip(params, grads, sums, steps.tolist())):
            (a, b), step_lr = scratch[i], lr / (1 + t * lr_decay)
            g = before(i, g, step_lr)
            s += np.multiply(g, g, out=a)
            np.sqrt(s, out=a)
            a += eps
            np.multiply(g, step_lr, out=b)
            p -= np.divide(b, a, out=a)
            after(i, step_lr)
        steps[...] += 1
    return step


def torch_adagrad_step(params, grads, sums, ema_params, steps, *, lr, lr_decay, eps, **regularization):
    import torch

    from ..peers import torch as peer

    weight_decay, grad_scale = plain(ema_params, **regularization)
    make = partial(torch.optim.Adagrad, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)
    return peer.steps(make, peer.FORMS_WITH_FUSED, grad_scale, steps, params, grads, sums=sums)
