import numpy as np
import pytest

from helpers.cases import PLAIN

OPTIONS = {**PLAIN, "lr": 0.1, "momentum": 0.0, "dampening": 0.0, "running_average": False, "nesterov": False}


def textbook(p, grads, lrs, momentum, dampening, running_average, weight_decay, nesterov, maximize, grad_scale, **_):
    """SGD on one number in double precision: p and the velocity after all gradients."""
    v, gain = (0.0, 1 - momentum) if running_average else (None, 1 - dampening)
    for g, lr in zip(grads, lrs, strict=True):
        g = (-g if maximize else g) * grad_scale
        g = g + weight_decay * p
        if momentum:
            v = g if v is None else momentum * v + gain * g
            g = gain * g + momentum * v if nesterov else v
        p = p - lr * g
    return p, v


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "grad_scale": 0.3, "weight_decay": 0.1, "maximize": True},
    {"momentum": 0.9, "dampening": 0.9},
    {"momentum": 0.9, "nesterov": True, "maximize": True},
    {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.1, "maximize": True},
    {"momentum": 0.9, "running_average": True},
    {"momentum": 0.9, "running_average": True, "nesterov": True, "weight_decay": 0.1, "grad_scale": 0.3},
    {"momentum": 0.0, "running_average": True},
], ids=str)
def test_formula(kernels, dtype, options):
    options = {**OPTIONS, **options}
    lrs = [0.1] * 5 + [0.03] * 5
    rng = np.random.default_rng(1)
    param = rng.uniform(-1, 1, 37).astype(dtype)
    grads = rng.uniform(-1, 1, (len(lrs), 37)).astype(dtype)
    rest = {name: value for name, value in options.items() if name != "lr"}
    p, v = np.array([
        textbook(float(param[i]), grads[:, i].astype(np.float64), lrs, **rest) for i in range(37)
    ], dtype=np.float64).T
    velocities = [np.zeros(37, dtype)] if options["momentum"] else None
    steps = np.zeros(1, np.int64)
    for lr, grad in zip(lrs, grads):
        kernels.sgd_step([param], [grad], velocities, None, steps, **{**options, "lr": lr})
    # At most 8 operations and rounded scalars a step, on numbers below the largest velocity, 1 / (1 - 0.9).
    tolerance = len(lrs) * 8 * np.finfo(dtype).eps * 10
    np.testing.assert_allclose(param, p, rtol=0, atol=tolerance)
    if velocities:
        np.testing.assert_allclose(velocities[0], v, rtol=0, atol=tolerance)
    assert steps.tolist() == [10]


@pytest.mark.parametrize("dampening", [0.0, 0.9])
def test_first_velocity_is_the_gradient_whatever_the_buffer_held(kernels, dampening):
    param, grad = np.ones(3, np.float32), np.array([1.0, -2.0, 0.5], np.float32)
    velocity, steps = np.full(3, np.nan, np.float32), np.zeros(1, np.int64)
    options = {**OPTIONS, "lr": 0.5, "momentum": 0.9, "dampening": dampening}
    kernels.sgd_step([param], [grad], [velocity], None, steps, **options)
    assert velocity.tolist() == [1.0, -2.0, 0.5]
    assert param.tolist() == [0.5, 2.0, 0.75]
    kernels.sgd_step([param], [None], [velocity], None, steps, **options)
    assert steps.tolist() == [1]


def test_each_tensor_has_its_own_first_step(kernels):
    params = [np.zeros(2, np.float32), np.zeros(2, np.float32)]
    grads = [np.ones(2, np.float32), np.ones(2, np.float32)]
    velocities, steps = [np.zeros(2, np.float32), np.zeros(2, np.float32)], np.zeros(2, np.int64)
    options = {**OPTIONS, "momentum": 0.5, "dampening": 0.5}
    kernels.sgd_step(params, [grads[0], None], velocities, None, steps, **options)
    kernels.sgd_step(params, grads, velocities, None, steps, **options)
    assert steps.tolist() == [2, 1]
    assert [v.tolist() for v in velocities] == [[1.0, 1.0], [1.0, 1.0]]
    grads[0][...] = 3
    kernels.sgd_step(params, grads, velocities, None, steps, **options)
    assert [v.tolist() for v in velocities] == [[2.0, 2.0], [1.0, 1.0]]


def test_lr_zero_moves_the_velocity_only(kernels):
    param, velocity, steps = np.ones(3, np.float32), np.zeros(3, np.float32), np.zeros(1, np.int64)
    options = {**OPTIONS, "lr": 0.0, "momentum": 0.9}
    kernels.sgd_step([param], [np.full(3, 2.0, np.float32)], [velocity], None, steps, **options)
    assert param.tolist() == [1.0] * 3 and velocity.tolist() == [2.0] * 3


@pytest.mark.parametrize("nesterov", [False, True])
def test_running_average_takes_the_steps_of_the_heavy_ball_with_a_smaller_learning_rate(kernels, nesterov):
    """A quarter of it, as of the velocity, with momentum 3/4; all is exact."""
    ball, average, velocity, mean = np.ones(3), np.ones(3), np.zeros(3), np.zeros(3)
    options = {**OPTIONS, "momentum": 0.75, "nesterov": nesterov}
    for t in range(6):
        grad, steps = np.array([1.0, -2.0, 0.5]) * (t + 1), np.array([t])
        kernels.sgd_step([ball], [grad], [velocity], None, steps.copy(), **{**options, "lr": 0.25})
        kernels.sgd_step([average], [grad], [mean], None, steps, **{**options, "lr": 1.0, "running_average": True})
        assert average.tolist() == ball.tolist() and mean.tolist() == (velocity / 4).tolist()


def test_constant_gradients_are_their_own_running_average(kernels):
    param, velocity, steps = np.zeros(2), np.zeros(2), np.zeros(1, np.int64)
    for _ in range(60):
        options = {**OPTIONS, "momentum": 0.5, "running_average": True}
        kernels.sgd_step([param], [np.array([1.0, -3.0])], [velocity], None, steps, **options)
    assert velocity.tolist() == [1.0, -3.0]
