import copy
import pickle

import numpy as np
import pytest

from helpers.arrays import draw
from numfuse import nn, reference


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (5, 4), (2, 3, 4), (2, 1, 3, 4)])
def test_gradients(check_gradients, shape, bias):
    check_gradients(nn.Linear(4, 3, bias, dtype=np.float64, rng=0), draw(*shape))


def test_value():
    layer = nn.Linear(2, 2)
    layer.weight[...] = [[1, 2], [3, 4]]
    layer.bias[...] = [10, 20]
    assert layer(np.array([[1, 1], [0, 2]], np.float32)).tolist() == [[13, 27], [14, 28]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_keeps_the_dtype(dtype):
    layer = nn.Linear(4, 3, dtype=dtype)
    y = layer(draw(5, 4, dtype=dtype))
    arrays = [y, layer.backward(y), *layer.parameters(), *layer.gradients()]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}


def test_views_give_what_copies_give():
    layer = nn.Linear(4, 3, dtype=np.float64, rng=0)
    for view in (draw(4, 5).T, draw(10, 8)[::2, ::2], draw(5, 4)[::-1]):
        # The BLAS may sum the 4 products and the bias in another order: 5 roundings each way.
        tolerance = 10 * np.finfo(float).eps * (4 * np.abs(view).max() + 1)
        np.testing.assert_allclose(layer(view), layer(view.copy()), rtol=0, atol=tolerance)


def test_gradient_arrays_are_reused_and_accumulate():
    layer = nn.Linear(4, 3, dtype=np.float64, rng=0)
    own = layer.gradients()
    assert all((gradient == 0).all() for gradient in own)
    x, grad_y = draw(5, 4), draw(5, 3)
    layer(x)
    grad_x = layer.backward(grad_y)
    once = [gradient.copy() for gradient in own]
    assert np.array_equal(layer.backward(grad_y), grad_x)
    assert all(np.array_equal(gradient, first) for gradient, first in zip(own, once))
    layer.backward(grad_y, accumulate=True)
    assert all(np.array_equal(gradient, 2 * first) for gradient, first in zip(own, once))
    assert all(now is before for now, before in zip(layer.gradients(), own))


@pytest.mark.parametrize("shape", [(0, 4), (0, 3, 4), (3, 0, 4)])
def test_empty_batch(shape):
    layer = nn.Linear(4, 2)
    for gradient in layer.gradients():
        gradient[...] = np.nan
    y = layer(np.zeros(shape, np.float32))
    assert y.shape == (*shape[:-1], 2)
    assert layer.backward(y).shape == shape
    assert all((gradient == 0).all() for gradient in layer.gradients())


def test_initial_values():
    a, b = nn.Linear(16, 1000, rng=3), nn.Linear(16, 1000, rng=np.random.default_rng(3))
    wide = nn.Linear(16, 1000, rng=3, dtype=np.float64)
    for name, array in a.named_parameters().items():
        assert np.array_equal(array, getattr(b, name))
        assert np.array_equal(array, getattr(wide, name).astype(np.float32))
        assert 0.24 < np.abs(array).max() <= 0.25  # 1000 draws up to 1/sqrt(16), all below 0.24: 1e-18
    kaiming = nn.init.kaiming_uniform(np.empty((1000, 16)), a=5**0.5, rng=3)
    # -bound + 2 * bound * random, where two formulas of the bound differ by a few roundings
    np.testing.assert_allclose(wide.weight, kaiming, rtol=0, atol=8 * np.finfo(float).eps * 0.25)
    assert not np.array_equal(nn.Linear(4, 3).weight, nn.Linear(4, 3).weight)


def test_evaluation_stores_nothing_and_leaves_training_alone():
    layer = nn.Linear(4, 3, dtype=np.float64, rng=0).eval()
    layer(draw(5, 4))
    with pytest.raises(RuntimeError, match="Linear.backward needs a forward in training mode"):
        layer.backward(draw(5, 3))
    layer.train()(draw(5, 4))
    expected = layer.backward(draw(5, 3)), layer.grad_weight.copy()
    layer.eval()(draw(7, 4))
    with pytest.raises(RuntimeError, match=r"Linear.backward .* in evaluation mode: call train\(\)"):
        layer.backward(draw(5, 3))
    layer.train()
    assert np.array_equal(layer.backward(draw(5, 3)), expected[0])
    assert np.array_equal(layer.grad_weight, expected[1])


@pytest.mark.parametrize(
    "x, error, words",
    [
        (np.zeros((2, 4)), TypeError, r"x must be float32, was float64; .*\.astype\(np\.float32\)"),
        (np.zeros((2, 4), int), TypeError, "float32"),
        (np.zeros((2, 4), np.float32).astype(">f4"), TypeError, "float32, was >f4"),
        ([[1.0] * 4], TypeError, "NumPy array, was list"),
        (np.zeros((2, 5), np.float32), ValueError, r"\(\.\.\., 4\), was \(2, 5\)"),
        (np.array(1, np.float32), ValueError, r"was \(\)"),
    ],
)
def test_bad_input(x, error, words):
    with pytest.raises(error, match=words):
        nn.Linear(4, 3)(x)


@pytest.mark.parametrize(
    "grad_y, error",
    [(np.zeros((5, 3)), TypeError), (np.zeros((5, 1), np.float32), ValueError), (1.0, TypeError)],
)
def test_bad_gradient_changes_nothing(grad_y, error):
    layer = nn.Linear(4, 3)
    layer(draw(5, 4, dtype=np.float32))
    for gradient in layer.gradients():
        gradient[...] = 7
    with pytest.raises(error, match="grad_y must"):
        layer.backward(grad_y)
    assert all((gradient == 7).all() for gradient in layer.gradients())


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"in_features": 0}, ValueError, "in_features must be at least 1, was 0"),
        ({"out_features": -1}, ValueError, "out_features"),
        ({"in_features": 2.5}, TypeError, "in_features must be an integer, was 2.5"),
        ({"dtype": np.float16}, TypeError, "float32 or float64, was float16"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        nn.Linear(**{"in_features": 4, "out_features": 3, **arguments})


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_independent_and_forget_the_batch(duplicate):
    layer = nn.Linear(4, 3, dtype=np.float64, rng=0).set_backend(reference)
    layer(draw(5, 4))
    layer.backward(draw(5, 3))
    twin = duplicate(layer)
    assert twin.kernels is reference
    assert np.array_equal(twin.weight, layer.weight) and not np.shares_memory(twin.weight, layer.weight)
    assert np.array_equal(twin.grad_weight, layer.grad_weight)
    with pytest.raises(RuntimeError):
        twin.backward(draw(5, 3))
    layer.backward(draw(5, 3))


def test_repr():
    assert repr(nn.Linear(4, 3, bias=False, dtype=np.float64)) == "Linear(4, 3, bias=False, dtype=float64)"
