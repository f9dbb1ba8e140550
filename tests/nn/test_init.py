import math

import numpy as np
import pytest

from numfuse.nn import init

UNIFORM = [init.xavier_uniform, init.kaiming_uniform, init.lecun_uniform]
NORMAL = [init.xavier_normal, init.kaiming_normal, init.lecun_normal]
FILLS = [*UNIFORM, *NORMAL, init.orthogonal]


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
        (init.lecun_uniform, {}, (300, 500), 1 / math.sqrt(500)),
        (init.lecun_normal, {}, (30, 50, 10, 10), 1 / math.sqrt(5000)),
    ],
)
def test_spread(fill, options, shape, std):
    """Of 150,000 values the mean is off by std / 387 and the deviation by at most std / 548; 5 sigma."""
    weight = fill(np.empty(shape), **options, rng=0)
    assert abs(weight.mean()) < 5 * std / 387
    assert abs(weight.std() / std - 1) < 5 / 548
    if fill in UNIFORM:
        assert 0.999 * math.sqrt(3) * std < np.abs(weight).max() <= math.sqrt(3) * std
    else:
        assert np.abs(weight).max() > 3 * std


@pytest.mark.parametrize("fill", [*FILLS, init.trunc_normal])
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
    for fill in (init.xavier_normal, init.orthogonal):
        with pytest.raises(error, match="^gain must be"):
            fill(weight, gain)
    assert (weight == 1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (1, 4), (4, 1), (6, 2, 2), (3, 2, 5, 5)])
@pytest.mark.parametrize("gain", [1.0, 1.5, 0.0])
def test_orthogonal_rows_or_columns(shape, gain, dtype):
    matrix = init.orthogonal(np.full(shape, np.nan, dtype), gain, rng=3).reshape(shape[0], -1).astype(np.float64)
    product = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    # Products of at most 50 numbers, with some roundings each of Householder's reflections and of dtype.
    np.testing.assert_allclose(product, gain**2 * np.eye(len(product)), rtol=0, atol=100 * np.finfo(dtype).eps)


def test_every_orthogonal_matrix_is_as_likely():
    """A rotation of the plane is one of any angle, and half of the matrices are reflections: 5 sigma."""
    rng, n = np.random.default_rng(0), 2000
    matrices = np.array([init.orthogonal(np.empty((2, 2)), rng=rng) for _ in range(n)])
    angle = np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])
    for wave in (1, 2):  # LAPACK's own signs would leave every first column in one half of the plane
        assert abs(np.exp(1j * wave * angle).mean()) <= 5 / n**0.5
    assert abs((np.linalg.det(matrices) > 0).mean() - 0.5) <= 5 * 0.5 / n**0.5


@pytest.mark.parametrize("mean, std, a, b", [
    (0.0, 1.0, -2.0, 2.0), (3.0, 0.1, 2.95, 3.3), (0.0, 1.0, 1.0, 1.2), (0.0, 2.0, -math.inf, -9.0),
    (-1.0, 1.0, 8.0, math.inf), (0.0, 1.0, 36.0, 40.0), (5.0, 2.0, -math.inf, math.inf),
])
def test_truncated_normal_distribution(mean, std, a, b):
    """The distribution function, integrated numerically, at every value: uniform from 0 to 1, by Kolmogorov's test."""
    n = 20_000
    values = np.sort(init.trunc_normal(np.empty((n // 4, 4)), mean, std, a, b, rng=7).ravel())
    assert a <= values[0] and values[-1] <= b
    # Beyond 9 deviations from where the density is largest there is less than can be seen.
    peak = min(max(mean, a), b)
    grid = np.linspace(max(a, peak - 9 * std), min(b, peak + 9 * std), 2_000_001)
    density = np.exp(((peak - mean) ** 2 - (grid - mean) ** 2) / (2 * std**2))
    cumulative = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    shares = np.interp(values, grid, cumulative / cumulative[-1])
    # The largest distance exceeds 2.5 / sqrt(n) with a probability of 2 exp(-2 * 2.5^2) = 7e-6.
    assert abs(shares - (np.arange(n) + 0.5) / n).max() <= 2.5 / n**0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (7,), (2, 3, 4)])
def test_truncated_normal_of_any_shape(shape, dtype):
    for a, b in ((-0.1, 0.1), (0.1, 0.3)):
        weight = np.full(shape, np.nan, dtype)
        assert init.trunc_normal(weight, std=0.1, a=a, b=b) is weight
        assert ((weight >= dtype(a)) & (weight <= dtype(b))).all()


@pytest.mark.parametrize("options, error, words", [
    ({"std": 0.0}, ValueError, "^std must be > 0"), ({"std": -1.0}, ValueError, "^std must be > 0"),
    ({"std": "1"}, TypeError, "^std must be a number"), ({"mean": math.nan}, ValueError, "^mean must be finite"),
    ({"mean": None}, TypeError, "^mean must be a number"), ({"a": "0"}, TypeError, "^a must be a number"),
    ({"b": None}, TypeError, "^b must be a number"), ({"a": 2.0}, ValueError, "^a must be less than b, were 2.0 and"),
    ({"a": 3}, ValueError, "^a must be less than b, were 3.0 and"), ({"b": math.nan}, ValueError, "^a must be less"),
    ({"a": 50.0, "b": 60.0}, ValueError, "^a and b must have a part of the distribution between them"),
])
def test_bad_truncation_changes_nothing(options, error, words):
    weight = np.full((3, 2), 7.0)
    with pytest.raises(error, match=words):
        init.trunc_normal(weight, **options)
    assert (weight == 7).all()
    with pytest.raises(TypeError, match="^weight must be"):
        init.trunc_normal([1.0])
