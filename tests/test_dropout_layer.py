import copy
import pickle

import numpy as np
import pytest

from onepass import nn, reference


def draw(*shape, dtype=np.float64):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("p", [0, 0.2, 0.5, 1])
@pytest.mark.parametrize("shape", [(), (7,), (9, 5), (2, 3, 2, 3)])
def test_gradients(check_gradients, kernels, shape, p):
    check_gradients(nn.Dropout(p, rng=0).set_backend(kernels), np.asarray(draw(*shape)))


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
    assert np.array_equal(layer.backward(x), grad_x)
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


@pytest.mark.parametrize("p", ["0.5", None, True, [0.5]])
def test_a_probability_must_be_a_number(p):
    with pytest.raises(TypeError, match="^p must be a number"):
        nn.Dropout(p)
