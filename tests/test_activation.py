import math

import numpy as np
import pytest
from bad_arrays import each_wrong_type, misaligned

from onepass import native, nn, reference
from onepass.bench import textbook

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


@pytest.mark.parametrize("backend", [reference, textbook])
@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh])
def test_backends(activation, backend):
    x, grad_y = np.random.default_rng(1).standard_normal((2, 5, 3))
    layer, other = activation(), activation().set_backend(backend)
    # as in test_values
    np.testing.assert_allclose(other(x), layer(x), rtol=12 * np.finfo(float).eps)
    np.testing.assert_allclose(other.backward(grad_y), layer.backward(grad_y), rtol=100 * np.finfo(float).eps)


@pytest.mark.parametrize("change", [lambda a: a[:, ::2], lambda a: a[::-1], lambda a: a.T, lambda a: a.T[1:]],
                         ids=["every second column", "backwards", "Fortran order", "part in Fortran order"])
@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh])
def test_any_strides(activation, change):
    x, grad_y = map(change, np.random.default_rng(1).standard_normal((2, 6, 4)))
    layer, plain = activation(), activation()
    assert np.array_equal(layer(x), plain(x.copy()))
    expected = plain.backward(grad_y.copy())
    assert np.array_equal(layer.backward(grad_y), expected)
    assert np.array_equal(layer.backward(np.asfortranarray(grad_y)), expected)


# The kernels

FUNCTIONS = ["sigmoid", "tanh"]
each_kernel = pytest.mark.parametrize("kernel", ["activation_forward", "activation_backward"])
each_function = pytest.mark.parametrize("function", FUNCTIONS)


def arguments(kernel, function="tanh", dtype=np.float32, shape=(6, 4), **changes):
    a, b, out = np.random.default_rng(2).standard_normal((3, *shape)).astype(dtype)
    vector = np.random.default_rng(3).standard_normal(shape[-1:]).astype(dtype)
    if kernel == "activation_forward":
        return {"x": a, "bias": vector, "function": function, "out": out} | changes
    return {"grad_y": a, "y": b, "function": function, "grad_bias": vector, "out": out} | changes


@each_kernel
@each_function
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 4), (300, 3), (2, 5, 7), (9,), (3, 5000), (0, 3), (3, 0)])
def test_a_bias_is_added_and_its_gradient_summed(kernels, kernel, function, dtype, shape):
    given = arguments(kernel, function, dtype, shape)
    vector = "bias" if kernel == "activation_forward" else "grad_bias"
    result = getattr(kernels, kernel)(**given)
    assert result is given["out"]
    if kernel == "activation_forward":
        plain = kernels.activation_forward(given["x"] + given["bias"], None, function=function)
        assert np.array_equal(result, plain)
        return
    plain = kernels.activation_backward(**given | {vector: None, "out": None})
    assert np.array_equal(result, plain)
    sums = plain.sum(axis=tuple(range(len(shape) - 1)), dtype=np.float64)
    # sums of at most 300 numbers of order 1 to 10 in float64, rounded once
    np.testing.assert_allclose(given["grad_bias"], sums, rtol=np.finfo(dtype).eps, atol=1e4 * np.finfo(float).eps)


@each_kernel
@each_function
@pytest.mark.parametrize("affine", [True, False])
def test_in_place_or_in_a_new_array(kernels, kernel, function, affine):
    given = arguments(kernel, function)
    name = next(iter(given))
    if not affine:
        given |= {"bias" if kernel == "activation_forward" else "grad_bias": None}
    expected = getattr(kernels, kernel)(**given).copy()
    source = given[name].copy()
    assert np.array_equal(getattr(kernels, kernel)(**given | {"out": None}), expected)
    assert np.array_equal(given[name], source)
    assert getattr(kernels, kernel)(**given | {"out": given[name]}) is given[name]
    assert np.array_equal(given[name], expected)


@each_kernel
def test_any_dense_array_will_do_without_a_bias(kernels, kernel):
    vector = {"bias" if kernel == "activation_forward" else "grad_bias": None, "out": None}
    plain = arguments(kernel, shape=(3, 4, 5)) | vector
    turned = {name: value.transpose(2, 0, 1) if isinstance(value, np.ndarray) else value
              for name, value in plain.items()}
    result = getattr(kernels, kernel)(**turned)
    assert np.array_equal(result.transpose(1, 2, 0), getattr(kernels, kernel)(**plain))


def assert_refused(kernel, arguments, error, words):
    arrays = [value for value in arguments.values() if isinstance(value, np.ndarray) and value.dtype != "O"]
    before = [array.tobytes() for array in arrays]
    with pytest.raises(error, match=words):
        getattr(native, kernel)(**arguments)
    assert [array.tobytes() for array in arrays] == before


@each_wrong_type
@pytest.mark.parametrize("position", [0, 1, -1, "grad_bias"])
@each_kernel
def test_kernels_refuse_wrong_types(kernel, position, change):
    good = arguments(kernel)
    arrays = [name for name, value in good.items() if isinstance(value, np.ndarray)]
    name = arrays[2 if len(arrays) > 3 else 1] if position == "grad_bias" else arrays[position]
    assert_refused(kernel, good | {name: change(good[name])}, TypeError, f"^{name} must be")


@each_kernel
def test_kernels_refuse_wrong_shapes_strides_and_addresses(kernel):
    good = arguments(kernel)
    first = next(iter(good))
    vector = "bias" if kernel == "activation_forward" else "grad_bias"
    for name in good:
        if isinstance(good[name], np.ndarray):
            assert_refused(kernel, good | {name: misaligned(good[name])}, ValueError, f"^{name} must be aligned")
    assert_refused(kernel, good | {"out": good["out"][1:]}, ValueError, "^out must have shape")
    assert_refused(kernel, good | {vector: good[vector][1:]}, ValueError, rf"^{vector} must have shape \(4,\)")
    if kernel == "activation_backward":
        assert_refused(kernel, good | {"y": good["y"][1:]}, ValueError, "^y must have the shape of grad_y")
    turned = {name: value.T for name, value in good.items() if isinstance(value, np.ndarray) and value.ndim == 2}
    wide = {name: np.repeat(value.T, 2, axis=1)[:, ::2] for name, value in turned.items()}
    assert_refused(kernel, good | turned, ValueError, f"^{first} must be C-contiguous")
    assert_refused(kernel, good | wide | {vector: None}, ValueError, f"^{first} must be contiguous")
    scalars = {name: np.array(1, np.float32) for name in turned}
    assert_refused(kernel, good | scalars, ValueError, f"^{first} must have an axis of channels")


@each_kernel
def test_kernels_refuse_unknown_functions_and_overlaps(kernel):
    good = arguments(kernel)
    assert_refused(kernel, good | {"function": "relu"}, ValueError, "function must be .*, was 'relu'")
    shifted = np.zeros(30, np.float32)
    first = next(iter(good))
    overlapping = {first: shifted[:24].reshape(6, 4), "out": shifted[4:28].reshape(6, 4)}
    assert_refused(kernel, good | overlapping, ValueError, f"^out must not overlap {first}")
