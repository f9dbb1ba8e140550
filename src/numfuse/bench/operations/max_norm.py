"""The limit of the norm of each row, and moving averages of parameters."""

import math

import numpy as np

from ..case import ROUNDING, ROWS, Case, flat, shape_of
from ..places import empty_like
from .step import average

GROUP = "optimizers"
TOLERANCE = ROUNDING


def _arguments(size, dtype, rng):
    shape = shape_of(size, flat)
    params, averages = ([rng.standard_normal(shape, dtype=dtype)] for _ in range(2))
    # That is about the norm of standard normal rows: of half of them it is more.
    return {"params": params, "ema_params": averages, "max_norm": max(1, math.sqrt(shape[1])), "ema_decay": 0.999}


def _passes(arguments):
    return [([], arguments["params"] + arguments["ema_params"], [])]


CASES = [Case("max_norm", "", _arguments, _passes, ROWS)]


def textbook_max_norm(params, ema_params, *, max_norm, ema_decay):
    for i, p in enumerate(params):
        if p.ndim >= 2:
            norm = np.sqrt(np.sum(p**2, axis=tuple(range(1, p.ndim)), keepdims=True))
            p *= np.minimum(1, max_norm / np.maximum(norm, 1e-30))
        if ema_params is not None:
            ema_params[i] = ema_decay * ema_params[i] + (1 - ema_decay) * p


def in_place_max_norm(params, ema_params, *, max_norm, ema_decay):
    scratch = [empty_like(p, 8) for p in params]

    def step():
        for i, (p, a) in enumerate(zip(params, scratch)):
            if p.ndim >= 2:
                np.multiply(p, p, out=a)
                norm = a.sum(axis=tuple(range(1, p.ndim)), keepdims=True)
                np.sqrt(norm, out=norm)
                np.maximum(norm, max_norm, out=norm)
                np.divide(max_norm, norm, out=norm)
                p *= norm
            if ema_params is not None:
                average(ema_params[i], p, ema_decay, a)
    return step
