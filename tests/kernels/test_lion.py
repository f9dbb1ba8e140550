import numpy as np
import pytest

from helpers.cases import PLAIN

OPTIONS = {**PLAIN, "lr": 0.1, "beta1": 0.9, "beta2": 0.99}


def textbook(p, grads, lrs, beta1, beta2, weight_decay, decoupled, maximize, grad_scale, **_):
    """Lion on one number in double precision: p and the average after all gradients."""
    m = 0.0
    for g, lr in zip(grads, lrs, strict=True):
        g = (-g if maximize else g) * grad_scale
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        c = beta1 * m + (1 - beta1) * g
        m = beta2 * m + (1 - beta2) * g
        p = p - lr * np.sign(c)
    return p, m


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [
    {},
    {"beta1": 0.0, "maximize": True},
    {"beta1": 0.5, "beta2": 0.5},
    {"weight_decay": 0.1, "decoupled": True},
    {"weight_decay": 0.1, "grad_scale": 0.75},
], ids=str)
def test_formula(kernels, dtype, options):
    options = {**OPTIONS, **options}
    lrs = [0.1] * 5 + [0.03] * 5
    rng = np.random.default_rng(4)
    param = rng.uniform(2, 3, 37).astype(dtype)
    grads = (rng.uniform(0.5, 1, (10, 37)) * rng.choice([-1, 1], (10, 37))).astype(dtype)
    rest = {name: value for name, value in options.items() if name != "lr"}
    p, m = np.array([textbook(float(param[i]), grads[:, i].astype(np.float64), lrs, **rest) for i in range(37)]).T
    average, steps = np.zeros(37, dtype), np.zeros(1, np.int64)
    for lr, grad in zip(lrs, grads):
        kernels.lion_step([param], [grad], [average], None, steps, **{**options, "lr": lr})
    # At most 4 roundings a step of p, which stays below 4, and 5 of m, which stays below 2.
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(param, p, rtol=0, atol=10 * 4 * 4 * eps)
    np.testing.assert_allclose(average, m, rtol=0, atol=10 * 5 * 2 * eps)
    assert steps.tolist() == [10]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_stays_and_nan_shows(kernels, dtype):
    param = np.array([1, -0.0, 1, 1, 1, 1], dtype)
    grad = np.array([0, -0.0, np.inf, -np.inf, np.nan, np.finfo(dtype).tiny], dtype)
    average = np.zeros(6, dtype)
    kernels.lion_step([param], [grad], [average], None, np.zeros(1, np.int64), **{**OPTIONS, "lr": 0.5})
    np.testing.assert_array_equal(param, np.array([1, 0, 0.5, 1.5, np.nan, 1], dtype))
    assert np.signbit(param[1]) and average[5] == 0  # a hundredth of that gradient is subnormal
    grad[5] *= 128
    kernels.lion_step([param], [grad], [average], None, np.zeros(1, np.int64), **{**OPTIONS, "lr": 0.5})
    assert param[5] == 0.5 and average[5] > 0
