"""Gradients that are not finite, norms of very large ones, and gradients that are scaled."""

import copy
import math
import pickle

import numpy as np
import pytest

from helpers.optimizers import FULL, every_backend, every_class
from numfuse import nn
from numfuse.optim import SGD, Adam

EPS = np.finfo(np.float64).eps

either_option = pytest.mark.parametrize("options", [
    {"max_grad_norm": 1.0}, {"skip_nonfinite": True}, {"max_grad_norm": 1.0, "skip_nonfinite": True},
], ids=["max_grad_norm", "skip_nonfinite", "both"])


def everything(optimizer):
    """All that a step may change."""
    params = [param.tobytes() for group in optimizer.param_groups for param in group["params"]]
    state = optimizer.state_dict()
    state.pop("skipped_steps")
    return params, pickle.dumps(state)


def two_groups(cls, **options):
    """Three parameters of two dtypes in two groups."""
    params = [np.ones(3, np.float32), np.ones((2, 2)), np.ones((), np.float32)]
    return cls([{"params": params[:2]}, {"params": params[2:], "lr": 0.5}], lr=0.1, **options)


def one_group(cls, **options):
    return cls([np.ones(3, np.float32), np.ones((2, 2), np.float32), np.ones((), np.float32)], lr=0.1, **options)


def gradients(optimizer, value=0.5):
    return [np.full_like(param, value) for group in optimizer.param_groups for param in group["params"]]


@every_class
@every_backend
@either_option
@pytest.mark.parametrize("make", [one_group, two_groups])
def test_a_step_with_a_gradient_that_is_not_finite_is_skipped_whole(cls, backend, options, make):
    optimizer = make(cls, **options).set_backend(backend)
    assert optimizer.step(gradients(optimizer)) is True
    undisturbed, before, skipped = copy.deepcopy(optimizer), everything(optimizer), 0
    for value in (np.nan, np.inf, -np.inf):
        for i in range(3):
            grads = gradients(optimizer)
            grads[i][(0,) * grads[i].ndim] = value
            with np.errstate(all="raise"):
                assert optimizer.step(grads) is False
            skipped += 1
            assert everything(optimizer) == before and optimizer.skipped_steps == skipped
            assert math.isnan(optimizer.grad_norm) if np.isnan(value) else optimizer.grad_norm == math.inf
    assert optimizer.step(gradients(optimizer)) and undisturbed.step(gradients(optimizer))
    assert everything(optimizer) == everything(undisturbed)


@every_backend
def test_infinity_and_nan_together_make_a_norm_of_nan(backend):
    optimizer = two_groups(SGD, skip_nonfinite=True).set_backend(backend)
    grads = gradients(optimizer)
    grads[0][1], grads[1][0, 0] = np.inf, np.nan
    assert not optimizer.step(grads) and math.isnan(optimizer.grad_norm)


@every_class
def test_without_the_options_no_step_is_skipped(cls):
    optimizer = one_group(cls)
    grads = gradients(optimizer)
    grads[0][1] = np.nan
    assert optimizer.step(grads) is True and optimizer.skipped_steps == 0 and optimizer.grad_norm is None
    assert not np.isfinite(optimizer.param_groups[0]["params"][0][1])


@every_backend
@pytest.mark.parametrize("make", [one_group, two_groups])
def test_wrong_gradients_are_refused_and_not_skipped(backend, make):
    optimizer = make(Adam, skip_nonfinite=True).set_backend(backend)
    before = everything(optimizer)
    for wrong, error in ((np.ones(4, np.float32), ValueError), (np.ones(3, int), TypeError)):
        with pytest.raises(error, match=r"^grads\[0\] must"):
            optimizer.step([wrong, *[np.full_like(grad, np.nan) for grad in gradients(optimizer)[1:]]])
    with pytest.raises(ValueError, match="^grads must have length 3"):
        optimizer.step([np.full(3, np.nan, np.float32)])
    assert everything(optimizer) == before and optimizer.skipped_steps == 0 and optimizer.grad_norm is None


@every_backend
@pytest.mark.parametrize("options", [{"skip_nonfinite": True}, {"max_grad_norm": 10.0}], ids=str)
def test_squares_beyond_float64_are_no_infinite_gradients(backend, options):
    params = [np.zeros((2, 3)), np.zeros(()), np.zeros(0), np.zeros(2), np.zeros(3, np.float32)]
    optimizer = SGD(params, lr=0.5, **options).set_backend(backend)
    grads = [np.asfortranarray(np.full((2, 3), -1e200)).copy(), np.array(2e200), np.zeros(0), None,
             np.full(3, 3, np.float32)]
    assert optimizer.step(grads) is True
    norm = 1e200 * math.sqrt(6 + 4)
    assert math.isclose(optimizer.grad_norm, norm, rel_tol=16 * EPS)
    scale = 10 / norm if "max_grad_norm" in options else 1.0
    np.testing.assert_allclose(params[0], np.full((2, 3), 0.5e200 * scale), rtol=32 * EPS)
    assert math.isclose(params[1], -1e200 * scale, rel_tol=32 * EPS) and not params[3].any()


@every_backend
def test_a_norm_beyond_float64_is_skipped(backend):
    param = np.ones(4)
    optimizer = SGD([param], skip_nonfinite=True).set_backend(backend)
    assert optimizer.step([np.full(4, 1.7e308)]) is False
    assert optimizer.grad_norm == math.inf and (param == 1).all()
    assert optimizer.step([np.array([1.7e308, 0, 0, 0])]) is True
    assert optimizer.grad_norm == 1.7e308


@every_class
@every_backend
@pytest.mark.parametrize("scale", [0.25, 3, 0])
def test_grad_scale_is_the_step_with_scaled_gradients(cls, backend, scale):
    rng = np.random.default_rng(0)
    options = {name: value for name, value in FULL[cls].items() if name == "momentum"}
    scaled, plain = (two_groups(cls, **options) for _ in range(2))
    for _ in range(3):
        grads = [np.asarray(rng.standard_normal(grad.shape), grad.dtype) for grad in gradients(scaled)]
        scaled.set_backend(backend).step(grads, grad_scale=scale)
        plain.set_backend(backend).step([np.asarray(grad * grad.dtype.type(scale)) for grad in grads])
        assert everything(scaled) == everything(plain)


@every_backend
@pytest.mark.parametrize("largest", [0.5, 100.0])
def test_the_norm_is_that_of_scaled_gradients(backend, largest):
    scaled, plain = (two_groups(SGD, max_grad_norm=largest).set_backend(backend) for _ in range(2))
    scaled.step(gradients(scaled, 6.0), grad_scale=0.25)
    plain.step(gradients(plain, 1.5))
    assert scaled.grad_norm == plain.grad_norm
    # The factors are multiplied in another order: two roundings of numbers near 1.
    for mine, other in zip(scaled.param_groups, plain.param_groups):
        for param, expected in zip(mine["params"], other["params"]):
            np.testing.assert_allclose(param, expected, rtol=4 * np.finfo(param.dtype).eps)


@every_class
@every_backend
@pytest.mark.parametrize("value, error", [
    (-1.0, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("1", TypeError), (None, TypeError),
    (True, TypeError), (np.ones(1), TypeError),
])
def test_wrong_grad_scale_is_refused(cls, backend, value, error):
    optimizer = two_groups(cls).set_backend(backend)
    before = everything(optimizer)
    with pytest.raises(error, match="^grad_scale must be "):
        optimizer.step(gradients(optimizer), grad_scale=value)
    assert everything(optimizer) == before


@every_class
@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
def test_micro_batches_take_the_step_of_the_whole_batch(cls, max_grad_norm):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 5)), rng.standard_normal((12, 2))
    params, norms = [], []
    for parts in (1, 3, 4):
        net = nn.Sequential(nn.Linear(5, 7, dtype=np.float64, rng=0), nn.ReLU(),
                            nn.Linear(7, 2, dtype=np.float64, rng=1))
        loss, optimizer = nn.MSELoss(), cls(net.parameters(), lr=0.01, max_grad_norm=max_grad_norm)
        for _ in range(3):
            for i, (rows, targets) in enumerate(zip(np.split(x, parts), np.split(y, parts))):
                loss.forward(net.forward(rows), targets)
                net.backward(loss.backward(), accumulate=i > 0)
            assert optimizer.step(net.gradients(), grad_scale=1 / parts)
        params.append(net.parameters())
        norms.append(optimizer.grad_norm)
    # Gradients are sums over 12 rows of some 10 products each, below 10 in magnitude; what divides by their
    # own root loses as much as the smallest, which is above 1e-4 here, is smaller than that.
    for other, norm in zip(params[1:], norms[1:]):
        for param, expected in zip(other, params[0]):
            np.testing.assert_allclose(param, expected, rtol=0, atol=0.01 * 3 * 240 * EPS * 10 / 1e-4)
        assert norm is None if max_grad_norm is None else math.isclose(norm, norms[0], rel_tol=240 * EPS * 100)


@every_class
def test_norm_and_skipping_are_part_of_the_state_dict(cls):
    optimizer = one_group(cls, max_grad_norm=2.0, skip_nonfinite=True)
    optimizer.step(gradients(optimizer, np.nan))
    saved = optimizer.state_dict()
    assert [saved[name] for name in ("max_grad_norm", "skip_nonfinite", "skipped_steps")] == [2.0, True, 1]
    other = one_group(cls)
    other.load_state_dict(saved)
    assert (other.max_grad_norm, other.skip_nonfinite, other.skipped_steps) == (2.0, True, 1)
    for name in ("max_grad_norm", "skip_nonfinite", "skipped_steps"):
        del saved[name]
    third = one_group(cls, max_grad_norm=3.0)
    third.load_state_dict(saved)
    assert (third.max_grad_norm, third.skip_nonfinite, third.skipped_steps) == (3.0, False, 0)
    other.load_state_dict(one_group(cls).state_dict())
    assert (other.max_grad_norm, other.skip_nonfinite, other.skipped_steps) == (None, False, 0)


@pytest.mark.parametrize("name, value, error", [
    ("max_grad_norm", 0, ValueError), ("max_grad_norm", "1", TypeError), ("skip_nonfinite", 1, TypeError),
    ("skipped_steps", -1, ValueError), ("skipped_steps", 1.5, TypeError),
])
def test_wrong_values_are_refused_wherever_they_come_from(name, value, error):
    optimizer = one_group(Adam, max_grad_norm=2.0)
    saved, before = optimizer.state_dict(), pickle.dumps(optimizer.state_dict())
    saved[name], saved["param_groups"][0]["lr"] = value, 0.5
    with pytest.raises(error, match=rf"{name}'?\]? must be"):
        optimizer.load_state_dict(saved)
    if name != "skipped_steps":
        with pytest.raises(error, match=f"^{name} must be"):
            setattr(optimizer, name, value)
        with pytest.raises(error, match=f"^{name} must be"):
            one_group(Adam, **{name: value})
    assert pickle.dumps(optimizer.state_dict()) == before
