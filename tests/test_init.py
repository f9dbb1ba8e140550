import math

import numpy as np
import pytest

from onepass.nn import init

FILLS = [init.xavier_uniform, init.xavier_normal, init.kaiming_uniform, init.kaiming_normal]


@pytest.mark.parametrize(
    "fill, options, shape, std",
    [
        (init.xavier_uniform, {}, (300, 500), math.sqrt(2 / 800)),
        (init.xavier_normal, {"gain": 3}, (300, 500), 3 * math.sqrt(2 / 800)),
        (init.xavier_normal, {}, (30, 50, 10, 10), math.sqrt(2 / 8000)),
        (init.kaiming_uniform, {}, (300, 500), math.sqrt(2 / 500)),
        (init.kaiming_normal, {"mode": "fan_out"}, (300, 500), math.sqrt(2 / 300)),
        (init.kaiming_normal, {}, (30, 50, 100), math.sqrt(2 / 5000)),
        (init.kaiming_uniform, {"a": math.sqrt(5)}, (300, 500), math.sqrt(1 / 1500)),
        (init.kaiming_uniform, {"nonlinearity": "tanh"}, (300, 500), 5 / 3 / math.sqrt(500)),
    ],
)
def test_spread(fill, options, shape, std):
    """Of 150,000 values the mean is off by std / 387 and the deviation by at most std / 548; 5 sigma."""
    weight = fill(np.empty(shape), **options, rng=0)
    assert abs(weight.mean()) < 5 * std / 387
    assert abs(weight.std() / std - 1) < 5 / 548
    if fill in (init.xavier_uniform, init.kaiming_uniform):
        assert 0.999 * math.sqrt(3) * std < np.abs(weight).max() <= math.sqrt(3) * std
    else:
        assert np.abs(weight).max() > 3 * std


@pytest.mark.parametrize("fill", FILLS)
def test_fills_in_place_by_one_stream_for_both_dtypes(fill):
    single, double = np.empty((6, 5), np.float32), np.empty((6, 5))
    assert fill(single, rng=1) is single
    assert np.array_equal(single, fill(double, rng=np.random.default_rng(1)).astype(np.float32))
    view = np.zeros((5, 12))[:, ::2].T
    assert np.array_equal(fill(view, rng=1), double)
    rng = np.random.default_rng(1)
    assert not np.array_equal(fill(np.empty((6, 5)), rng=rng), fill(np.empty((6, 5)), rng=rng))


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    "weight, error, words",
    [
        (np.ones(5), ValueError, r"2 dimensions or more, none of them 0, had shape \(5,\)"),
        (np.ones((3, 0)), ValueError, r"had shape \(3, 0\)"),
        (np.ones((3, 2), int), TypeError, "float32 or float64"),
        ((3, 2), TypeError, "NumPy array, was tuple"),
    ],
)
def test_bad_weight(fill, weight, error, words):
    with pytest.raises(error, match=words):
        fill(weight, rng=0)


@pytest.mark.parametrize(
    "options, words",
    [({"mode": "fan"}, "mode must be .*'fan'"), ({"nonlinearity": "gelu"}, "relu.*was 'gelu'")],
)
@pytest.mark.parametrize("fill", [init.kaiming_uniform, init.kaiming_normal])
def test_bad_options_change_nothing(fill, options, words):
    weight = np.full((3, 2), 7.0)
    with pytest.raises(ValueError, match=words):
        fill(weight, **options)
    assert (weight == 7).all()


@pytest.mark.parametrize(
    "nonlinearity, param, gain",
    [
        ("linear", None, 1),
        ("sigmoid", None, 1),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("leaky_relu", None, math.sqrt(2 / 1.0001)),
        ("leaky_relu", 1, 1),
        ("selu", None, 0.75),
    ],
)
def test_gain(nonlinearity, param, gain):
    assert init.calculate_gain(nonlinearity, param) == pytest.approx(gain, rel=1e-15)


@pytest.mark.parametrize("gain, error", [(-1.0, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError)])
def test_a_bad_gain_is_named_and_fills_nothing(gain, error):
    weight = np.ones((2, 3))
    with pytest.raises(error, match="^gain must be"):
        init.xavier_normal(weight, gain)
    assert (weight == 1).all()
