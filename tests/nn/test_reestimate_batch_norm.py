"""Running statistics set anew to the averages over batches, and nothing else changed."""

import numpy as np
import pytest

from helpers.arrays import draw
from helpers.batch_norm_layers import EPS, assert_same_bits, assert_state_is, random_layer
from numfuse import nn


def make_net(**options):
    rng = np.random.default_rng(0)
    return nn.Sequential(
        random_layer(**options), nn.Linear(3, 4, dtype=np.float64, rng=rng),
        nn.Sequential(random_layer(channels=4, **options), nn.ReLU(), nn.Dropout(0.5, rng=rng)),
    )


def batches():
    return [draw(rows, 3, seed=rows) for rows in (5, 2, 9)]


def settings(net):
    return [(module.training, getattr(module, "momentum", 0), getattr(module, "frozen", 0)) for module in net.modules()]


@pytest.mark.parametrize("arrange", [list, iter, lambda xs: [(x, None) for x in xs], lambda xs: [[x, 1] for x in xs],
                                     lambda xs: [*xs, np.empty((0, 3))], lambda xs: [np.empty((0, 3)), *xs]],
                         ids=["list", "iterator", "pairs", "lists", "empty at last", "empty at first"])
def test_averages(kernels, arrange):
    net = make_net().set_backend(kernels)
    first, second = net[0], net[2][0]
    before = net.state_dict()
    for norm in (first, second):
        norm.running_mean[...] = norm.running_var[...] = np.nan  # what was there does not matter
    nn.reestimate_batch_norm(net, arrange(batches()))
    inputs = batches()
    # The second sees what the first makes of each batch by itself.
    hidden = [(x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + first.eps) * first.weight + first.bias for x in inputs]
    hidden = [x @ net[1].weight.T + net[1].bias for x in hidden]
    for norm, xs in ((first, inputs), (second, hidden)):
        # Values of order one up to ten (a variance); at most 9 are added, and about 30 roundings made on the way.
        close = {"rtol": 0, "atol": 10 * 100 * EPS}
        np.testing.assert_allclose(norm.running_mean, np.mean([x.mean(axis=0) for x in xs], axis=0), **close)
        np.testing.assert_allclose(norm.running_var, np.mean([x.var(axis=0, ddof=1) for x in xs], axis=0), **close)
        assert norm.num_batches_tracked == 3
    after = net.state_dict()
    assert_same_bits({name: array for name, array in after.items() if "running" not in name and "num_" not in name},
                     {name: array for name, array in before.items() if "running" not in name and "num_" not in name})


@pytest.mark.parametrize("options", [{}, {"ghost_batch_size": 2}, {"momentum": None}], ids=str)
def test_as_training_with_momentum_none_and_without_dropout(kernels, options):
    net, trained = make_net(**options).set_backend(kernels), make_net(**options | {"momentum": None})
    nn.reestimate_batch_norm(net, batches())
    trained.set_backend(kernels)[2][2].eval()
    for x in batches():
        trained(x)
    assert_state_is(net, trained.state_dict())


@pytest.mark.parametrize("arrange", [lambda x, mask: (x, mask), lambda x, mask: [x, mask, "labels"]],
                         ids=["pairs", "and labels"])
@pytest.mark.parametrize("make", [make_net, random_layer])
def test_masked_rows_enter_no_statistic(kernels, make, arrange):
    net, valid = make().set_backend(kernels), make().set_backend(kernels)
    inputs = [draw(rows, 3, seed=rows) for rows in (5, 4, 9)]
    masks = [np.ones(5, bool), np.arange(4) % 3 < 1, None]
    padded = [x if mask is None else np.where(mask[:, np.newaxis], x, np.nan) for x, mask in zip(inputs, masks)]
    nn.reestimate_batch_norm(net, [arrange(*pair) for pair in zip(padded, masks)], masked=True)
    nn.reestimate_batch_norm(valid, [x if mask is None else x[mask] for x, mask in zip(inputs, masks)])
    assert_state_is(net, valid.state_dict())


def test_modes_momentum_and_freezing_are_restored(kernels):
    net = make_net().set_backend(kernels)
    net[0].freeze()
    net[2].eval()
    net[2][2].train()
    before = settings(net)
    nn.reestimate_batch_norm(net, batches())
    assert settings(net) == before and net[0].frozen
    assert net[0].num_batches_tracked == 3, "frozen ones take part"


def test_a_net_without_running_statistics_is_left_alone(kernels):
    net = make_net(track_running_stats=False).set_backend(kernels)
    before = net.state_dict()
    nn.reestimate_batch_norm(net, batches())
    assert_state_is(net, before)


def test_a_single_layer(kernels):
    layer = random_layer().set_backend(kernels)
    nn.reestimate_batch_norm(layer, [draw(5, 3)])
    np.testing.assert_allclose(layer.running_mean, draw(5, 3).mean(axis=0), rtol=0, atol=10 * EPS)
    assert layer.training and layer.momentum == 0.1


@pytest.mark.parametrize("make", [make_net, random_layer])
def test_backward_is_that_of_the_last_training_batch(kernels, make):
    net = make().set_backend(kernels)
    grad_y = net(draw(5, 3))
    expected = net.backward(grad_y)
    nn.reestimate_batch_norm(net, [draw(5, 3, seed=3)])
    np.testing.assert_array_equal(net.backward(grad_y), expected)


def interrupted():
    yield from batches()[:2]
    raise KeyboardInterrupt("enough")


@pytest.mark.parametrize("bad, error, words", [
    (lambda: [*batches(), draw(5, 4)], ValueError, r"x must have shape .* was \(5, 4\)"),
    (lambda: [*batches(), draw(5, 3, dtype=np.float32)], TypeError, "x must be float64"),
    (lambda: [*batches(), draw(1, 3)], ValueError, "Expected more than 1 value per channel"),
    (lambda: [*batches(), 3], TypeError, "x must be a NumPy array, was int"),
    (interrupted, KeyboardInterrupt, "enough"),
    (list, ValueError, "batches must bring every batch norm a batch with rows, brought none to BatchNorm1d"),
    (lambda: [np.empty((0, 3))], ValueError, "batches must bring every batch norm a batch with rows"),
    (lambda: 3, TypeError, "not iterable"),
    (lambda: [(draw(5, 3), np.ones(5, bool))], TypeError, "batches must be x, or .x, mask. with masked=True"),
], ids=["shape", "dtype", "one row", "no array", "interrupted", "no batch", "no rows", "no batches", "mask or labels"])
def test_what_raises_changes_nothing(kernels, bad, error, words):
    net = make_net().set_backend(kernels)
    net[0].freeze()
    net[2].eval()
    before, how = net.state_dict(), settings(net)
    with pytest.raises(error, match=words):
        nn.reestimate_batch_norm(net, bad())
    assert_state_is(net, before)
    assert settings(net) == how


@pytest.mark.parametrize("bad, error, words", [
    (draw(5, 3), TypeError, "with masked=True batches must be .x, mask., one had no mask"),
    ((draw(5, 3),), TypeError, "with masked=True batches must be .x, mask."),
    ((draw(5, 3), np.ones(4, bool)), ValueError, r"mask must have shape \(5,\)"),
    ((draw(5, 3), np.ones(5, int)), TypeError, "mask must be a bool array"),
], ids=["x alone", "x in a tuple", "shape", "labels"])
def test_a_bad_mask_changes_nothing(kernels, bad, error, words):
    net = make_net().set_backend(kernels)
    before = net.state_dict()
    with pytest.raises(error, match=words):
        nn.reestimate_batch_norm(net, [(draw(5, 3), None), bad], masked=True)
    assert_state_is(net, before)


def test_bad_net():
    with pytest.raises(TypeError, match="net must be a Module, was list"):
        nn.reestimate_batch_norm([random_layer()], batches())
