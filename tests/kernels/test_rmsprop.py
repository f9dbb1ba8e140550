import math

import numpy as np
import pytest

from helpers.cases import PLAIN

OPTIONS = {**PLAIN, "lr": 0.1, "alpha": 0.9, "eps": 1e-8, "momentum": 0.0, "nesterov": False}


def textbook(p, grads, lrs, centered, alpha, eps, momentum, nesterov, weight_decay, maximize, grad_scale, **_):
    """RMSProp on one number in double precision: p, s, a, b after all gradients; and how much worse
    conditioned than s the variance s - a * a was at most."""
    s = a = b = 0.0
    condition = 1.0
    for g, lr in zip(grads, lrs, strict=True):
        g = (-g if maximize else g) * grad_scale
        g = g + weight_decay * p
        s = alpha * s + (1 - alpha) * g * g
        variance = s
        if centered:
            a = alpha * a + (1 - alpha) * g
            variance = max(s - a * a, 0.0)
            condition = max(condition, s / variance)
        u = g / (math.sqrt(variance) + eps)
        b = momentum * b + u
        p = p - lr * (u + momentum * b if nesterov else b)
    return p, s, a, b, condition


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("options", [
    {},
    {"alpha": 0.99, "eps": 0.1},
    {"alpha": 0.99, "eps": 0.1, "grad_scale": 0.75, "maximize": True},
    {"weight_decay": 0.1, "maximize": True},
    {"momentum": 0.5},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
    {"momentum": 0.5, "weight_decay": 0.1, "eps": 1e-3, "maximize": True},
], ids=str)
def test_formula(kernels, dtype, centered, options):
    options = {**OPTIONS, **options}
    lrs = [0.1] * 5 + [0.03] * 5
    rng = np.random.default_rng(2)
    param = rng.uniform(-1, 1, 37).astype(dtype)
    grads = (rng.uniform(0.5, 1, (len(lrs), 37)) * rng.choice([-1, 1], (len(lrs), 37))).astype(dtype)
    rest = {name: value for name, value in options.items() if name != "lr"}
    p, s, a, b, condition = np.array([
        textbook(float(param[i]), grads[:, i].astype(np.float64), lrs, centered, **rest) for i in range(37)
    ]).T
    square, average, velocity = (np.zeros(37, dtype) for _ in range(3))
    steps = np.zeros(1, np.int64)
    for lr, grad in zip(lrs, grads):
        kernels.rmsprop_step(
            [param], [grad], [square], [average] if centered else None,
            [velocity] if options["momentum"] else None, None, steps, **{**options, "lr": lr},
        )
    # At most 12 operations and rounded scalars a step, and 1 / sqrt(1 - alpha) <= 10 bounds |u|; a
    # velocity is at most 1 / (1 - 0.5) of that, and a parameter moves by less.
    tolerance = len(lrs) * 12 * np.finfo(dtype).eps
    assert (np.abs(square - s) <= tolerance * 2).all()
    assert (np.abs(param - p) <= tolerance * 20 * condition).all()
    if centered:
        assert (np.abs(average - a) <= tolerance * 2).all()
    if options["momentum"]:
        assert (np.abs(velocity - b) <= tolerance * 20 * condition).all()
    assert steps.tolist() == [10]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centered_variance_that_rounds_below_zero_counts_as_zero(kernels, dtype):
    """Constant gradients: s and a * a meet, and some of 1000 numbers round to s < a * a."""
    grad = np.random.default_rng(3).uniform(0.5, 1, 1000).astype(dtype)
    param, square, average = np.zeros(1000, dtype), np.zeros(1000, dtype), np.zeros(1000, dtype)
    steps = np.zeros(1, np.int64)
    below = np.zeros(1000, bool)
    for _ in range(400):
        kernels.rmsprop_step([param], [grad], [square], [average], None, None, steps, **{**OPTIONS, "eps": 0.01})
        below |= square < average * average
    assert below.any() and np.isfinite(param).all()
    before = param.copy()
    kernels.rmsprop_step([param], [grad], [square], [average], None, None, steps, **{**OPTIONS, "eps": 0.01})
    below = square < average * average
    step = dtype(0.1) * (grad[below] / dtype(0.01))
    assert param[below].tolist() == (before[below] - step).tolist()


def test_eps_stands_outside_the_root(kernels):
    param, square, steps = np.zeros(1), np.zeros(1), np.zeros(1, np.int64)
    options = {**OPTIONS, "alpha": 0.0, "eps": 1.0}
    kernels.rmsprop_step([param], [np.ones(1)], [square], None, None, None, steps, **options)
    assert param.tolist() == [-0.1 * (1 / (1 + 1))]
