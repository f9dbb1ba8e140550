import math

import numpy as np
import pytest

from helpers.arrays import draw
from helpers.cases import textbook
from numfuse import nn, reference

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SHAPES = [(5,), (1, 1), (3, 2), (700, 3), (5, 31), (5, 32), (4, 1000), (2, 3, 4), (0, 3), (3, 0), (0, 40)]


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4), (3, 40), (2, 1)])
def test_gradients(check_gradients, shape):
    check_gradients(nn.Softmax(), draw(*shape))


@each_dtype
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(kernels, shape, dtype):
    x, grad_y = 3 * draw(*shape, dtype=dtype), draw(*shape, dtype=dtype, seed=2)
    layer = nn.Softmax().set_backend(kernels)
    y = layer(x)
    exp = np.exp(x.astype(float))
    expected = exp / exp.sum(axis=-1, keepdims=True)
    eps = np.finfo(dtype).eps
    # exp is within 4 ulp (NumPy's promise) of x - m, whose own rounding counts |x - m| < 25 times.
    np.testing.assert_allclose(y, expected, rtol=40 * eps)
    assert y.dtype == dtype and y.shape == shape
    grad_x, g = layer.backward(grad_y), grad_y.astype(float)
    bound = 100 * eps * expected * (np.abs(g) + (expected * np.abs(g)).sum(axis=-1, keepdims=True))
    assert (np.abs(grad_x - expected * (g - (expected * g).sum(axis=-1, keepdims=True))) <= bound).all()


@each_dtype
@pytest.mark.parametrize("channels", [4, 40])
def test_extremes(kernels, channels, dtype):
    largest = np.finfo(dtype).max
    x = np.zeros((7, channels), dtype)
    x[0, :2] = largest
    x[1] = -largest
    x[2, 1] = -math.inf
    x[3] = -math.inf
    x[4, 2] = math.inf
    x[5, 3] = math.nan
    x[6, 0] = 1000
    layer = nn.Softmax().set_backend(kernels)
    with np.errstate(all="raise"):
        y = layer(x)
        grad_x = layer.backward(np.ones_like(x))
    assert y[0].tolist() == [0.5, 0.5] + [0] * (channels - 2)
    np.testing.assert_allclose(y[1], 1 / channels, rtol=2 * np.finfo(dtype).eps)
    assert y[2, 1] == 0
    np.testing.assert_allclose(y[2, 2:], 1 / (channels - 1), rtol=2 * np.finfo(dtype).eps)
    assert np.isnan(y[3:6]).all() and np.isnan(grad_x[3:6]).all()
    assert y[6].tolist() == [1] + [0] * (channels - 1)
    # Equal gradients say nothing about differences: what remains is the rounding of the sum.
    assert (np.abs(grad_x[[0, 1, 2, 6]]) <= channels * np.finfo(dtype).eps).all()


@pytest.mark.parametrize("change", [lambda a: a[:, ::2], lambda a: a[::-1], lambda a: a.T],
                         ids=["every second column", "backwards", "Fortran order"])
def test_any_strides(change):
    x, grad_y = change(draw(6, 4)), change(draw(6, 4, seed=2))
    layer, plain = nn.Softmax(), nn.Softmax()
    assert np.array_equal(layer(x), plain(x.copy()))
    assert np.array_equal(layer.backward(grad_y), plain.backward(grad_y.copy()))


@pytest.mark.parametrize("backend", [reference, textbook])
def test_backends(backend):
    x, grad_y = draw(5, 7), draw(5, 7, seed=2)
    layer, other = nn.Softmax(), nn.Softmax().set_backend(backend)
    # Some ten roundings of numbers below 10.
    np.testing.assert_allclose(other(x), layer(x), rtol=0, atol=100 * np.finfo(float).eps)
    np.testing.assert_allclose(other.backward(grad_y), layer.backward(grad_y), rtol=0, atol=100 * np.finfo(float).eps)


def test_what_the_layer_refuses():
    layer = nn.Softmax()
    assert repr(layer) == "Softmax(dim=-1)"
    for dim in (0, 1, None):
        with pytest.raises(ValueError, match=rf"^dim must be -1, .*np.moveaxis.*; was {dim}$"):
            nn.Softmax(dim)
    with pytest.raises(ValueError, match=r"^x must have shape \(..., C\), was \(\)$"):
        layer(np.array(1.0))
    with pytest.raises(TypeError, match="^x must be float32 or float64, was int64"):
        layer(np.ones((2, 3), np.int64))
    with pytest.raises(RuntimeError, match="Softmax.backward needs a forward"):
        layer.backward(np.ones((2, 3)))
    layer(np.ones((2, 3)))
    layer.eval()(np.ones((4, 4)))
    layer.train()
    with pytest.raises(ValueError, match=r"grad_y must have shape \(2, 3\), was \(3,\)"):
        layer.backward(np.ones(3))
    with pytest.raises(TypeError, match="grad_y must be float64, was float32"):
        layer.backward(np.ones((2, 3), np.float32))
