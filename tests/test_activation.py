import math

import numpy as np
import pytest

from onepass import nn

ACTIVATIONS = [nn.ReLU, nn.Sigmoid, nn.Tanh]


@pytest.mark.parametrize("shape", [(), (7,), (5, 3), (2, 3, 4)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients(check_gradients, activation, shape):
    rng = np.random.default_rng(1)
    x = rng.uniform(0.1, 2, shape) * rng.choice([-1, 1], shape)  # away from the corner of ReLU
    check_gradients(activation(), np.asarray(x))


@pytest.mark.parametrize(
    "activation, formula",
    [
        (nn.ReLU, lambda x: max(x, 0.0)),
        (nn.Sigmoid, lambda x: 1 / (1 + math.exp(-x))),
        (nn.Tanh, math.tanh),
    ],
)
def test_values(activation, formula):
    x = np.linspace(-20, 20, 1001)
    expected = [formula(v) for v in x.tolist()]
    # exp and tanh of two libraries, each within 4 ulp (NumPy's promise), and two more roundings each
    np.testing.assert_allclose(activation()(x), expected, rtol=12 * np.finfo(float).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "activation, low, high", [(nn.ReLU, 0, math.inf), (nn.Sigmoid, 0, 1), (nn.Tanh, -1, 1)]
)
def test_extremes_are_exact_and_silent(activation, low, high, dtype):
    layer = activation()
    with np.errstate(all="raise"):
        y = layer(np.array([-math.inf, math.inf, math.nan, np.finfo(dtype).min], dtype))
        grad_x = layer.backward(np.ones(4, dtype))
    assert y.dtype == grad_x.dtype == dtype
    np.testing.assert_array_equal(y, [low, high, math.nan, low])
    np.testing.assert_array_equal(grad_x, [0, 1 if activation is nn.ReLU else 0, grad_x[2], 0])
    assert np.isfinite(grad_x[2]) == (activation is nn.ReLU)


def test_relu_blocks_even_infinite_gradients():
    layer = nn.ReLU()
    layer(np.array([-1.0, 0.0, 1.0]))
    assert layer.backward(np.full(3, np.inf)).tolist() == [0, 0, np.inf]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_shapes_dtypes_and_modes(activation):
    layer = activation()
    with pytest.raises(RuntimeError, match=f"{activation.__name__}.backward needs a forward"):
        layer.backward(np.ones(3))
    for shape in [(0, 3), (), (4, 5)]:
        y = layer(np.ones(shape, np.float32))
        assert (y.shape, y.dtype) == (shape, np.float32)
        assert layer.backward(np.ones(shape, np.float32)).dtype == np.float32
    layer.eval()(np.ones((9, 9), np.float32))
    assert layer.backward(np.ones((4, 5), np.float32)).shape == (4, 5)
    with pytest.raises(ValueError, match=r"grad_y must have shape \(4, 5\), was \(5,\)"):
        layer.backward(np.ones(5, np.float32))
    with pytest.raises(TypeError, match="grad_y must be float32, was float64"):
        layer.backward(np.ones((4, 5)))
    with pytest.raises(TypeError, match=r"x must be float32 or float64, was int64; .*astype\(np.float32\)"):
        layer(np.ones(3, np.int64))
    assert repr(layer) == f"{activation.__name__}()"


@pytest.mark.parametrize(
    "start_dim, wanted", [(1, (2, 60)), (0, (120,)), (2, (2, 3, 20)), (-1, (2, 3, 4, 5))]
)
def test_flatten(start_dim, wanted):
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    layer = nn.Flatten(start_dim)
    y = layer(x)
    assert np.array_equal(y, x.reshape(wanted))
    assert np.array_equal(layer.backward(y), x)


def test_flatten_of_odd_inputs():
    layer = nn.Flatten()
    assert layer(np.ones((0, 3, 4))).shape == (0, 12)
    assert layer.backward(np.ones((0, 12))).shape == (0, 3, 4)
    turned = np.arange(24.0).reshape(4, 3, 2).T
    assert np.array_equal(layer(turned), turned.copy().reshape(2, 12))
    with pytest.raises(ValueError, match="axis 1, the start_dim"):
        layer(np.ones(3))
    with pytest.raises(ValueError, match=r"grad_y must have shape \(2, 12\)"):
        layer.backward(np.ones((2, 3, 4)))
    assert repr(layer) == "Flatten(start_dim=1)"
