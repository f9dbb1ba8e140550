"""Parts of optimizer steps: the options beside their own formula, their arguments and passes, the regularization."""

import math
from functools import partial

import numpy as np

from ..case import ONE_SIZE, Case, state_names
from ..places import empty_like
from ..rivals import Unsupported

# The options of every step beside its own formula: nothing of it, nearly all of it, and the penalties as gradients.
PLAIN = {"weight_decay": 0.0, "decoupled": False, "l1": 0.0, "proximal": False, "max_grad_value": math.inf,
         "ema_decay": 0.0, "maximize": False, "grad_scale": 1.0}
REGULARIZED = {"max_grad_value": 1.5, "weight_decay": 0.1, "decoupled": True, "l1": 0.1, "proximal": True,
               "ema_decay": 0.999}
ELASTIC_NET = {"max_grad_value": 1.5, "weight_decay": 0.1, "l1": 0.1}


def step_case(kernel, options, state, *, averages=(), squares=(), sizes=ONE_SIZE, **hyper):
    """The case of a step with some of its lists of arrays.

    state : the names of the lists that there are, "ema_params" too; the others are None
    averages, squares : the names of the lists that the kernel can have: of averages of gradients, which may be
        negative, and of averages or sums of their squares
    """
    absent = [name for name in (*averages, *squares, "ema_params") if name not in state]
    arguments = partial(_arguments, state=state, squares=squares, **dict.fromkeys(absent), **hyper)
    return Case(kernel, options, arguments, _passes, sizes)


def _arguments(size, dtype, rng, *, state, squares, **options):
    arguments = {name: [rng.standard_normal(size, dtype=dtype)] for name in ("params", "grads")}
    for name in state:
        average = rng.standard_normal(size, dtype=dtype)
        # An average of squares is never below the square of the average.
        arguments[name] = [average * average + 1 if name in squares else average * 0.1]
    steps = np.array([10], dtype=np.int64)
    return arguments | {"steps": steps, "lr": 0.01} | PLAIN | options


def _passes(arguments):
    updates = [arguments[name] for name in state_names(arguments)]
    return [(arguments["grads"], sum(updates, []), [])]


def regularize_before(g, p, *, lr, weight_decay=0.0, decoupled=False, l1=0.0, proximal=False, max_grad_value=math.inf,
                      grad_scale=1.0, **_):
    """The gradient that a step's formula takes; decoupled decay shrinks p."""
    if grad_scale != 1:
        g = grad_scale * g
    if max_grad_value < math.inf:
        g = np.clip(g, -max_grad_value, max_grad_value)
    if weight_decay and decoupled:
        p -= lr * weight_decay * p
    elif weight_decay:
        g = g + weight_decay * p
    if l1 and not proximal:
        g = g + l1 * np.sign(p)
    return g


def regularize_after(p, ema_params, i, *, lr, l1=0.0, proximal=False, ema_decay=0.0, **_):
    """Apply the L1 threshold and average parameter i, after a step's formula."""
    if l1 and proximal:
        p[...] = np.sign(p) * np.maximum(np.abs(p) - lr * l1, 0)
    if ema_params is not None:
        ema_params[i] = ema_decay * ema_params[i] + (1 - ema_decay) * p


def regularizers(params, ema_params, *, weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize,
                 grad_scale):
    """Two functions, for gradient i before a step's formula, which returns it, and for parameter i after it."""
    changes = grad_scale != 1 or max_grad_value < math.inf or (weight_decay and not decoupled) or (l1 and not proximal)
    buffers = [empty_like(p, 7) for p in params] if changes else []
    scratch = [empty_like(p, 10) for p in params] if weight_decay or l1 or ema_params is not None else []

    def before(i, g, lr):
        p = params[i]
        if changes:
            g = np.multiply(g, grad_scale, out=buffers[i])
            np.clip(g, -max_grad_value, max_grad_value, out=g)
        if weight_decay and not decoupled:
            g += np.multiply(p, weight_decay, out=scratch[i])
        if l1 and not proximal:
            np.sign(p, out=scratch[i])
            scratch[i] *= l1
            g += scratch[i]
        if weight_decay and decoupled:
            p *= 1 - lr * weight_decay
        return g

    def after(i, lr):
        p = params[i]
        if l1 and proximal:
            # What is cut off p at the threshold stays of it no more.
            p -= np.clip(p, -lr * l1, lr * l1, out=scratch[i])
        if ema_params is not None:
            average(ema_params[i], p, ema_decay, scratch[i])

    return before, after


def average(e, p, ema_decay, scratch):
    """Move an average e of parameters towards p."""
    np.subtract(p, e, out=scratch)
    scratch *= 1 - ema_decay
    e += scratch


def plain(ema_params, *, weight_decay, l1, max_grad_value, grad_scale, decoupled=False, **_):
    """(weight_decay, grad_scale) of a step without what only numfuse does within its pass; else Unsupported."""
    if ema_params is not None or l1 or max_grad_value < math.inf or decoupled:
        raise Unsupported("clipping, L1, decoupled decay and averages are passes of their own")
    return weight_decay, grad_scale
