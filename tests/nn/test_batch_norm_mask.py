"""Padding: what a mask leaves out enters nothing, and what it leaves is normalised as if it stood alone."""

import numpy as np
import pytest

from helpers.arrays import draw
from helpers.batch_norm_layers import EPS, assert_same_bits, assert_state_is, channels_last, outcome, random_layer
from helpers.natives import each_native
from numfuse import native, nn

MASKED_SHAPES = [
    (nn.BatchNorm1d, (7, 3)),
    (nn.BatchNorm1d, (4, 3, 5)),
    (nn.BatchNorm2d, (3, 3, 4, 2)),
    (nn.BatchNorm3d, (3, 3, 2, 2, 3)),
]
OPTIONS = [
    {}, {"affine": False}, {"momentum": None}, {"ghost_batch_size": 2}, {"track_running_stats": False},
    {"ghost_batch_size": 2, "momentum": None, "affine": False},
]
each_axis = pytest.mark.parametrize("axis", [1, -1])
each_mask = pytest.mark.parametrize("whole_rows", [True, False], ids=["rows", "positions"])
each_shape = pytest.mark.parametrize("kind, shape", MASKED_SHAPES)


def draw_mask(shape, whole_rows):
    """With a row that is valid, one that is not, and others in between where there are positions."""
    mask = np.random.default_rng(5).random(shape[:1] if whole_rows else shape[:1] + shape[2:]) < 0.6
    mask[0], mask[1], mask[2] = True, False, True
    return mask


def by_positions(mask, shape):
    """The mask of a whole batch of this shape, channels along axis 1, without the channel axis."""
    return np.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - 1 - mask.ndim)), shape[:1] + shape[2:])


def arranged(x, axis):
    return x if axis == 1 else channels_last(x)


def channels_first(x, axis):
    return x if axis == 1 else np.moveaxis(x, -1, 1)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@each_mask
@each_axis
@each_shape
def test_gradients(check_gradients, kernels, kind, shape, axis, whole_rows, options):
    # rstd is at most 1.4, so that third derivatives are of order one for two values as well.
    layer = random_layer(kind, axis=axis, eps=0.5, **options).set_backend(kernels)
    check_gradients(layer, arranged(draw(*shape), axis), draw_mask(shape, whole_rows))


@each_mask
@each_axis
@each_shape
def test_textbook_values(kernels, kind, shape, axis, whole_rows):
    """What padding holds does not matter, be it NaN or infinite."""
    layer = random_layer(kind, axis=axis, eps=0.01, momentum=0.3).set_backend(kernels)
    before, mask = layer.state_dict(), draw_mask(shape, whole_rows)
    x, grad_y, valid = draw(*shape), draw(*shape, seed=6), by_positions(mask, shape)
    for array, padding in ((x, np.nan), (grad_y, np.inf)):
        np.moveaxis(array, 1, -1)[~valid] = padding
    y = channels_first(layer(arranged(x, axis), mask), axis)
    grad_x = channels_first(layer.backward(arranged(grad_y, axis)), axis)
    inferred = channels_first(layer.eval()(arranged(x, axis), mask), axis)
    for c in range(3):
        values, g, w, b = x[:, c][valid], grad_y[:, c][valid], layer.weight[c], layer.bias[c]
        rstd = 1 / np.sqrt(values.var() + 0.01)
        xhat = (values - values.mean()) * rstd
        mean = 0.7 * before["running_mean"][c] + 0.3 * values.mean()
        var = 0.7 * before["running_var"][c] + 0.3 * values.var(ddof=1)
        # Values of order one, at most 36 to a channel, and about 20 roundings beyond their sums; the sums grow by n.
        for actual, expected, scale in [
            (y[:, c][valid], xhat * w + b, 1),
            (layer.running_mean[c], mean, 1),
            (layer.running_var[c], var, 1),
            (inferred[:, c][valid], (values - mean) / np.sqrt(var + 0.01) * w + b, 1),
            (grad_x[:, c][valid], (g - g.mean() - xhat * (g * xhat).mean()) * rstd * w, 1),
            (layer.grad_weight[c], (g * xhat).sum(), 36),
            (layer.grad_bias[c], g.sum(), 36),
        ]:
            np.testing.assert_allclose(actual, expected, rtol=0, atol=scale * 500 * EPS)
    for array in (y, grad_x, inferred):
        assert (np.moveaxis(array, 1, -1)[~valid] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@each_axis
@each_shape
def test_masked_rows_are_as_if_they_were_not_there(kernels, kind, shape, axis, options, dtype):
    mask = draw_mask(shape, True)
    x, grad_y = (arranged(draw(*shape, dtype=dtype, seed=seed), axis) for seed in (1, 6))
    layer, alone = (random_layer(kind, dtype, axis=axis, **options).set_backend(kernels) for _ in range(2))
    actual, expected = outcome(layer, x, grad_y, mask), outcome(alone, x[mask], grad_y[mask])
    for name in ("y", "grad_x"):
        actual[name] = actual[name][mask]
    assert_same_bits(actual, expected)
    assert_same_bits({"y": layer.eval()(x, mask)[mask]}, {"y": alone.eval()(x[mask])})


@each_axis
@each_shape
def test_masked_positions_are_as_if_they_were_rows(kernels, kind, shape, axis):
    mask = draw_mask(shape, False)
    x, grad_y = draw(*shape), draw(*shape, seed=6)
    rows, grad_rows = (np.moveaxis(array, 1, -1)[mask] for array in (x, grad_y))
    layer = random_layer(kind, axis=axis).set_backend(kernels)
    actual = outcome(layer, arranged(x, axis), arranged(grad_y, axis), mask)
    for name in ("y", "grad_x"):
        actual[name] = np.moveaxis(channels_first(actual[name], axis), 1, -1)[mask]
    alone = random_layer().set_backend(kernels)
    expected = outcome(alone, np.ascontiguousarray(rows), np.ascontiguousarray(grad_rows))
    assert_same_bits(actual, expected)


@pytest.mark.parametrize("options", OPTIONS[3:], ids=str)
@each_mask
@each_axis
@pytest.mark.parametrize("kind, shape", [*MASKED_SHAPES, (nn.BatchNorm1d, (0, 3)), (nn.BatchNorm2d, (0, 3, 4, 4))])
def test_all_true_has_the_bits_of_no_mask(kernels, kind, shape, axis, whole_rows, options):
    x, grad_y = (arranged(draw(*shape, seed=seed), axis) for seed in (1, 6))
    mask = np.ones(shape[:1] if whole_rows else shape[:1] + shape[2:], bool)
    layer, unmasked = (random_layer(kind, axis=axis, **options).set_backend(kernels) for _ in range(2))
    assert_same_bits(outcome(layer, x, grad_y, mask), outcome(unmasked, x, grad_y))
    if x.size:
        assert_same_bits({"y": layer.eval()(x, mask)}, {"y": unmasked.eval()(x)})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axis, whole_rows", [(1, True), (1, False), (-1, False)])
def test_same_bits_on_every_instruction_set_and_number_of_threads(axis, whole_rows, dtype):
    channels = 13
    values = native.thread_threshold("batch_norm_forward") // channels
    shape = (4, channels, values // 2)
    mask = np.arange(values // 2) < np.array([values // 2, 0, 7, values // 2])[:, np.newaxis]
    mask = mask[:, 0] if whole_rows else mask
    x, grad_y = (arranged(draw(*shape, dtype=dtype, seed=seed), axis) for seed in (1, 6))
    results = [outcome(random_layer(dtype=dtype, channels=channels, axis=axis), x, grad_y, mask) for _ in each_native()]
    for result in results[1:]:
        assert_same_bits(result, results[0])


@each_mask
def test_memory_orders(kernels, whole_rows):
    shape = (3, 3, 4, 2)
    x, grad_y, mask = draw(*shape), draw(*shape, seed=6), draw_mask(shape, whole_rows)
    expected = outcome(random_layer(nn.BatchNorm2d).set_backend(kernels), x, grad_y, mask)
    strange = [np.asfortranarray, lambda x: np.repeat(x, 2, axis=-1)[..., ::2], lambda x: x[::-1].copy()[::-1]]
    for order in strange:
        layer = random_layer(nn.BatchNorm2d).set_backend(kernels)
        assert_same_bits(outcome(layer, order(x), order(grad_y), order(mask)), expected)


def test_the_mask_may_change_before_backward(kernels):
    x, mask = draw(7, 3), draw_mask((7, 3), True)
    layer = random_layer().set_backend(kernels)
    expected = outcome(layer, x, x, mask)["grad_x"]
    layer(x, mask)
    mask[...] = True
    assert_same_bits({"grad_x": layer.backward(x)}, {"grad_x": expected})


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_accumulate(kernels, frozen):
    x, mask = draw(7, 3), draw_mask((7, 3), True)
    layer = random_layer().set_backend(kernels).freeze(frozen)
    once = outcome(layer, x, x, mask)
    layer.backward(x, accumulate=True)
    for name in ("weight", "bias"):
        np.testing.assert_array_equal(layer.named_gradients()[name], 2 * once[f"grad_{name}"])


@pytest.mark.parametrize("mask, error, words", [
    (np.ones(4, bool), ValueError, r"mask must have shape \(5, 4\) or \(5,\), was \(4,\)"),
    (np.ones((5, 3, 4), bool), ValueError, r"mask must have shape \(5, 4\) or \(5,\), was \(5, 3, 4\)"),
    (np.ones((5, 1), bool), ValueError, r"was \(5, 1\)"),
    (np.array(True), ValueError, r"was \(\)"),
    (np.ones(5), TypeError, "mask must be a bool array, was float64"),
    (np.ones(5, np.uint8), TypeError, "mask must be a bool array, was uint8"),
    ([True] * 5, TypeError, "mask must be a bool array, was list"),
    (np.zeros(5, bool), ValueError, r"mask must be True somewhere, was all False in shape \(5,\)"),
    (np.zeros((5, 4), bool), ValueError, "mask must be True somewhere"),
], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_bad_masks_change_nothing(kernels, mask, error, words, training):
    layer = random_layer().set_backend(kernels).train(training)
    before = layer.state_dict()
    with pytest.raises(error, match=words):
        layer(draw(5, 3, 4), mask)
    assert_state_is(layer, before)


def test_shapes_of_masks_are_named_for_rows_and_channels_last():
    with pytest.raises(ValueError, match=r"mask must have shape \(5,\), was \(3,\)"):
        random_layer()(draw(5, 3), np.ones(3, bool))
    with pytest.raises(ValueError, match=r"mask must have shape \(5, 4\) or \(5,\), was \(4,\)"):
        random_layer(axis=-1)(draw(5, 4, 3), np.ones(4, bool))


def test_one_valid_value_is_too_few_where_the_batch_normalises(kernels):
    one = np.arange(20).reshape(5, 4) == 7
    x = draw(5, 3, 4)
    for layer in (random_layer(), random_layer(ghost_batch_size=2), random_layer(track_running_stats=False).eval()):
        before = layer.set_backend(kernels).state_dict()
        with pytest.raises(ValueError, match="Expected more than 1 value per channel when training, mask leaves 1"):
            layer(x, one)
        assert_state_is(layer, before)
    for layer in (random_layer().eval(), random_layer().freeze()):
        assert np.count_nonzero(layer.set_backend(kernels)(x, one)) == 3
    row = np.arange(5) == 1
    assert np.count_nonzero(random_layer().set_backend(kernels)(x, row)) == 12, "a row has 4 values per channel"
    with pytest.raises(ValueError, match="mask leaves 1"):
        random_layer()(draw(5, 3), row)


def test_evaluation_keeps_nothing(kernels):
    layer = random_layer().set_backend(kernels).eval()
    before = layer.state_dict()
    layer(draw(5, 3), draw_mask((5, 3), True))
    assert_state_is(layer, before)
    with pytest.raises(RuntimeError, match="needs a forward in training mode"):
        layer.backward(draw(5, 3))


# In a Sequential

def make_net():
    rng = np.random.default_rng(0)
    return nn.Sequential(
        nn.Linear(4, 5, dtype=np.float64, rng=rng), nn.Tanh(),
        nn.Sequential(nn.BatchNorm1d(5, dtype=np.float64), nn.ReLU(), nn.Dropout(0.3, rng=rng)),
        nn.Linear(5, 3, dtype=np.float64, rng=rng), nn.BatchNorm1d(3, dtype=np.float64),
    )


def test_gradients_of_a_net(check_gradients, kernels):
    check_gradients(make_net().set_backend(kernels), draw(6, 4), draw_mask((6, 4), True))


def test_sequential_hands_the_mask_to_the_layers_that_take_it(kernels):
    net, alone, mask = make_net().set_backend(kernels), make_net().set_backend(kernels), draw_mask((6, 4), True)
    x, grad_y = draw(6, 4), draw(6, 3, seed=6)
    actual = outcome(net, x, grad_y, mask)
    y = alone[1](alone[0](x))
    for layer, masked in [(alone[2][0], True), (alone[2][1], False), (alone[2][2], False), (alone[3], False),
                          (alone[4], True)]:
        y = layer(y, mask) if masked else layer(y)
    assert_same_bits({"y": actual["y"]}, {"y": y})
    assert_state_is(alone, net.state_dict())
    for layer in (alone[4], alone[3], *alone[2].layers[::-1], alone[1], alone[0]):
        grad_y = layer.backward(grad_y)
    assert_same_bits({"grad_x": actual["grad_x"]}, {"grad_x": grad_y})
    assert_same_bits(net.named_gradients(), alone.named_gradients())
    assert_same_bits({"y": net.eval()(x, mask)}, {"y": net(x, mask=mask)})
    assert (net(x, mask)[~mask] == 0).all()


def test_a_mask_of_all_true_has_the_bits_of_the_layers_run_as_one(kernels):
    x, grad_y = draw(6, 4), draw(6, 3, seed=6)
    masked, plain = (outcome(make_net().set_backend(kernels), x, grad_y, mask) for mask in (np.ones(6, bool), None))
    assert_same_bits(masked, plain)


@pytest.mark.parametrize("mask, error, words", [
    (np.ones(7, bool), ValueError, r"mask must have shape \(6,\) or \(6, \.\.\.\), was \(7,\)"),
    (np.ones((4, 6), bool), ValueError, r"mask must have shape \(6,\) or \(6, \.\.\.\), was \(4, 6\)"),
    (np.array(True), ValueError, r"mask must have shape \(6,\) or .*, was \(\)"),
    (np.ones(6), TypeError, "mask must be a bool array, was float64"),
    ([True] * 6, TypeError, "mask must be a bool array, was list"),
    (np.zeros(6, bool), ValueError, "mask must be True somewhere"),
], ids=["other rows", "turned around", "no axis", "floats", "list", "all False"])
@pytest.mark.parametrize("kinds", [
    [nn.Dropout], [lambda: nn.Sequential(nn.Dropout())], [nn.Dropout, lambda: nn.BatchNorm1d(4, dtype=np.float64)],
], ids=["no layer takes it", "within", "a later layer takes it"])
def test_a_bad_mask_is_refused_before_any_layer_has_run(kernels, kinds, mask, error, words):
    net, x = nn.Sequential(*(make() for make in kinds)).set_backend(kernels), draw(6, 4)
    before = net.state_dict()
    with pytest.raises(error, match=words):
        net(x, mask)
    assert_state_is(net, before)
    assert net(x, np.arange(6) < 3).shape == x.shape


def test_a_mask_of_a_number_is_refused():
    with pytest.raises(ValueError, match=r"mask must have shape \(N,\), was \(\)"):
        nn.Sequential(nn.ReLU())(np.array(1.0), np.array(True))


class CountsRows(nn.Module):
    """A user's layer that wants to know the mask, and passes everything on."""

    def forward(self, x, mask=None):
        self.rows = len(x) if mask is None else mask.sum()
        return x

    def backward(self, grad_y, accumulate=False):
        return grad_y


def test_layers_of_a_users_own_take_the_mask_or_not():
    net = nn.Sequential(CountsRows(), nn.Flatten(), nn.BatchNorm1d(6, dtype=np.float64))
    mask = np.array([True, False, True])
    x = draw(3, 2, 3)
    net(x, mask)
    assert net[0].rows == 2
    net[2].forward = lambda x: x  # one that takes none any longer
    np.testing.assert_array_equal(net(x, mask), x.reshape(3, 6))
