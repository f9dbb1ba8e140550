import copy
import pickle

import numpy as np
import pytest

from helpers.arrays import draw
from helpers.batch_norm_layers import EPS, SHAPES, channels_last, random_layer
from numfuse import nn, reference


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("kind, shape", SHAPES)
def test_gradients(check_gradients, kernels, kind, shape, axis, affine):
    x = draw(*shape) if axis == 1 else channels_last(draw(*shape))
    check_gradients(random_layer(kind, affine=affine, axis=axis).set_backend(kernels), x)


@pytest.mark.parametrize("kind, shape", SHAPES)
def test_textbook_values(kernels, kind, shape):
    layer = random_layer(kind, eps=0.01, momentum=0.3).set_backend(kernels)
    before, x = layer.state_dict(), draw(*shape)
    y = layer(x)
    after, inferred = layer.state_dict(), layer.eval()(x)
    for c in range(3):
        values, w, b = x[:, c], layer.weight[c], layer.bias[c]
        mean = 0.7 * before["running_mean"][c] + 0.3 * values.mean()
        var = 0.7 * before["running_var"][c] + 0.3 * values.var(ddof=1)
        # Values of order one, at most 12 to a channel, and about 10 roundings beyond their sums.
        for actual, expected in [
            (y[:, c], (values - values.mean()) / np.sqrt(values.var() + 0.01) * w + b),
            (after["running_mean"][c], mean),
            (after["running_var"][c], var),
            (inferred[:, c], (values - mean) / np.sqrt(var + 0.01) * w + b),
        ]:
            np.testing.assert_allclose(actual, expected, rtol=0, atol=100 * EPS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_everything_keeps_the_dtype(kernels, dtype):
    layer = random_layer(dtype=dtype).set_backend(kernels)
    y = layer(draw(5, 3, dtype=dtype))
    grad_x = layer.backward(y)
    inferred = layer.eval()(draw(5, 3, dtype=dtype))
    arrays = [y, grad_x, inferred, *layer.gradients(), layer.running_mean, layer.running_var]
    assert {array.dtype for array in arrays} == {np.dtype(dtype)}
    assert layer.num_batches_tracked.dtype == np.int64 and layer.num_batches_tracked == 1


def test_momentum_none_averages_all_batches(kernels):
    layer = nn.BatchNorm1d(3, momentum=None, dtype=np.float64).set_backend(kernels)
    batches = draw(4, 5, 3)
    for batch in batches:
        layer(batch)
    # Values of order one: 20 of them are summed, and then 4 averages, with 3 roundings each.
    close = {"rtol": 0, "atol": 50 * EPS}
    np.testing.assert_allclose(layer.running_mean, batches.mean(axis=(0, 1)), **close)
    np.testing.assert_allclose(layer.running_var, batches.var(axis=1, ddof=1).mean(axis=0), **close)
    assert layer.num_batches_tracked == 4


@pytest.mark.parametrize("kind, shape", SHAPES)
def test_memory_orders_and_sliced_batches(kernels, kind, shape):
    """x and grad_y come in any mix of memory orders, and as every second sample of a larger batch."""
    orders = {
        "C": np.ascontiguousarray,
        "channels last": lambda x: np.moveaxis(channels_last(x), -1, 1),
        "slice": lambda x: np.repeat(x, 2, axis=0)[::2],
        "F": np.asfortranarray,
    }
    x, grad_y = draw(*shape), draw(*shape)[::-1].copy()
    expected = random_layer(kind).set_backend(reference)
    y, grad_x = expected(x), expected.backward(grad_y)
    # grad_x is of order one; sums of at most 12 numbers in another order, and about 20 roundings.
    close = {"rtol": 0, "atol": 200 * EPS}
    for order_x in orders.values():
        for order_g in orders.values():
            layer = random_layer(kind).set_backend(kernels)
            np.testing.assert_allclose(layer(order_x(x)), y, **close)
            np.testing.assert_allclose(layer.backward(order_g(grad_y)), grad_x, **close)
            for gradient, wanted in zip(layer.gradients(), expected.gradients()):
                np.testing.assert_allclose(gradient, wanted, **close)


def test_gradient_arrays_are_reused_and_accumulate(kernels):
    layer = random_layer().set_backend(kernels)
    own = layer.gradients()
    layer(draw(5, 3))
    grad_x = layer.backward(draw(5, 3))
    once = [gradient.copy() for gradient in own]
    assert np.array_equal(layer.backward(draw(5, 3), accumulate=True), grad_x)
    assert all(np.array_equal(gradient, 2 * first) for gradient, first in zip(own, once))
    layer.backward(draw(5, 3))
    assert all(np.array_equal(gradient, first) for gradient, first in zip(own, once))
    assert all(now is before for now, before in zip(layer.gradients(), own))
    assert random_layer(affine=False).gradients() == []


@pytest.mark.parametrize("kind, shape", [(nn.BatchNorm1d, (0, 3)), (nn.BatchNorm2d, (0, 3, 4, 4))])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_empty_batch(kernels, kind, shape, momentum):
    """As in PyTorch: the batch is counted, and changes nothing else."""
    layer = random_layer(kind, momentum=momentum).set_backend(kernels)
    before = layer.state_dict()
    for gradient in layer.gradients():
        gradient[...] = np.nan
    y = layer(np.empty(shape))
    assert y.shape == layer.backward(y).shape == shape
    assert all((gradient == 0).all() for gradient in layer.gradients())
    assert layer.eval()(np.empty(shape)).shape == shape
    before["num_batches_tracked"] += 1
    assert all(np.array_equal(array, before[name]) for name, array in layer.state_dict().items())


@pytest.mark.parametrize(
    "kind, x, error, words",
    [
        (nn.BatchNorm1d, np.zeros((1, 3)), ValueError, r"Expected more than 1 value .* had shape \(1, 3\)"),
        (nn.BatchNorm2d, np.zeros((1, 3, 1, 1)), ValueError, "Expected more than 1 value per channel"),
        (nn.BatchNorm1d, np.zeros((5, 4)), ValueError, r"shape \(N, 3\) or \(N, 3, L\), was \(5, 4\)"),
        (nn.BatchNorm1d, np.zeros(3), ValueError, r"was \(3,\)"),
        (nn.BatchNorm2d, np.zeros((5, 3)), ValueError, r"shape \(N, 3, H, W\), was"),
        (nn.BatchNorm3d, np.zeros((5, 3)), ValueError, r"shape \(N, 3, D, H, W\), was"),
        (nn.BatchNorm1d, np.zeros((5, 3), np.float32), TypeError, r"x must be float64, was float32"),
    ],
)
def test_bad_input_changes_nothing(kernels, kind, x, error, words):
    layer = random_layer(kind).set_backend(kernels)
    before = layer.state_dict()
    with pytest.raises(error, match=words):
        layer(x)
    assert all(np.array_equal(array, before[name]) for name, array in layer.state_dict().items())


def test_one_value_per_channel_is_fine_in_evaluation(kernels):
    assert random_layer().set_backend(kernels).eval()(np.zeros((1, 3))).shape == (1, 3)


def test_channels_last_shapes_are_named():
    with pytest.raises(ValueError, match=r"shape \(N, 3\) or \(N, L, 3\), was"):
        nn.BatchNorm1d(3, axis=-1)(np.zeros((2, 3, 4), np.float32))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_features": 0}, "num_features must be at least 1"),
        ({"eps": -1}, "eps must be .* was -1"),
        ({"eps": np.nan}, "eps"),
        ({"momentum": 1.5}, "momentum must be from 0 to 1, was 1.5"),
        ({"momentum": np.nan}, "momentum"),
        ({"axis": 2}, "axis must be 1 or -1, .* was 2"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        nn.BatchNorm1d(**{"num_features": 3, **options})


def test_bad_gradient_changes_nothing():
    layer = random_layer()
    with pytest.raises(RuntimeError, match="BatchNorm1d.backward needs a forward in training mode"):
        layer.eval().backward(np.zeros((5, 3)))
    layer.train()(draw(5, 3))
    for gradient in layer.gradients():
        gradient[...] = 7
    with pytest.raises(ValueError, match=r"grad_y must have shape \(5, 3\), was \(3,\)"):
        layer.backward(np.zeros(3))
    with pytest.raises(TypeError, match="grad_y must be float64"):
        layer.backward(np.zeros((5, 3), np.float32))
    assert all((gradient == 7).all() for gradient in layer.gradients())


def test_evaluation_leaves_training_alone(kernels):
    layer = random_layer().set_backend(kernels)
    layer(draw(5, 3))
    expected, before = layer.backward(draw(5, 3)), layer.state_dict()
    layer.eval()(draw(9, 3))
    with pytest.raises(RuntimeError, match=r"BatchNorm1d.backward .* in evaluation mode: call train\(\)"):
        layer.backward(draw(5, 3))
    layer.train()
    assert np.array_equal(layer.backward(draw(5, 3)), expected)
    assert all(np.array_equal(array, before[name]) for name, array in layer.state_dict().items())


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies(kernels, duplicate):
    layer = random_layer().set_backend(kernels)
    layer(draw(5, 3))
    twin = duplicate(layer)
    assert twin.kernels is kernels
    assert np.array_equal(twin(draw(5, 3)), layer(draw(5, 3)))
    layer(draw(9, 3))
    assert layer.num_batches_tracked == 3 and twin.num_batches_tracked == 2


def test_repr():
    assert repr(nn.BatchNorm2d(8)) == "BatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True)"
    assert repr(nn.BatchNorm1d(8, axis=-1, dtype=np.float64)).endswith("affine=True, axis=-1, dtype=float64)")


@pytest.mark.parametrize("options", [{"eps": "x"}, {"momentum": "x"}, {"eps": None}], ids=str)
def test_a_setting_must_be_a_number(options):
    with pytest.raises(TypeError, match=f"^{next(iter(options))} must be a number"):
        nn.BatchNorm1d(3, **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [2, 145, 146, 147, 204, 205, 400])
def test_channels_have_the_same_bits_among_few_and_among_many(channels, dtype):
    """Scratch memory is on the stack for few channels, and allocated for many."""
    x, grad_y = np.random.default_rng(0).standard_normal((2, 9, channels)).astype(dtype)
    many, two = nn.BatchNorm1d(channels, dtype=dtype), nn.BatchNorm1d(2, dtype=dtype)
    y, grad_x = many(x), many.backward(grad_y)
    for first in {0, channels // 2 - 1, channels - 2}:
        part = slice(first, first + 2)
        assert np.array_equal(y[:, part], two(x[:, part].copy()))
        assert np.array_equal(grad_x[:, part], two.backward(grad_y[:, part].copy()))
