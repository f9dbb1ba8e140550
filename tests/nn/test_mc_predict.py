import weakref

import numpy as np
import pytest

from helpers.arrays import draw
from numfuse import nn


def make_net(dtype=np.float64, inverted=True):
    rng = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Linear(5, 16, dtype=dtype, rng=rng), nn.BatchNorm1d(16, dtype=dtype), nn.ReLU(),
        nn.Dropout(0.5, inverted=inverted, rng=rng),
        nn.Sequential(nn.Linear(16, 8, dtype=dtype, rng=rng), nn.ReLU(), nn.Dropout(0.2, inverted=inverted, rng=rng)),
        nn.Linear(8, 3, dtype=dtype, rng=rng))
    net(draw(50, 5, dtype=dtype))  # running statistics that are not those of the beginning
    return net


def outputs_by_hand(net, x, n, rng):
    """All n outputs: batch normalisation by its running statistics, new seeds for the dropout layers in their order."""
    net.eval()
    rng = np.random.default_rng(rng)
    for layer in (net[3], net[4][2]):
        layer.train().seed[...], layer.offset[...] = rng.integers(2**64, dtype=np.uint64), 0
    return np.array([net(x) for _ in range(n)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("inverted", [True, False])
@pytest.mark.parametrize("n", [2, 3, 50])
def test_mean_and_spread_are_those_of_all_outputs(kernels, n, dtype, inverted):
    net, x = make_net(dtype, inverted).set_backend(kernels), draw(7, 5, dtype=dtype)
    mean, std = nn.mc_predict(net, x, n, rng=4)
    outputs = outputs_by_hand(net, x, n, rng=4).astype(np.float64)
    assert mean.dtype == std.dtype == dtype and mean.shape == std.shape == (7, 3)
    # Some n roundings in float64 of numbers of order one, and one to dtype.
    tolerance = 10 * n * np.finfo(np.float64).eps + np.finfo(dtype).eps
    np.testing.assert_allclose(mean, outputs.mean(axis=0), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(std, outputs.std(axis=0, ddof=1), rtol=tolerance, atol=tolerance)


def test_exact_moments_of_a_linear_net():
    """y = w . dropout(x) has mean w . x and variance p / (1 - p) sum((w x)^2): 5 sigma of both estimates."""
    p, n, x = 0.3, 4000, draw(4, 200)
    linear = nn.Linear(200, 1, bias=False, dtype=np.float64, rng=0)
    mean, std = nn.mc_predict(nn.Sequential(nn.Dropout(p), linear), x, n, rng=3)
    expected = np.sqrt(p / (1 - p) * ((x * linear.weight) ** 2).sum(axis=1))
    assert (abs(mean - linear(x))[:, 0] <= 5 * expected / n**0.5).all()
    # A sum of 200 terms is all but normal: the relative error of a standard deviation is 1 / sqrt(2 n).
    assert (abs(std[:, 0] / expected - 1) <= 5 / (2 * n) ** 0.5).all()


@pytest.mark.parametrize("training", [True, False])
def test_leaves_no_trace(kernels, training):
    """Modes, state and what a backward needs; also where a layer fails in the middle."""
    x, grad_y = draw(7, 5), draw(7, 3)
    nets = [make_net().set_backend(kernels) for _ in range(2)]
    for net in nets:
        net(x)
        net.train(training)
        net[4].train()
    net, twin = nets
    nn.mc_predict(net, x, 3)
    with pytest.raises(ValueError, match="x must have shape"):
        nn.mc_predict(net, x[:, 1:], 3)
    assert [layer.training for layer in net] == [layer.training for layer in twin]
    assert net.training == twin.training and net[4][2].training
    for name, array in net.state_dict().items():
        assert np.array_equal(array, twin.state_dict()[name]), name
    for each in nets:
        each.train()
    for _ in range(2):
        assert np.array_equal(net.backward(grad_y), twin.backward(grad_y))
        for gradient, expected in zip(net.gradients(), twin.gradients()):
            assert np.array_equal(gradient, expected)
        outputs = [each(x) for each in nets]
        assert np.array_equal(*outputs)


def test_the_seed_decides():
    net, x = make_net(), draw(7, 5)
    first, again, other = (nn.mc_predict(net, x, 5, rng=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(nn.mc_predict(net, x, 5), nn.mc_predict(net, x, 5))
    rng = np.random.default_rng(1)
    assert np.array_equal(nn.mc_predict(net, x, 5, rng=rng), first)
    assert not np.array_equal(nn.mc_predict(net, x, 5, rng=rng), first)


@pytest.mark.parametrize("layer, shape", [
    (nn.Dropout(0.5), (6, 4)), (nn.Dropout1d(0.5), (6, 4, 3)), (nn.Dropout2d(0.5, axis=-1), (6, 2, 3, 4)),
    (nn.Dropout3d(0.5, inverted=False), (6, 4, 1, 2, 3)), (nn.Dropout(0.5), ()), (nn.Dropout(0.5), (0, 3)),
], ids=repr)
def test_every_dropout_layer_draws(layer, shape):
    mean, std = nn.mc_predict(layer, np.ones(shape), 40, rng=1)
    assert mean.shape == std.shape == shape
    assert (std > 0).all() or std.size == 1


def test_memory_does_not_grow_with_n():
    outputs, most = [], 0

    class Watch(nn.Module):
        """Counts those of its outputs that are still there."""

        def forward(self, x):
            nonlocal most
            most = max(most, sum(output() is not None for output in outputs))
            y = x.copy()
            outputs.append(weakref.ref(y))
            return y

    nn.mc_predict(nn.Sequential(nn.Dropout(0.5), Watch()), np.ones((3, 2)), 200, rng=0)
    assert len(outputs) == 200 and most <= 2


def test_infinite_outputs_are_not_hidden():
    mean, std = nn.mc_predict(nn.Dropout(0.0), np.array([np.inf, np.nan, 1.0]), 3)
    assert np.isnan(std[:2]).all() and std[2] == 0 and mean[2] == 1 and not np.isfinite(mean[:2]).any()


@pytest.mark.parametrize("n, error", [(1, ValueError), (0, ValueError), (2.0, TypeError), (None, TypeError)])
def test_bad_number_of_masks(n, error):
    with pytest.raises(error, match="^n must be"):
        nn.mc_predict(nn.Dropout(), np.ones(3), n)


def test_a_net_without_dropout_is_refused():
    with pytest.raises(ValueError, match="^net must have a dropout layer, had none"):
        nn.mc_predict(nn.Sequential(nn.ReLU()), np.ones(3), 3)
