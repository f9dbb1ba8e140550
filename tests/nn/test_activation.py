import math

import numpy as np
import pytest

from helpers.cases import textbook
from numfuse import nn, reference

LAYERS = {
    "ReLU()": nn.ReLU,
    "Sigmoid()": nn.Sigmoid,
    "Tanh()": nn.Tanh,
    "LeakyReLU(negative_slope=0.01)": nn.LeakyReLU,
    "LeakyReLU(negative_slope=-0.5)": lambda: nn.LeakyReLU(-0.5),
    "ELU(alpha=1.0)": nn.ELU,
    "ELU(alpha=2.5)": lambda: nn.ELU(2.5),
    "SiLU()": nn.SiLU,
    "GELU(approximate='none')": nn.GELU,
    "GELU(approximate='tanh')": lambda: nn.GELU("tanh"),
}
each_layer = pytest.mark.parametrize("layer", LAYERS)
each_smooth_layer = pytest.mark.parametrize("layer", [name for name in LAYERS if name != "ReLU()"])
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.mark.parametrize("shape", [(), (7,), (5, 3), (2, 3, 4)])
@each_layer
def test_gradients(check_gradients, layer, shape):
    rng = np.random.default_rng(1)
    x = rng.uniform(0.1, 2, shape) * rng.choice([-1, 1], shape)  # away from the corner that some have at 0
    check_gradients(LAYERS[layer](), np.asarray(x))


def gelu_tanh_argument(x):
    return 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


FORMULAS = {
    "ReLU()": lambda x: max(x, 0.0),
    "Sigmoid()": sigmoid,
    "Tanh()": math.tanh,
    "LeakyReLU(negative_slope=0.01)": lambda x: x if x > 0 else 0.01 * x,
    "LeakyReLU(negative_slope=-0.5)": lambda x: x if x > 0 else -0.5 * x,
    "ELU(alpha=1.0)": lambda x: x if x > 0 else math.expm1(x),
    "ELU(alpha=2.5)": lambda x: x if x > 0 else 2.5 * math.expm1(x),
    "SiLU()": lambda x: x * sigmoid(x),
    "GELU(approximate='none')": lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    "GELU(approximate='tanh')": lambda x: x * sigmoid(gelu_tanh_argument(x)),
}


@each_dtype
@each_layer
def test_values(layer, dtype):
    x = np.linspace(-12, 20, 1001, dtype=dtype)
    expected = np.array([FORMULAS[layer](v) for v in x.tolist()])
    # exp, expm1 and tanh of two libraries, each within 4 ulp (NumPy's promise), Phi within 8, and a few roundings
    error = np.full(x.shape, 12.0)
    if layer == "GELU(approximate='tanh')":
        # Below 0 the result goes as exp(u), and four roundings make u.
        error += 4 * np.abs(gelu_tanh_argument(np.minimum(x.astype(float), 0)))
    elif layer == "GELU(approximate='none')" and dtype is np.float64:
        error += x * x  # the rounding of erfc's argument in the formula here; float32 numbers leave room for it
    # Where exp or Phi is below the smallest normal number it may be 0.
    bound = error * np.finfo(dtype).eps * np.abs(expected) + 20 * np.finfo(dtype).tiny
    assert (np.abs(LAYERS[layer]()(x) - expected) <= bound).all()


@each_layer
def test_float32_gradients_are_those_of_float64(layer):
    x, grad_y = np.linspace(-12, 20, 1001, dtype=np.float32), np.full(1001, 0.5, np.float32)
    single, double = LAYERS[layer](), LAYERS[layer]()
    single(x), double(x.astype(float))
    # Derivatives are made of two terms of at most 2.5; the y of float32 that some are made of is within 4 ulp.
    expected = double.backward(grad_y.astype(float))
    np.testing.assert_allclose(single.backward(grad_y), expected, rtol=0, atol=32 * np.finfo(np.float32).eps)


INF, NAN = math.inf, math.nan
LARGE = "the largest number"  # of the dtype


@each_dtype
@pytest.mark.parametrize("layer, y, grad_x", [
    # at -infinity, infinity, NaN, and the numbers of the largest magnitude
    (nn.ReLU(), [0, INF, NAN, 0, LARGE], [0, 1, 1, 0, 1]),
    (nn.Sigmoid(), [0, 1, NAN, 0, 1], [0, 0, NAN, 0, 0]),
    (nn.Tanh(), [-1, 1, NAN, -1, 1], [0, 0, NAN, 0, 0]),
    (nn.LeakyReLU(0), [NAN, INF, NAN, 0, LARGE], [0, 1, 0, 0, 1]),
    (nn.LeakyReLU(-1), [INF, INF, NAN, LARGE, LARGE], [-1, 1, -1, -1, 1]),
    (nn.ELU(2), [-2, INF, NAN, -2, LARGE], [0, 1, NAN, 0, 1]),
    (nn.SiLU(), [NAN, INF, NAN, 0, LARGE], [NAN, NAN, NAN, 0, 1]),
    (nn.GELU(), [NAN, INF, NAN, 0, LARGE], [NAN, NAN, NAN, 0, 1]),
    (nn.GELU("tanh"), [NAN, INF, NAN, 0, LARGE], [0, 1, NAN, 0, 1]),
], ids=repr)
def test_extremes_are_exact_and_silent(kernels, layer, y, grad_x, dtype):
    largest = np.finfo(dtype).max
    layer.set_backend(kernels)
    with np.errstate(all="raise"):
        actual = layer(np.array([-INF, INF, NAN, -largest, largest], dtype))
        actual_grad = layer.backward(np.ones(5, dtype))
    assert actual.dtype == actual_grad.dtype == dtype
    np.testing.assert_array_equal(actual, [largest if value is LARGE else value for value in y])
    np.testing.assert_array_equal(actual_grad, grad_x)


@each_dtype
@each_layer
def test_numbers_of_every_size_give_finite_values_and_derivatives_in_their_range(layer, dtype):
    info = np.finfo(dtype)
    sizes = np.ldexp(dtype(1), np.arange(info.minexp, info.maxexp))
    x = np.concatenate([-sizes, sizes, np.linspace(-50, 50, 4001, dtype=dtype)])
    each = LAYERS[layer]()
    assert np.isfinite(each(x)).all()
    slopes = each.backward(np.ones_like(x))
    # SiLU's and GELU's derivatives go a little beyond 0 and 1; the parameters here are from -0.5 to 2.5.
    assert slopes.min() >= -0.5 and slopes.max() <= 2.5


@each_dtype
def test_gelu_has_all_digits_where_it_is_small(dtype):
    # -5 Phi(-5) and -10 Phi(-10), from tables of the normal distribution
    y = nn.GELU()(np.array([-5, -10], dtype))
    np.testing.assert_allclose(y, [-5 * 2.866515718791939e-07, -10 * 7.619853024160527e-24],
                               rtol=10 * np.finfo(dtype).eps)


def test_relu_blocks_even_infinite_gradients():
    layer = nn.ReLU()
    layer(np.array([-1.0, 0.0, 1.0]))
    assert layer.backward(np.full(3, np.inf)).tolist() == [0, 0, np.inf]


@each_layer
def test_shapes_dtypes_and_modes(layer):
    name, layer = layer, LAYERS[layer]()
    with pytest.raises(RuntimeError, match=f"{type(layer).__name__}.backward needs a forward"):
        layer.backward(np.ones(3))
    for shape in [(0, 3), (), (4, 5)]:
        y = layer(np.ones(shape, np.float32))
        assert (y.shape, y.dtype) == (shape, np.float32)
        assert layer.backward(np.ones(shape, np.float32)).dtype == np.float32
    layer.eval()(np.ones((9, 9), np.float32))
    with pytest.raises(RuntimeError, match=r"backward .* in evaluation mode: call train\(\)"):
        layer.backward(np.ones((9, 9), np.float32))
    layer.train()
    assert layer.backward(np.ones((4, 5), np.float32)).shape == (4, 5)
    with pytest.raises(ValueError, match=r"grad_y must have shape \(4, 5\), was \(5,\)"):
        layer.backward(np.ones(5, np.float32))
    with pytest.raises(TypeError, match="grad_y must be float32, was float64"):
        layer.backward(np.ones((4, 5)))
    with pytest.raises(TypeError, match=r"x must be float32 or float64, was int64; .*astype\(np.float32\)"):
        layer(np.ones(3, np.int64))
    assert repr(layer) == name


@pytest.mark.parametrize("make, name", [(nn.LeakyReLU, "negative_slope"), (nn.ELU, "alpha")])
@pytest.mark.parametrize("value, error, words", [
    (math.nan, ValueError, "must be finite, was nan"), (-math.inf, ValueError, "must be finite, was -inf"),
    (10**400, ValueError, "must be finite, was 1000"), ("1", TypeError, "must be a number, was '1'"),
    (None, TypeError, "must be a number, was None"), (True, TypeError, "must be a number, was True"),
])
def test_layers_refuse_wrong_parameters(make, name, value, error, words):
    with pytest.raises(error, match=f"^{name} {words}"):
        make(value)


@pytest.mark.parametrize("value", ["sigmoid", None, True])
def test_gelu_refuses_an_unknown_approximation(value):
    with pytest.raises(ValueError, match='approximate must be "none" or "tanh", was '):
        nn.GELU(value)


@pytest.mark.parametrize("backend", [reference, textbook])
@each_smooth_layer
def test_backends(layer, backend):
    x, grad_y = np.random.default_rng(1).standard_normal((2, 5, 3))
    one, other = LAYERS[layer](), LAYERS[layer]().set_backend(backend)
    # Some ten roundings of numbers below 10.
    np.testing.assert_allclose(other(x), one(x), rtol=0, atol=100 * np.finfo(float).eps)
    np.testing.assert_allclose(other.backward(grad_y), one.backward(grad_y), rtol=0, atol=100 * np.finfo(float).eps)


@pytest.mark.parametrize("change", [lambda a: a[:, ::2], lambda a: a[::-1], lambda a: a.T, lambda a: a.T[1:]],
                         ids=["every second column", "backwards", "Fortran order", "part in Fortran order"])
@each_smooth_layer
def test_any_strides(layer, change):
    x, grad_y = map(change, np.random.default_rng(1).standard_normal((2, 6, 4)))
    layer, plain = LAYERS[layer](), LAYERS[layer]()
    assert np.array_equal(layer(x), plain(x.copy()))
    expected = plain.backward(grad_y.copy())
    assert np.array_equal(layer.backward(grad_y), expected)
    assert np.array_equal(layer.backward(np.asfortranarray(grad_y)), expected)
