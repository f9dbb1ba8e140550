import math

import numpy as np
import pytest

from helpers.cases import PLAIN

OPTIONS = {**PLAIN, "lr": 0.1, "lr_decay": 0.0, "eps": 1e-10}


def textbook(p, grads, lrs, s, lr_decay, eps, weight_decay, maximize, grad_scale, t=0, **_):
    """Adagrad on one number in double precision: p and the sum after all gradients."""
    for g, lr in zip(grads, lrs, strict=True):
        g = (-g if maximize else g) * grad_scale + weight_decay * p
        s = s + g * g
        p = p - lr / (1 + t * lr_decay) * g / (math.sqrt(s) + eps)
        t += 1
    return p, s


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("initial", [0.0, 0.5])
@pytest.mark.parametrize("options", [
    {},
    {"lr_decay": 0.5},
    {"eps": 0.1, "maximize": True},
    {"weight_decay": 0.1, "lr_decay": 0.01, "grad_scale": 0.75},
], ids=str)
def test_formula(kernels, dtype, initial, options):
    options = {**OPTIONS, **options}
    lrs = [0.1] * 5 + [0.03] * 5
    rng = np.random.default_rng(4)
    param = rng.uniform(-1, 1, 37).astype(dtype)
    grads = (rng.uniform(0.5, 1, (10, 37)) * rng.choice([-1, 1], (10, 37))).astype(dtype)
    rest = {name: value for name, value in options.items() if name != "lr"}
    p, s = np.array([
        textbook(float(param[i]), grads[:, i].astype(np.float64), lrs, initial, **rest) for i in range(37)
    ]).T
    sums, steps = np.full(37, initial, dtype), np.zeros(1, np.int64)
    for lr, grad in zip(lrs, grads):
        kernels.adagrad_step([param], [grad], [sums], None, steps, **{**options, "lr": lr})
    # At most 12 roundings a step; sums stay below 20, and |g| / sqrt(s) is at most 1.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(param, p, rtol=0, atol=10 * 12 * eps)
    np.testing.assert_allclose(sums, s, rtol=0, atol=10 * 12 * eps * 20)
    assert steps.tolist() == [10]


@pytest.mark.parametrize("start", [1, 999, 2**31, 2**53, 2**62])
def test_learning_rate_at_any_step_count(kernels, start):
    param, sums, steps = np.zeros(1), np.zeros(1), np.array([start])
    kernels.adagrad_step([param], [np.ones(1)], [sums], None, steps, **{**OPTIONS, "lr": 1.0, "lr_decay": 1e-3})
    np.testing.assert_allclose(param, -1 / (1 + start * 1e-3), rtol=1e-9)  # eps is 1e-10 of the denominator


def test_every_tensor_has_its_own_learning_rate(kernels):
    params, sums, steps = [np.zeros(2), np.zeros(2)], [np.zeros(2), np.zeros(2)], np.array([0, 3])
    grads = [np.ones(2), np.ones(2)]
    kernels.adagrad_step(params, grads, sums, None, steps, **{**OPTIONS, "lr_decay": 1.0, "eps": 0.0, "lr": 1.0})
    assert [param.tolist() for param in params] == [[-1.0, -1.0], [-0.25, -0.25]]
