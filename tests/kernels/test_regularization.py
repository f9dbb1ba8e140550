"""What every optimizer step has beside its own formula: clipping, penalties, decay, averages."""

import math

import numpy as np
import pytest

from helpers.cases import PLAIN
from helpers.optimizers import every_step

OPTIONS = [
    {},
    {"max_grad_value": 0.3},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled": True},
    {"l1": 0.2},
    {"l1": 0.2, "proximal": True},
    {"l1": 0.2, "weight_decay": 0.1},
    {"l1": 0.2, "weight_decay": 0.1, "proximal": True},
    {"max_grad_value": 0.3, "l1": 0.2, "weight_decay": 0.1, "grad_scale": 0.5, "maximize": True},
    {"max_grad_value": 0.3, "l1": 0.2, "weight_decay": 0.1, "decoupled": True, "proximal": True, "maximize": True},
]

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def textbook(step, p, grads, lr, *, weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize,
             grad_scale):
    """One number in double precision: p and its average after all gradients."""
    state, e = {}, p
    for t, g in enumerate(grads, 1):
        g = (-g if maximize else g) * grad_scale
        g = min(max(g, -max_grad_value), max_grad_value)
        if not decoupled:
            g += weight_decay * p
        if not proximal:
            g += l1 * (p > 0) - l1 * (p < 0)
        step_lr, change = step.update(step.plain, state, g, lr, t)
        p = (p * (1 - step_lr * weight_decay) if decoupled else p) - change
        if proximal:
            p = math.copysign(max(abs(p) - step_lr * l1, 0.0), p)
        e = ema_decay * e + (1 - ema_decay) * p
    return p, e


def run(kernels, step, param, grads, options, average=None, lr=0.1):
    states = {name: [np.zeros_like(param)] if name in step.plain_states else None for name in step.states}
    steps = np.zeros(1, np.int64)
    for grad in grads:
        getattr(kernels, step.kernel)(params=[param], grads=[grad], **states, ema_params=average and [average[0]],
                                      steps=steps, **{**PLAIN, **step.plain, **options, "lr": lr})
    return [state for state in states.values() if state]


def samples(count, dtype):
    """Parameters that stay away from 0, where the sign changes, and gradients of either sign."""
    rng = np.random.default_rng(7)
    param = rng.uniform(4, 5, 37) * rng.choice([-1, 1], 37)
    return param.astype(dtype), rng.uniform(-1, 1, (count, 37)).astype(dtype)


@every_step
@every_dtype
@pytest.mark.parametrize("averaged", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_formula(kernels, step, dtype, averaged, options):
    options = {**options, "ema_decay": 0.75 if averaged else 0.0}
    param, grads = samples(10, dtype)
    wanted = np.array([
        textbook(step, float(param[i]), grads[:, i].astype(np.float64), 0.1, **{**PLAIN, **options}) for i in range(37)
    ]).T
    average = [param.copy()] if averaged else None
    run(kernels, step, param, grads, options, average)
    # Less than 30 roundings a step, of numbers below 5; a quotient by at least eps = 0.1 magnifies those of an update,
    # which is lr times less, by 10.
    tolerance = 10 * 30 * np.finfo(dtype).eps * 5
    np.testing.assert_allclose(param, wanted[0], rtol=0, atol=tolerance)
    if averaged:
        np.testing.assert_allclose(average[0], wanted[1], rtol=0, atol=tolerance)


@every_step
@every_dtype
def test_what_asks_for_nothing_changes_no_bit(kernels, step, dtype):
    """A clip above all gradients takes the way of everything at once: it must end where the plain one does."""
    info = np.finfo(dtype)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, info.tiny, -info.tiny / 2, 1e-30], dtype)
    param, grad = (array.ravel() for array in np.meshgrid(special, [*special[[0, 3, 4, 5, 6, 7]], dtype(0.5)]))
    param, grad = np.resize(param, 300), np.resize(grad, 300)
    results = []
    for options in ({}, {"max_grad_value": float(info.max)}, {"ema_decay": 0.5}):
        for decay in (0.0, 0.1):
            copy = param.copy()
            average = [param.copy()] if "ema_decay" in options else None
            with np.errstate(all="ignore"):
                states = run(kernels, step, copy, [grad, grad],
                             {**options, "weight_decay": decay}, average)
            results.append([copy, *(state[0] for state in states)])
    for decayed in (0, 1):
        for other in results[2 + decayed :: 2]:
            for a, b in zip(results[decayed], other, strict=True):
                assert np.isnan(a).tolist() == np.isnan(b).tolist()
                assert np.nan_to_num(a).tobytes() == np.nan_to_num(b).tobytes()


@every_step
@every_dtype
def test_clipping_takes_infinity_to_the_limit_and_leaves_nan(kernels, step, dtype):
    huge, limited = np.ones(3, dtype), np.ones(3, dtype)
    run(kernels, step, huge, [np.array([np.inf, -1e30, np.nan], dtype)], {"max_grad_value": 0.25})
    run(kernels, step, limited, [np.array([0.25, -0.25, np.nan], dtype)], {})
    assert huge[:2].tolist() == limited[:2].tolist() and np.isnan(huge[2])


@every_step
@every_dtype
def test_the_proximal_step_sets_zeros_and_the_subgradient_does_not(kernels, step, dtype):
    start = np.array([0.04, -0.04, 0.03, -0.5, 0.5], dtype)
    proximal, subgradient = start.copy(), start.copy()
    zero = [np.zeros(5, dtype)]
    for param, options in ((proximal, {"proximal": True}), (subgradient, {})):
        run(kernels, step, param, zero, {"l1": 0.5, **options})  # lr * l1 = 0.05
    assert proximal[:3].tolist() == [0, 0, 0] and not np.signbit(proximal[:3]).any()
    np.testing.assert_allclose(proximal[3:], [-0.45, 0.45], rtol=2 * np.finfo(dtype).eps)
    assert subgradient.all() and (np.abs(subgradient[3:]) < 0.5).all()


@every_step
def test_the_subgradient_at_zero_is_zero(kernels, step):
    param = np.array([0.0, -0.0])
    run(kernels, step, param, [np.zeros(2)], {"l1": 0.5})
    assert not param.any()


@every_step
@every_dtype
def test_the_average_of_what_stays_is_what_it_was(kernels, step, dtype):
    param = np.random.default_rng(9).standard_normal(70).astype(dtype)
    average = [param.copy()]
    run(kernels, step, param, [np.zeros(70, dtype)] * 50, {"ema_decay": 0.999}, average)
    assert average[0].tobytes() == param.tobytes()


@every_step
def test_average_of_decay_zero_is_the_parameter(kernels, step):
    param, average = np.array([1.0, -2.0, 3.0]), [np.array([1.0, -2.0, 3.0])]
    run(kernels, step, param, [np.full(3, 0.5)] * 3, {}, average)
    np.testing.assert_allclose(average[0], param, rtol=2 * np.finfo(np.float64).eps)
