"""Ghost batches: each group of rows is normalised as a batch of its own."""

import numpy as np
import pytest

from helpers.arrays import draw
from helpers.batch_norm_layers import assert_same_bits, assert_state_is, channels_last, outcome, random_layer
from helpers.natives import each_native
from numfuse import native, nn
from numfuse.nn.row_mask import group_slices

SHAPES = [(nn.BatchNorm1d, (7, 3)), (nn.BatchNorm1d, (5, 3, 4)), (nn.BatchNorm2d, (3, 3, 2, 4)),
          (nn.BatchNorm3d, (3, 3, 2, 1, 2))]
OPTIONS = [{}, {"affine": False}, {"momentum": None}, {"track_running_stats": False}]
each_options = pytest.mark.parametrize("options", OPTIONS, ids=str)
each_axis = pytest.mark.parametrize("axis", [1, -1])
each_shape = pytest.mark.parametrize("kind, shape", SHAPES)


@each_options
@each_axis
@each_shape
def test_gradients(check_gradients, kernels, kind, shape, axis, options):
    # rstd is at most 1.4, so that third derivatives are of order one for two values as well.
    layer = random_layer(kind, axis=axis, ghost_batch_size=2, eps=0.5, **options).set_backend(kernels)
    check_gradients(layer, draw(*shape) if axis == 1 else channels_last(draw(*shape)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_options
@each_axis
@each_shape
@pytest.mark.parametrize("accumulate", [False, True])
def test_groups_are_batches_one_after_the_other(kernels, kind, shape, axis, options, dtype, accumulate):
    x, grad_y = (draw(*shape, dtype=dtype, seed=seed) for seed in (1, 6))
    if axis == -1:
        x, grad_y = channels_last(x), channels_last(grad_y)
    ghosts = random_layer(kind, dtype, axis=axis, ghost_batch_size=3, **options).set_backend(kernels)
    plain = random_layer(kind, dtype, axis=axis, **options).set_backend(kernels)
    for layer in (ghosts, plain):
        for gradient in layer.gradients():
            gradient[...] = 7
    y, grad_x = ghosts(x), ghosts.backward(grad_y, accumulate)
    stops = {7: [3, 7], 5: [3, 5], 3: [3]}[len(x)]
    for start, stop in zip([0, *stops], stops):
        group = slice(start, stop)
        part = {"y": plain(x[group]), "grad_x": plain.backward(grad_y[group], accumulate or start > 0)}
        assert_same_bits({"y": y[group], "grad_x": grad_x[group]}, part)
    assert_same_bits(ghosts.named_gradients(), plain.named_gradients())
    assert_state_is(ghosts, plain.state_dict())
    assert_same_bits({"y": ghosts.eval()(x)}, {"y": plain.eval()(x)})


@pytest.mark.parametrize("rows, size, values, edges", [
    (0, 2, 1, [0]), (2, 2, 1, [0, 2]), (3, 2, 1, [0, 3]), (3, 2, 2, [0, 2, 3]), (4, 2, 1, [0, 2, 4]), (2, 3, 1, [0, 2]),
    (9, 4, 1, [0, 4, 9]), (9, 4, 5, [0, 4, 8, 9]), (10, 4, 1, [0, 4, 8, 10]),
])
def test_slices(rows, size, values, edges):
    assert group_slices(np.ones(rows, int), size, values) == [slice(*pair) for pair in zip(edges, edges[1:])]


def test_slices_of_rows_with_several_entries():
    assert group_slices(np.array([3, 1, 2, 4]), 2, 1) == [slice(0, 4), slice(4, 10)]
    assert group_slices(np.array([3, 1, 2, 4, 2]), 2, 1) == [slice(0, 4), slice(4, 10), slice(10, 12)]
    assert group_slices(np.array([3, 1, 2, 4, 1]), 2, 1) == [slice(0, 4), slice(4, 11)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_on_every_instruction_set_and_number_of_threads(dtype):
    channels = 13
    rows = native.thread_threshold("batch_norm_forward") // channels + 1
    x, grad_y = (draw(2 * rows + 50, channels, dtype=dtype, seed=seed) for seed in (1, 6))
    layers = (random_layer(dtype=dtype, channels=channels, ghost_batch_size=rows) for _ in each_native())
    first, *others = [outcome(layer, x, grad_y) for layer in layers]
    for other in others:
        assert_same_bits(other, first)
    assert first["num_batches_tracked"] == 3


def test_memory_orders(kernels):
    x, grad_y = draw(5, 3, 2, 4), draw(5, 3, 2, 4, seed=6)
    orders = [np.ascontiguousarray, np.asfortranarray, lambda x: np.moveaxis(channels_last(x), -1, 1),
              lambda x: np.repeat(x, 2, axis=0)[::2]]
    expected = outcome(random_layer(nn.BatchNorm2d, ghost_batch_size=2).set_backend(kernels), x, grad_y)
    for order_x in orders:
        for order_g in orders:
            layer = random_layer(nn.BatchNorm2d, ghost_batch_size=2).set_backend(kernels)
            for name, array in outcome(layer, order_x(x), order_g(grad_y)).items():
                # As in tests/nn/test_batch_norm.py: sums of 16 numbers in another order, some 20 roundings.
                np.testing.assert_allclose(array, expected[name], rtol=0, atol=200 * np.finfo(float).eps, err_msg=name)


def test_a_sequential_runs_them_too(kernels):
    def make_net(**options):
        rng = np.random.default_rng(0)
        return nn.Sequential(random_layer(**options), nn.ReLU(), nn.Dropout(0.2, rng=rng)).set_backend(kernels)

    x, grad_y = draw(4, 3), draw(4, 3, seed=6)
    net, alone = make_net(ghost_batch_size=2), make_net(ghost_batch_size=2)
    y, grad_x = net(x), net.backward(grad_y)
    for layer in alone:
        x = layer(x)
    for layer in alone.layers[::-1]:
        grad_y = layer.backward(grad_y)
    assert_same_bits({"y": y, "grad_x": grad_x}, {"y": x, "grad_x": grad_y})
    assert_state_is(net, alone.state_dict())
    assert net[0].num_batches_tracked == 2


@pytest.mark.parametrize("size, error, words", [
    (1, ValueError, "ghost_batch_size must be at least 2, was 1"),
    (0, ValueError, "ghost_batch_size must be at least 2, was 0"),
    (-2, ValueError, "ghost_batch_size must be at least 2, was -2"),
    (2.0, TypeError, "ghost_batch_size must be an integer, was 2.0"),
])
def test_bad_size(size, error, words):
    with pytest.raises(error, match=words):
        nn.BatchNorm1d(3, ghost_batch_size=size)


def test_a_batch_of_one_is_refused(kernels):
    layer = random_layer(ghost_batch_size=2).set_backend(kernels)
    before = layer.state_dict()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer(draw(1, 3))
    assert_state_is(layer, before)


def test_an_empty_batch_is_counted_as_without_ghosts(kernels):
    ghosts, plain = random_layer(ghost_batch_size=2), random_layer()
    x = np.empty((0, 3))
    assert_same_bits(outcome(ghosts.set_backend(kernels), x, x), outcome(plain.set_backend(kernels), x, x))


def test_repr():
    assert repr(nn.BatchNorm1d(3, ghost_batch_size=4)).endswith("affine=True, ghost_batch_size=4)")
