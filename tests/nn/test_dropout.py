import copy
import pickle

import numpy as np
import pytest

from helpers.arrays import draw
from numfuse import nn, reference


@pytest.mark.parametrize("p", [0, 0.2, 0.5, 1])
@pytest.mark.parametrize("shape", [(), (7,), (9, 5), (2, 3, 2, 3)])
@pytest.mark.parametrize("inverted", [True, False])
def test_gradients(check_gradients, kernels, shape, p, inverted):
    check_gradients(nn.Dropout(p, inverted=inverted, rng=0).set_backend(kernels), np.asarray(draw(*shape)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0, 0.25, 0.5, 1])
def test_zeroes_a_share_and_scales_the_rest(kernels, p, dtype):
    layer = nn.Dropout(p, rng=0).set_backend(kernels)
    x = np.ones((100, 100), dtype)
    y = layer(x)
    assert y.dtype == dtype and (x == 1).all()
    assert set(np.unique(y)) <= {dtype(0), dtype(1 / (1 - p)) if p < 1 else dtype(0)}
    assert abs((y == 0).mean() - p) <= 5 * (p * (1 - p) / 10_000) ** 0.5  # 5 sigma
    assert np.array_equal(layer.backward(x), y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("p", [0, 0.25, 0.3, 1])
def test_scaled_in_evaluation_instead(kernels, p, dtype):
    """The masks are those of inverted dropout; y = 0 or x in training, x * (1 - p) in evaluation."""
    x = draw(40, 50, dtype=dtype)
    inverted, plain = (nn.Dropout(p, inverted=way, rng=3).set_backend(kernels) for way in (True, False))
    y, scaled = plain(x), inverted(x)
    assert np.array_equal(y, np.where(scaled == 0, dtype(0), x)) and y.dtype == dtype
    assert np.array_equal(plain.backward(x), y)
    evaluated = plain.eval()(x)
    assert np.array_equal(evaluated, x * dtype(1 - p)) and evaluated.dtype == dtype
    assert not np.shares_memory(evaluated, x) and plain.offset == 1
    assert np.array_equal(plain.train().backward(x), y)


@pytest.mark.parametrize("inverted", [True, False])
def test_the_mean_over_masks_is_what_evaluation_gives(kernels, inverted):
    layer, x, n, p = nn.Dropout(0.3, inverted=inverted, rng=3).set_backend(kernels), draw(10), 20_000, 0.3
    mean = layer(np.broadcast_to(x, (n, 10)).copy()).mean(axis=0)
    # An element is x times a number of standard deviation sqrt(p (1 - p)), over 1 - p if inverted.
    deviation = abs(x) * (p * (1 - p)) ** 0.5 / (1 - p if inverted else 1)
    assert (abs(mean - layer.eval()(x)) <= 5 * deviation / n**0.5).all()


@pytest.mark.parametrize("x", [draw(6, 4)[::2], draw(6, 4)[:, ::2], np.asfortranarray(draw(6, 4)), np.ones(()),
                               np.ones((0, 3)), np.array([np.nan, np.inf, 1e-310])], ids=str)
def test_any_array_is_scaled_in_evaluation(x):
    layer = nn.Dropout(0.25, inverted=False).eval()
    y = layer(x)
    assert type(y) is np.ndarray and y.shape == x.shape and np.array_equal(y, x * 0.75, equal_nan=True)
    zeros = nn.Dropout(1, inverted=False).eval()(x)
    assert zeros.shape == x.shape and not zeros.any()


def test_whether_it_scales_cannot_be_changed_later():
    layer = nn.Dropout(inverted=False)
    with pytest.raises(AttributeError):
        layer.inverted = True
    assert pickle.loads(pickle.dumps(layer)).inverted is copy.deepcopy(layer).inverted is False


def test_backends_draw_the_same_masks(kernels):
    x = draw(33, 17)
    layers = [nn.Dropout(0.3, rng=5).set_backend(backend) for backend in (kernels, reference)]
    for _ in range(3):
        y, expected = (layer(x) for layer in layers)
        assert np.array_equal(y, expected)
        assert np.array_equal(*(layer.backward(x) for layer in layers))


def test_every_training_call_draws_anew_and_evaluation_none():
    layer, x = nn.Dropout(rng=0), draw(100)
    first, second = layer(x), layer(x)
    assert not np.array_equal(first, second)
    grad_x = layer.backward(x)
    assert layer.eval()(x) is x and layer.offset == 2
    assert np.array_equal(layer.train().backward(x), grad_x)
    assert np.array_equal(nn.Dropout(rng=0)(x), first)
    assert np.array_equal(nn.Dropout(rng=np.random.default_rng(0))(x), first)
    assert not np.array_equal(nn.Dropout()(x), nn.Dropout()(x))
    rng = np.random.default_rng(0)
    assert nn.Dropout(rng=rng).seed != nn.Dropout(rng=rng).seed


def save(layer):
    twin = nn.Dropout(0.5)
    twin.load_state_dict(layer.state_dict())
    return twin


@pytest.mark.parametrize("resume", [save, copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_resumed_training_draws_the_same_masks(resume):
    layer, x = nn.Dropout(0.5, rng=np.random.default_rng(3)), draw(100)
    layer(x)
    twin = resume(layer)
    for _ in range(3):
        assert np.array_equal(twin(x), layer(x))
    assert {name: (a.dtype, a.shape) for name, a in layer.state_dict().items()} == {
        "seed": (np.uint64, ()),
        "offset": (np.int64, ()),
    }


def test_the_whole_range_of_seeds(kernels):
    layer, x = nn.Dropout(rng=0).set_backend(kernels), draw(100)
    results = []
    for seed in (0, 1, 2**32, 2**63, 2**64 - 1):
        layer.seed[...] = seed
        layer.offset[...] = 0
        results.append(layer(x).tobytes())
    assert len(set(results)) == 5


@pytest.mark.parametrize("order_x", ["C", "F"])
@pytest.mark.parametrize("order_g", ["C", "F", "gaps"])
def test_memory_orders(kernels, order_x, order_g):
    """The gradient meets the mask element by element, however either lies in memory."""
    layer = nn.Dropout(0.5, rng=0).set_backend(kernels)
    x = np.ones((13, 11), order=order_x)
    grad_y = draw(13, 11)
    y = layer(x)
    given = np.repeat(grad_y, 2, axis=1)[:, ::2] if order_g == "gaps" else np.array(grad_y, order=order_g)
    assert np.array_equal(layer.backward(given), grad_y * y)
    assert np.array_equal(given, grad_y)


@pytest.mark.parametrize("shape", [(0,), (0, 5), ()])
def test_odd_shapes(kernels, shape):
    layer = nn.Dropout(rng=0).set_backend(kernels)
    assert layer(np.ones(shape)).shape == layer.backward(np.ones(shape)).shape == shape


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_bad_probability(p):
    with pytest.raises(ValueError, match=f"p must be from 0 to 1, was {p}"):
        nn.Dropout(p)


def test_bad_input():
    layer = nn.Dropout(rng=0)
    with pytest.raises(TypeError, match=r"x must be float32 or float64, was int64; .*astype\(np.float32\)"):
        layer(np.ones(3, np.int64))
    with pytest.raises(RuntimeError, match="Dropout.backward needs a forward in training mode"):
        layer.backward(np.ones(3))
    assert layer.offset == 0
    layer(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"grad_y must have shape \(4, 3\), was \(3, 4\)"):
        layer.backward(np.ones((3, 4)))
    with pytest.raises(TypeError, match="grad_y must be float64, was float32"):
        layer.backward(np.ones((4, 3), np.float32))


def test_repr():
    assert repr(nn.Dropout(0.2)) == "Dropout(p=0.2)"
    assert repr(nn.Dropout(0.2, inverted=False)) == "Dropout(p=0.2, inverted=False)"
    assert repr(nn.Dropout2d(0.2, axis=-1)) == "Dropout2d(p=0.2, axis=-1)"


@pytest.mark.parametrize("p", ["0.5", None, True, [0.5]])
def test_a_probability_must_be_a_number(p):
    with pytest.raises(TypeError, match="^p must be a number"):
        nn.Dropout(p)


# Whole channels

CHANNELS = [
    (nn.Dropout1d, 1, (6, 5, 3)), (nn.Dropout1d, -1, (6, 3, 5)),
    (nn.Dropout2d, 1, (6, 5, 3, 2)), (nn.Dropout2d, -1, (6, 3, 2, 5)),
    (nn.Dropout3d, 1, (6, 5, 3, 2, 2)), (nn.Dropout3d, -1, (6, 3, 2, 2, 5)),
]
each_channel_layer = pytest.mark.parametrize("kind, axis, shape", CHANNELS)


@each_channel_layer
@pytest.mark.parametrize("p", [0, 0.4, 1])
@pytest.mark.parametrize("inverted", [True, False])
def test_gradients_of_channels(check_gradients, kernels, kind, axis, shape, p, inverted):
    check_gradients(kind(p, inverted=inverted, axis=axis, rng=0).set_backend(kernels), draw(*shape))


@each_channel_layer
@pytest.mark.parametrize("inverted", [True, False])
def test_channels_are_dropped_as_the_elements_of_a_matrix(kernels, kind, axis, shape, inverted):
    layers = [each(0.4, inverted=inverted, rng=2, **options).set_backend(kernels)
              for each, options in ((kind, {"axis": axis}), (nn.Dropout, {}))]
    x, ones = draw(*shape), np.ones((6, 5))
    for _ in range(2):
        y, factors = (layer(each) for layer, each in zip(layers, (x, ones)))
        between = [1] * (len(shape) - 2)
        factors = factors.reshape((6, 5, *between) if axis == 1 else (6, *between, 5))
        assert set(np.unique(factors)) == {0, 1 / (1 - 0.4) if inverted else 1}
        assert np.array_equal(y, x * factors)
        assert np.array_equal(layers[0].backward(x + 1), (x + 1) * factors)
    evaluated = layers[0].eval()(x)
    assert evaluated is x if inverted else np.array_equal(evaluated, x * (1 - 0.4))


@each_channel_layer
def test_memory_orders_of_channels(kernels, kind, axis, shape):
    """Whatever the order in memory of input and gradient, the result is that of C order."""
    x, grad_y = draw(*shape), draw(*shape) + 1

    def call(order):
        layer = kind(0.4, axis=axis, rng=2).set_backend(kernels)
        return layer(order(x)), layer.backward(order(grad_y))

    expected = call(np.ascontiguousarray)
    for order in (np.asfortranarray, lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
                  lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1)):
        for actual, wanted in zip(call(order), expected):
            assert np.array_equal(actual, wanted)


@each_channel_layer
def test_share_of_dropped_channels(kind, axis, shape):
    shape = tuple(200 if n in (5, 6) else n for n in shape)
    y = kind(0.3, axis=axis, rng=1)(np.ones(shape, np.float32))
    dropped = np.moveaxis(y == 0, axis, 1).reshape(200, 200, -1)
    assert np.array_equal(dropped.any(axis=2), dropped.all(axis=2))
    assert abs(dropped.mean() - 0.3) <= 5 * (0.3 * 0.7 / 40_000) ** 0.5  # 5 sigma


@each_channel_layer
def test_resumed_training_drops_the_same_channels(kind, axis, shape):
    layer, x = kind(0.5, axis=axis, rng=np.random.default_rng(3)), draw(*shape)
    layer(x)
    loaded = kind(0.5, axis=axis)
    loaded.load_state_dict(layer.state_dict())
    for twin in (loaded, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        start = layer.state_dict()
        assert np.array_equal(twin(x), layer(x)) and np.array_equal(twin(x), layer(x))
        layer.load_state_dict(start)


@pytest.mark.parametrize("kind, axis, wanted", [
    (nn.Dropout1d, 1, "N, C, L"), (nn.Dropout1d, -1, "N, L, C"), (nn.Dropout2d, 1, "N, C, H, W"),
    (nn.Dropout2d, -1, "N, H, W, C"), (nn.Dropout3d, 1, "N, C, D, H, W"), (nn.Dropout3d, -1, "N, D, H, W, C"),
])
def test_bad_input_of_channels(kind, axis, wanted):
    layer = kind(0.5, axis=axis, rng=0)
    for mode in (True, False):
        with pytest.raises(ValueError, match=rf"^x must have shape \({wanted}\), was \(3, 4\)"):
            layer.train(mode)(np.ones((3, 4)))
    layer.train()
    x = np.ones([2] * len(wanted.split(",")))
    with pytest.raises(TypeError, match="^x must be float32 or float64, was int64"):
        layer(x.astype(np.int64))
    with pytest.raises(RuntimeError, match=f"{kind.__name__}.backward needs a forward in training mode"):
        layer.backward(x)
    assert layer.offset == 0
    layer(x)
    with pytest.raises(ValueError, match="^grad_y must have shape"):
        layer.backward(x[:1])
    with pytest.raises(TypeError, match="^grad_y must be float64, was float32"):
        layer.backward(x.astype(np.float32))
    with pytest.raises(ValueError, match="^axis must be 1 or -1, where the channels are, was 2"):
        kind(axis=2)
    with pytest.raises(ValueError, match="^p must be from 0 to 1"):
        kind(2)
