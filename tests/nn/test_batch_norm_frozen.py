"""Batch norm that trains with running statistics, and batch norm that has none."""

import copy
import pickle

import numpy as np
import pytest

from helpers.arrays import draw
from helpers.batch_norm_layers import (
    EPS, SHAPES, assert_same_bits, assert_state_is, channels_last, outcome, random_layer,
)
from helpers.natives import each_native
from numfuse import native, nn

each_axis = pytest.mark.parametrize("axis", [1, -1])
each_shape = pytest.mark.parametrize("kind, shape", SHAPES)


@pytest.mark.parametrize("affine", [True, False])
@each_axis
@each_shape
def test_gradients_of_frozen_layers(check_gradients, kernels, kind, shape, axis, affine):
    layer = random_layer(kind, affine=affine, axis=axis).set_backend(kernels).freeze()
    check_gradients(layer, draw(*shape) if axis == 1 else channels_last(draw(*shape)))


@each_axis
@each_shape
def test_gradients_without_running_statistics(check_gradients, kernels, kind, shape, axis):
    # rstd is at most 1.4, so that third derivatives are of order one for two values as well.
    layer = random_layer(kind, track_running_stats=False, axis=axis, eps=0.5).set_backend(kernels)
    check_gradients(layer, draw(*shape) if axis == 1 else channels_last(draw(*shape)))


# Frozen

@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"ghost_batch_size": 2}], ids=str)
def test_frozen_layers_give_what_evaluation_gives(kernels, options):
    layer = random_layer(**options).set_backend(kernels)
    x, grad_y = draw(5, 3), draw(5, 3, seed=6)
    expected, before = layer.eval()(x), layer.state_dict()
    layer.train().freeze()
    y, grad_x = layer(x), layer.backward(grad_y)
    assert_same_bits({"y": y}, {"y": expected})
    assert_state_is(layer, before)
    rstd = 1 / np.sqrt(layer.running_var + layer.eps)
    xhat = (x - layer.running_mean) * rstd
    # Values of order one, 5 of which are added, and less than 10 roundings each.
    for actual, wanted in [(grad_x, grad_y * layer.weight * rstd), (layer.grad_bias, grad_y.sum(axis=0)),
                           (layer.grad_weight, (grad_y * xhat).sum(axis=0))]:
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=200 * EPS)


def test_a_frozen_layer_can_be_thawed(kernels):
    layer, other = random_layer().set_backend(kernels).freeze(), random_layer().set_backend(kernels)
    x = draw(5, 3)
    layer(x)
    assert layer.freeze(False) is layer
    assert_same_bits(outcome(layer, x, x), outcome(other, x, x))


def test_being_frozen_shows_but_is_no_state():
    layer, other = random_layer(), random_layer().freeze()
    assert repr(other) == repr(layer)[:-1] + ", frozen=True)" and repr(other.freeze(False)) == repr(layer)
    layer.load_state_dict(other.freeze().state_dict())
    assert not layer.frozen


def test_freezing_between_forward_and_backward_changes_nothing(kernels):
    layer, other = random_layer().set_backend(kernels), random_layer().set_backend(kernels)
    x, grad_y = draw(5, 3), draw(5, 3, seed=6)
    layer(x)
    layer.freeze()
    other(x)
    np.testing.assert_array_equal(layer.backward(grad_y), other.backward(grad_y))


def test_one_value_per_channel_is_enough_for_a_frozen_layer(kernels):
    layer = random_layer().set_backend(kernels).freeze()
    layer(draw(1, 3))
    assert layer.backward(draw(1, 3)).shape == (1, 3)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_are_frozen_too(duplicate):
    assert duplicate(random_layer().freeze()).frozen and not duplicate(random_layer()).frozen


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frozen_bits_on_every_instruction_set_and_number_of_threads(dtype):
    rows = native.thread_threshold("batch_norm_backward") // 13 + 1
    x, grad_y = (draw(rows, 13, dtype=dtype, seed=seed) for seed in (1, 6))
    layers = (random_layer(dtype=dtype, channels=13).freeze() for _ in each_native())
    first, *others = [outcome(layer, x, grad_y) for layer in layers]
    for other in others:
        assert_same_bits(other, first)


def make_net():
    rng = np.random.default_rng(0)
    return nn.Sequential(
        nn.Linear(4, 3, dtype=np.float64, rng=rng), random_layer(), nn.ReLU(), nn.Dropout(0.3, rng=rng),
        nn.Linear(3, 2, dtype=np.float64, rng=rng))


def test_gradients_of_a_net_with_a_frozen_layer(check_gradients, kernels):
    net = make_net().set_backend(kernels)
    net[1].freeze()
    check_gradients(net, draw(6, 4))


def test_freezing_in_the_midst_of_training(kernels):
    """After a step of batch norm, ReLU and dropout run as one, nothing of it is taken for the next batch's."""
    net, alone = make_net().set_backend(kernels), make_net().set_backend(kernels)
    x, grad_y = draw(6, 4), draw(6, 2, seed=6)
    for step in range(3):
        for each in (net, alone):
            each[1].freeze(step == 1)
        actual = outcome(net, x + step, grad_y)
        y = x + step
        for layer in alone:
            y = layer(y)
        gradient = grad_y
        for layer in alone.layers[::-1]:
            gradient = layer.backward(gradient)
        assert_same_bits({"y": actual["y"], "grad_x": actual["grad_x"]}, {"y": y, "grad_x": gradient})
        assert_same_bits(net.named_gradients(), alone.named_gradients())
        assert_state_is(net, alone.state_dict())
    assert net[1].num_batches_tracked == 2


@pytest.mark.parametrize("layer, words", [(1, "BatchNorm1d"), (3, "Dropout")])
def test_backward_through_a_layer_in_evaluation_is_refused(layer, words):
    """Its gradient would be that of an older batch."""
    net, x = make_net(), draw(6, 4)
    net.backward(net(x))
    net[layer].eval()
    y = net(x)
    with pytest.raises(RuntimeError, match=f"cannot go back through {words}.*evaluation mode.*freeze"):
        net.backward(y)
    net[layer].train()
    net.backward(net(x))


def test_dropout_in_training_in_a_net_in_evaluation(kernels):
    net = make_net().set_backend(kernels).eval()
    before, x = net.state_dict(), draw(6, 4)
    expected = net[4](net[2](net[1](net[0](x))))
    assert_same_bits({"y": net(x)}, {"y": expected})
    net[3].train()
    assert not np.array_equal(net(x), expected)
    after = net.state_dict()
    assert after.pop("3.offset") == before.pop("3.offset") + 1
    assert_same_bits(after, before)


# No running statistics

def test_without_running_statistics_there_are_no_buffers():
    layer = nn.BatchNorm1d(3, track_running_stats=False)
    assert set(layer.state_dict()) == {"weight", "bias"} and layer.named_buffers() == {}
    assert layer.running_mean is layer.running_var is layer.num_batches_tracked is None
    assert repr(layer).endswith("affine=True, track_running_stats=False)")
    with pytest.raises(ValueError, match="track_running_stats=False cannot be frozen"):
        layer.freeze()
    assert not layer.freeze(False).frozen


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("momentum", [0.1, None])
@each_shape
def test_evaluation_takes_the_statistics_of_the_batch(kernels, kind, shape, momentum, dtype):
    options = {"momentum": momentum, "dtype": dtype}
    x, grad_y = (draw(*shape, dtype=dtype, seed=seed) for seed in (1, 6))
    layer = random_layer(kind, track_running_stats=False, **options).set_backend(kernels)
    tracking = random_layer(kind, **options).set_backend(kernels)
    y, grad_x = layer(x), layer.backward(grad_y)
    assert_same_bits({"y": y, "grad_x": grad_x}, {"y": tracking(x), "grad_x": tracking.backward(grad_y)})
    assert_same_bits(layer.named_gradients(), tracking.named_gradients())
    layer.eval()(2 * x)
    assert_same_bits({"y": layer(x)}, {"y": y})
    assert_same_bits({"grad_x": layer.train().backward(grad_y)}, {"grad_x": grad_x})


@pytest.mark.parametrize("training", [True, False])
def test_bad_input_without_running_statistics(kernels, training):
    layer = random_layer(track_running_stats=False).set_backend(kernels).train(training)
    with pytest.raises(TypeError, match="x must be float64, was float32"):
        layer(draw(5, 3, dtype=np.float32))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(draw(1, 3))


def test_a_sequential_without_running_statistics(kernels):
    net = nn.Sequential(random_layer(track_running_stats=False), nn.ReLU(), nn.Dropout(0.5, rng=0)).set_backend(kernels)
    x = draw(6, 3)
    y = net(x)
    dropout = nn.Dropout(0.5, rng=0).set_backend(kernels)
    np.testing.assert_array_equal(y, dropout(np.maximum(net[0](x), 0)))
    np.testing.assert_array_equal(net.eval()(x), np.maximum(net[0](x), 0))
