"""Gradients that are scaled down to a largest norm of all together."""

import copy

import numpy as np
import pytest

from helpers.optimizer_checks import bits, pickled, random_arrays, state_bits
from helpers.optimizers import FULL, every_backend, every_class
from numfuse.optim import SGD, Adam


@every_class
@every_backend
def test_gradients_are_scaled_down_to_the_largest_norm(cls, backend):
    """Over groups, names, dtypes and missing gradients: the step is that of the scaled gradients."""
    params, grads = random_arrays([(3,), (2, 2), ()]), random_arrays([(3,), (2, 2), ()], seed=1)
    params[1], grads[1] = params[1].astype(np.float64), grads[1].astype(np.float64)
    copies = [param.copy() for param in params]

    def groups(arrays):
        return [{"params": arrays[:1]}, {"params": arrays[1:], "lr": 0.05}]

    clipped = cls(groups(params), max_grad_norm=0.5, **FULL[cls]).set_backend(backend)
    plain = cls(groups(copies), **FULL[cls]).set_backend(backend)
    assert clipped.grad_norm is None and clipped.max_grad_norm == 0.5
    for chosen in (grads, [None, *grads[1:]], [np.asarray(grad * grad.dtype.type(0.01)) for grad in grads]):
        norm = np.sqrt(sum(np.sum(np.float64(grad) ** 2) for grad in chosen if grad is not None))
        before = bits([grad for grad in chosen if grad is not None])
        clipped.step(chosen)
        assert before == bits([grad for grad in chosen if grad is not None])
        # Sums of 8 squares, by two routes.
        np.testing.assert_allclose(clipped.grad_norm, norm, rtol=16 * np.finfo(np.float64).eps)
        factor = min(1, 0.5 / (clipped.grad_norm + 1e-6))
        plain.step([grad if grad is None else np.asarray(grad * grad.dtype.type(factor)) for grad in chosen])
        assert bits(params) == bits(copies)
    assert plain.grad_norm is None and clipped.grad_norm < 0.5


@every_class
@every_backend
def test_a_largest_norm_above_the_norm_changes_no_bit(cls, backend):
    params, copies, grads = random_arrays([(4,), (5,)]), random_arrays([(4,), (5,)]), random_arrays([(4,), (5,)], 1)
    for arrays, options in ((params, {"max_grad_norm": 100}), (copies, {})):
        cls(arrays, **options, **FULL[cls]).set_backend(backend).step(grads)
    assert bits(params) == bits(copies)


@every_class
@pytest.mark.parametrize("value, error", [
    (0, ValueError), (-1.0, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("1", TypeError),
    (True, TypeError),
])
def test_wrong_largest_norms_are_refused(cls, value, error):
    with pytest.raises(error, match="^max_grad_norm must be "):
        cls([np.ones(3)], max_grad_norm=value)
    optimizer = cls([np.ones(3)], max_grad_norm=2)
    with pytest.raises(error, match="^max_grad_norm must be "):
        optimizer.max_grad_norm = value
    assert optimizer.max_grad_norm == 2.0
    optimizer.max_grad_norm = None
    optimizer.step([np.ones(3)])
    assert optimizer.grad_norm is None


@every_class
@every_backend
def test_wrong_gradients_under_a_largest_norm_are_refused_before_anything_is_modified(cls, backend):
    params = [np.ones(3), np.ones(2)]
    optimizer = cls(params, max_grad_norm=1.0).set_backend(backend)
    optimizer.step([np.ones(3), np.ones(2)])
    before = bits(params), state_bits(optimizer), optimizer.grad_norm
    for grad, error in ((np.ones(2, np.float32), TypeError), ([1.0, 1.0], TypeError), (np.ones(5), ValueError)):
        with pytest.raises(error, match=r"^grads\[1\] must "):
            optimizer.step([np.zeros(3), grad])
        assert (bits(params), state_bits(optimizer), optimizer.grad_norm) == before


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled], ids=["copy", "pickle"])
def test_the_largest_norm_is_copied_and_pickled(duplicate):
    assert duplicate(Adam([np.ones(3)], max_grad_norm=0.5)).max_grad_norm == 0.5


def test_repr_tells_of_clipping():
    optimizer = SGD([np.ones(3)], max_grad_norm=2, skip_nonfinite=True)
    assert "max_grad_norm: 2.0\nskip_nonfinite: True\n)" in repr(optimizer)
    optimizer.step([np.full(3, np.nan)])
    assert "skipped_steps: 1\n)" in repr(optimizer)
