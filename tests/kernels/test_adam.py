import math

import numpy as np
import pytest

from helpers.cases import PLAIN

OPTIONS = {**PLAIN, "lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}


def textbook(p, grads, lrs, amsgrad, beta1, beta2, eps, weight_decay, decoupled, maximize, grad_scale,
             m=0.0, v=0.0, t=0, **_):
    """Adam on one number in double precision: p, m, v, w after all gradients, from step count t on."""
    w = v
    for g, lr in zip(grads, lrs, strict=True):
        t += 1
        g = (-g if maximize else g) * grad_scale
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        w = max(w, v)
        denominator = math.sqrt((w if amsgrad else v) / (1 - beta2**t)) + eps
        p = p - lr * (m / (1 - beta1**t)) / denominator
    return p, m, v, w


def run(kernels, param, grads, lrs, options, amsgrad=False, start=0, m=0.0, v=0.0):
    exp_avg, exp_avg_sq, largest = (np.full_like(param, value) for value in (m, v, v))
    steps = np.array([start], np.int64)
    for lr, grad in zip(lrs, grads):
        kernels.adam_step([param], [grad], [exp_avg], [exp_avg_sq], [largest] if amsgrad else None, None, steps,
                          **{**options, "lr": lr})
    assert steps.tolist() == [start + len(lrs)]
    return exp_avg, exp_avg_sq, largest


def samples(steps, dtype):
    """Parameters and gradients with |g| between 1/2 and 1, so that no quotient is ill-conditioned."""
    rng = np.random.default_rng(4)
    grads = rng.uniform(0.5, 1, (steps, 37)) * rng.choice([-1, 1], (steps, 37))
    return rng.uniform(-1, 1, 37).astype(dtype), grads.astype(dtype)


def without_lr(options):
    return {name: value for name, value in options.items() if name != "lr"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("options", [
    {},
    {"beta1": 0.0, "beta2": 0.5},
    {"eps": 0.1, "maximize": True},
    {"eps": 0.1, "grad_scale": 0.75, "weight_decay": 0.1},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled": True},
    {"weight_decay": 0.1, "decoupled": True, "maximize": True, "eps": 1e-3},
], ids=str)
def test_formula(kernels, dtype, amsgrad, options):
    options = {**OPTIONS, **options}
    lrs = [0.1] * 5 + [0.03] * 5
    param, grads = samples(len(lrs), dtype)
    wanted = np.array([
        textbook(float(param[i]), grads[:, i].astype(np.float64), lrs, amsgrad, **without_lr(options))
        for i in range(37)
    ]).T
    actual = (param, *run(kernels, param, grads, lrs, options, amsgrad))
    # At most 20 operations and rounded scalars a step; the second moment, corrected, is at least
    # (1/2)^2, so an update is at most 2 lr / (1/2) and no quotient magnifies an error by more than 4.
    tolerance = len(lrs) * 20 * np.finfo(dtype).eps * 4
    for got, want in zip(actual, wanted if amsgrad else wanted[:3]):
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("start", [1, 999, 10**6, 2**31, 2**53, 2**62])
def test_bias_correction_at_any_step_count(kernels, dtype, start):
    options = {**OPTIONS, "beta1": 1 - 1e-6, "beta2": 1 - 2.0**-20}
    param, grads = samples(1, dtype)
    wanted = np.array([
        textbook(float(param[i]), grads[:, i].astype(np.float64), [0.1], False, **without_lr(options),
                 m=0.25, v=0.25, t=start)
        for i in range(37)
    ]).T
    # A power by squaring is the product of t numbers, t roundings; 1 - beta^t carries their sum over.
    t = start + 1
    powers = [options[name] ** t for name in ("beta1", "beta2")]
    scalars = sum(t * power / (1 - power) for power in powers) * np.finfo(np.float64).eps
    moved = np.abs(wanted[0] - param)
    run(kernels, param, grads, [0.1], options, start=start, m=0.25, v=0.25)
    tolerance = moved * (20 * np.finfo(dtype).eps + scalars) + 2 * np.finfo(dtype).eps
    assert (np.abs(param - wanted[0]) <= tolerance).all()


def test_first_step_has_the_size_of_lr_whatever_the_gradient(kernels):
    param, grads = np.zeros(4), [np.array([1e-3, -7.0, 1e5, 0.0])]
    run(kernels, param, grads, [0.1], {**OPTIONS, "eps": 1e-30, "maximize": True})
    np.testing.assert_allclose(param, [0.1, -0.1, 0.1, 0.0], rtol=20 * np.finfo(np.float64).eps)


def test_amsgrad_keeps_the_largest_second_moment(kernels):
    param = np.zeros(3, np.float32)
    grads = [np.full(3, value, np.float32) for value in (4.0, 0.0, 0.0, 1.0)]
    _, second_moment, largest = run(kernels, param, grads, [0.1] * 4, {**OPTIONS, "beta2": 0.5}, amsgrad=True)
    assert largest.tolist() == [8.0] * 3 and (second_moment < 8).all()


def test_decay_of_adam_is_scaled_by_the_gradient_and_that_of_adamw_is_not(kernels):
    """With zero gradients AdamW shrinks a parameter by lr * weight_decay, Adam moves it by lr."""
    coupled, decoupled, zero = np.full(3, 2.0), np.full(3, 2.0), [np.zeros(3)]
    run(kernels, coupled, zero, [0.125], {**OPTIONS, "weight_decay": 0.5, "eps": 1e-30})
    run(kernels, decoupled, zero, [0.125], {**OPTIONS, "weight_decay": 0.5, "decoupled": True})
    assert decoupled.tolist() == [2.0 * (1 - 0.125 * 0.5)] * 3
    np.testing.assert_allclose(coupled, 2.0 - 0.125, rtol=20 * np.finfo(np.float64).eps)
