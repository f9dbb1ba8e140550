import copy

import numpy as np
import pytest

from helpers.arrays import draw
from numfuse import nn, reference


def make_net(p=0.5, inverted=False, dtype=np.float64, bias=True):
    """Dropout in front of the first Linear, behind a ReLU, in front of one, and twice in a nested net."""
    rng = np.random.default_rng(0)

    def linear(inputs, outputs):
        return nn.Linear(inputs, outputs, bias=bias, dtype=dtype, rng=rng)

    def dropout():
        return nn.Dropout(p, inverted=inverted, rng=rng)

    inner = nn.Sequential(dropout(), linear(8, 8), nn.BatchNorm1d(8, dtype=dtype), nn.ReLU(), dropout())
    channels = nn.Dropout1d(p, inverted=inverted, rng=rng)
    net = nn.Sequential(channels, nn.Flatten(), linear(6, 7), nn.ReLU(), dropout(), linear(7, 8), dropout(), nn.ReLU(),
                        inner, linear(8, 3), nn.Tanh())
    net(draw(50, 2, 3, dtype=dtype))  # running statistics that are not those of the beginning
    return net


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("inverted", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.5, 0.3, 1.0])
def test_gives_what_evaluation_gives(kernels, p, inverted, bias, dtype):
    net, x = make_net(p, inverted, dtype, bias).set_backend(kernels), draw(9, 2, 3, dtype=dtype)
    before = {name: array.copy() for name, array in net.state_dict().items()}
    net.train()
    folded = nn.fold_dropout(net)
    y, expected = folded(x), net.eval()(x)
    assert y.dtype == dtype
    if p in (0.0, 0.5) or inverted:  # a power of 2 makes no rounding
        assert np.array_equal(y, expected)
    else:
        # Four Linears, of at most 8 terms of order one, each with two roundings, one of which the fold moves.
        np.testing.assert_allclose(y, expected, rtol=0, atol=100 * np.finfo(dtype).eps)
    for name, array in net.state_dict().items():
        assert np.array_equal(array, before[name])
    own, theirs = (module.state_dict().values() for module in (net, folded))
    assert not any(np.shares_memory(a, b) for a in own for b in theirs)
    assert "Dropout" not in repr(folded)


def test_copy_is_in_evaluation_mode_and_of_the_same_backend():
    net = make_net().set_backend(reference)
    folded = nn.fold_dropout(net)
    assert not folded.training and not any(layer.training for layer in folded)
    assert all(layer.kernels is reference for layer in folded)
    assert net.training


def test_weights_take_the_product_of_several_factors():
    linear = nn.Linear(4, 3, dtype=np.float64, rng=0)
    net = nn.Sequential(nn.Dropout(0.5, inverted=False), nn.Dropout(0.9), nn.ReLU(), nn.Dropout(0.75, inverted=False),
                        nn.LeakyReLU(0.1), linear)
    *_, folded = nn.fold_dropout(net)
    x = draw(5, 4)
    np.testing.assert_allclose(nn.fold_dropout(net)(x), net.eval()(x), rtol=0, atol=1e-15)
    assert np.array_equal(folded.weight, linear.weight / 8) and np.array_equal(folded.bias, linear.bias)


def test_scaled_weights_are_the_third_way():
    """They give what the Linear gives for what dropout gives in evaluation: exactly, where 1 - p is a power of 2."""
    linear, x = nn.Linear(40, 30, rng=0), draw(20, 40, dtype=np.float32)
    before = copy.deepcopy(linear.state_dict())
    scaled = nn.scale_weights(linear, 0.5)
    assert np.array_equal(scaled(x), linear(nn.Dropout(0.5, inverted=False).eval()(x)))
    assert not scaled.training and linear.training
    assert all(np.array_equal(array, before[name]) for name, array in linear.state_dict().items())
    linear.weight[0] = np.inf
    assert not nn.scale_weights(linear, 1).weight.any()


def test_three_ways_have_one_expectation():
    """Of a Linear on dropped input, the mean over n masks is what each way gives in evaluation: 5 sigma."""
    p, n, x = 0.3, 20_000, draw(1, 12)
    linear = nn.Linear(12, 4, dtype=np.float64, rng=0)
    inverted, plain = (nn.Sequential(nn.Dropout(p, inverted=way, rng=1), linear) for way in (True, False))
    inverted_mean, plain_mean = (net(np.repeat(x, n, axis=0)).mean(axis=0) for net in (inverted, plain))
    deviation = np.sqrt((p * (1 - p) * (x * linear.weight) ** 2).sum(axis=1) / n)
    folded = nn.fold_dropout(nn.Sequential(nn.Dropout(p, inverted=False), linear))
    for mean, net, sigma in ((inverted_mean, inverted, deviation / (1 - p)), (plain_mean, plain, deviation),
                             (plain_mean, folded, deviation)):
        assert (abs(mean - net.eval()(x)[0]) <= 5 * sigma).all()


@pytest.mark.parametrize("layers, message", [
    ([nn.Dropout(0.5, inverted=False), nn.Tanh(), nn.Linear(3, 3)], r"^layer 1 must be a Linear, .* was Tanh\(\)"),
    ([nn.Dropout(0.5, inverted=False), nn.BatchNorm1d(3), nn.Linear(3, 3)], "^layer 1 must be .*BatchNorm1d"),
    ([nn.ReLU(), nn.Sequential(nn.Dropout(0.5, inverted=False), nn.Sigmoid())], "^layer 1.1 must be .*Sigmoid"),
    ([nn.Linear(3, 3), nn.Dropout(0.5, inverted=False), nn.ReLU()], "^net must have a Linear behind every .* 0.5 is"),
])
def test_a_factor_without_a_place_is_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        nn.fold_dropout(nn.Sequential(*layers))


def test_bad_arguments():
    with pytest.raises(TypeError, match="^net must be a Sequential, was Linear"):
        nn.fold_dropout(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"^linear must be a Linear, was ReLU\(\)"):
        nn.scale_weights(nn.ReLU(), 0.5)
    for p, error in ((1.5, ValueError), (-0.1, ValueError), (np.nan, ValueError), ("0.5", TypeError)):
        with pytest.raises(error, match="^p must be"):
            nn.scale_weights(nn.Linear(2, 2), p)


def test_other_modules_keep_their_dropout():
    class Residual(nn.Module):
        def __init__(self):
            self.inner = nn.Dropout(0.5, inverted=False)

        def forward(self, x):
            return x + self.inner(x)

    folded = nn.fold_dropout(nn.Sequential(Residual(), nn.Dropout(0.5)))
    assert len(folded) == 1 and (folded(np.ones((2, 3))) == 1.5).all()
