import numpy as np
import pytest

from numfuse.data import SCALERS, DataError, MinMax, Standardize

EPS = np.finfo(np.float64).eps
scalers = pytest.mark.parametrize("make", SCALERS.values())


def rows(n=5000, seed=0):
    """Columns of very different place and spread, integers, and constants; n rows."""
    rng = np.random.default_rng(seed)
    x = rng.normal([1e6, 0, 0.1, 1e-9], [1, 100, 0, 1e-12], size=(n, 4))
    x[:, 3] += 1.0
    return np.c_[x, rng.integers(10, size=n)]


def same(first, second):
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        np.testing.assert_array_equal(value, second.state_dict()[name])


def test_standardize_columns_by_the_training_rows():
    x = rows()
    standardize = Standardize().fit(x)
    y = standardize(x)
    assert y.dtype == np.float32 and y.shape == x.shape
    columns = [0, 1, 4]
    # Sums of 5000 float32 numbers below 8, each rounded by at most 2^-22.
    np.testing.assert_allclose(y[:, columns].mean(axis=0, dtype=np.float64), 0, atol=2**-22)
    np.testing.assert_allclose(y[:, columns].std(axis=0, dtype=np.float64), 1, atol=2**-20)
    assert (y[:, 2] == 0).all() and (standardize(x + 5)[:, 2] == 0).all()
    # float32 values below 8 are within 2^-22; times the largest deviation, 100.
    np.testing.assert_allclose(standardize.inverse_transform(y[:9]), x[:9], rtol=0, atol=101 * 2**-22)


@pytest.mark.parametrize("ours, theirs, options", [
    (Standardize, "StandardScaler", {}), (MinMax, "MinMaxScaler", {}),
    (MinMax, "MinMaxScaler", {"feature_range": (-3, 0.5)}),
])
@pytest.mark.parametrize("sizes", [[1000], [1, 9, 500, 490]])
def test_scikit_learn_scales_alike(ours, theirs, options, sizes):
    preprocessing = pytest.importorskip("sklearn.preprocessing", reason="needs scikit-learn: parity with it")
    x = rows(1000)[:, [0, 1, 2, 4]]  # the tiny spread around 1 in column 3 is a constant to scikit-learn
    batches = np.split(x, np.cumsum(sizes)[:-1])
    mine, other = ours(**options), getattr(preprocessing, theirs)(**options)
    for batch in batches:
        assert mine.partial_fit(batch) is mine
        other.partial_fit(batch)
    expected = other.transform(x)
    # Both work in float64; at mean 1e6 and deviation 1 that is to 1e6 eps of the result; then ours rounds to float32.
    np.testing.assert_allclose(mine.transform(x), expected, rtol=2**-23, atol=1e6 * 16 * EPS)
    np.testing.assert_allclose(mine.inverse_transform(expected), x, rtol=0, atol=1e6 * 16 * EPS)
    if ours is Standardize:
        np.testing.assert_allclose(mine.std[[0, 1, 3]], other.scale_[[0, 1, 3]], rtol=1e6 * 16 * EPS)
    else:
        np.testing.assert_array_equal([mine.minimum, mine.maximum], [other.data_min_, other.data_max_])


@pytest.mark.parametrize("seed", range(5))
def test_batches_give_what_all_rows_at_once_do(seed):
    x = rows(9000, seed)
    cuts = np.sort(np.random.default_rng(seed).integers(len(x), size=20))
    whole, parts = Standardize().fit(x), Standardize()
    for batch in np.split(x, cuts):  # some may be empty
        if len(batch):
            parts.partial_fit(batch)
    # Each of at most 23 merges rounds a mean by a few eps of the column's largest value, so the squares by that times
    # n deviations; and a sum of n <= 9000 terms, taken pairwise, by log2(n) eps of itself.
    largest = np.abs(x).max(axis=0)
    error = 64 * EPS * largest
    assert (np.abs(parts.mean - whole.mean) <= error).all()
    assert (np.abs(parts.std - whole.std) <= 64 * EPS * whole.std + error).all()
    np.testing.assert_array_equal(parts.count, 9000)
    assert parts.std[2] == 0  # a constant column stays one
    limits = MinMax().fit(x)
    for batch in np.split(x, cuts):
        limits.partial_fit(batch)
    same(limits, MinMax().fit(x))


def test_welford_does_not_cancel():
    """The mean is 1e8 times the deviation: E[x^2] - E[x]^2 would have no digit left."""
    x = 1e8 + np.random.default_rng(0).standard_normal((1000, 1))
    exact = np.std((x - 1e8).astype(np.longdouble))
    single = Standardize()
    for row in x:
        single.partial_fit(row[None])
    for scaler in (Standardize().fit(x), single):
        # Each of at most 1000 new means is rounded by up to 1e8 eps / 2, so the last is off by 1000 times that at most,
        # and so is, relatively, a sum of squares of deviations of order 1 from them, of which std has half.
        assert abs(scaler.std[0] / exact - 1) <= 1000 * 1e8 * EPS / 2


@scalers
def test_images_share_one_scale(make):
    x = np.zeros((5000, 4, 4), np.uint8)
    x[:, 1:3, 1:3] = np.random.default_rng(0).integers(256, size=(5000, 2, 2))
    x[7, 0, 0] = 255
    scaler = make().fit(x)
    y = scaler(x)
    assert y.shape == (5000, 16)
    assert all(value.shape == (1,) for value in scaler.state_dict().values())
    np.testing.assert_array_equal(scaler(x.reshape(5000, 16)), y)
    assert y[7, 0] == y.max()
    if make is Standardize:
        assert abs(y.mean(dtype=np.float64)) < 2**-22 and abs(y.std(dtype=np.float64) - 1) < 2**-20
        assert y.max() < 4  # by its own deviation, 255 * sqrt(1 / 5000), this pixel would be 70
    else:
        assert (y.min(), y.max()) == (0, 1)


def test_min_max_fills_its_range_exactly_and_constants_go_to_its_low_end():
    x = np.array([[1.0, 7.0], [4.0, 7.0], [2.0, 7.0]])
    scale = MinMax(feature_range=(-1, 1)).fit(x)
    np.testing.assert_array_equal(scale(x), np.array([[-1, -1], [1, -1], [-1 / 3, -1]], np.float32))
    np.testing.assert_array_equal(scale(np.array([[7.0, 9.0]])), [[3, -1]])
    np.testing.assert_allclose(scale.inverse_transform(scale(x)), x, rtol=2**-22)


@scalers
@pytest.mark.parametrize("column", [[-1e308, 1e308, 0.0]])
def test_what_overflows_is_refused(make, column):
    scaler = make().fit(np.ones((2, 2)))
    before = scaler.state_dict()
    for use in (scaler.fit, scaler.partial_fit):
        with pytest.raises(DataError, match="too large"):
            use(np.array([column, [1.0, 2.0, 3.0]]).T)
    assert str(scaler.state_dict()) == str(before)


def test_squares_that_overflow_are_refused():
    with pytest.raises(DataError, match="too large"):
        Standardize().fit(np.array([[1e200], [0.0], [1.0]]))


def test_a_constant_column_may_be_as_large_as_it_likes():
    assert (Standardize().fit(np.full((3, 1), 1e308))(np.full((2, 1), 1e308)) == 0).all()


@scalers
@pytest.mark.parametrize("value", [1e39, -1e308, np.nan, np.inf])
def test_scaled_rows_are_finite(make, value):
    scaler = make().fit(np.array([[0.0], [1.0]]))
    x = np.zeros((5000, 1))
    x[4999] = value
    with pytest.raises(DataError, match="not finite"):
        scaler(x)


@scalers
@pytest.mark.parametrize("x, error, fault", [
    (np.array([[1.0, np.nan]]), DataError, "NaN or infinity"),
    (np.array([[1.0, np.inf]]), DataError, "NaN or infinity"),
    (np.ones((3, 5)), ValueError, "x must have 2 columns like the batches before, had 5"),
    (np.ones((3, 2, 2)), ValueError, "x must have 2 columns like the batches before, had 1"),
    (np.array([["a", "b"]]), TypeError, "x must be an array of numbers"),
    (np.float64(3), TypeError, "x must be an array of numbers"),
])
def test_bad_batches_change_nothing(make, x, error, fault):
    scaler = make().fit(np.arange(6.0).reshape(3, 2))
    before = str(scaler.state_dict())
    with pytest.raises(error, match=fault):
        scaler.partial_fit(x)
    assert str(scaler.state_dict()) == before
    if error is ValueError and x.ndim == 2:
        with pytest.raises(ValueError, match="x must have 2 columns, had 5"):
            scaler.transform(x)


@scalers
def test_no_rows(make):
    with pytest.raises(DataError, match="no rows"):
        make().fit(np.ones((0, 2)))
    scaler = make().fit(np.ones((3, 2)))
    assert scaler(np.ones((0, 2))).shape == (0, 2)
    before = str(scaler.state_dict())
    assert str(scaler.partial_fit(np.ones((0, 2))).state_dict()) == before


@scalers
def test_one_column_without_an_axis_for_it(make):
    x = np.arange(5.0)
    same(make().fit(x), make().fit(x[:, None]))
    np.testing.assert_array_equal(make().fit(x)(x), make().fit(x[:, None])(x[:, None]))


@scalers
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64, bool, ">f8"])
def test_views_and_other_dtypes(make, dtype):
    x = (np.random.default_rng(0).random((60, 6)) * 2).astype(dtype)
    same(make().fit(x[::2, ::-3]), make().fit(np.ascontiguousarray(x[::2, ::-3]).astype(np.float64)))


@scalers
def test_it_needs_a_fit(make):
    for use in (make().transform, make().inverse_transform, make()):
        with pytest.raises(RuntimeError, match="needs fit"):
            use(np.ones((2, 2)))
    with pytest.raises(RuntimeError, match="needs fit"):
        make().state_dict()


@scalers
def test_state_moves_to_another_scaler(make):
    x = rows()
    scaler = make().fit(x[:50])
    other = make(**scaler.options())
    other.load_state_dict(scaler.state_dict())
    same(other.partial_fit(x[50:]), scaler.partial_fit(x[50:]))
    state = scaler.state_dict()
    state[scaler.statistics[0]][:] = 0
    assert str(state) != str(scaler.state_dict())


@scalers
@pytest.mark.parametrize("change, fault", [
    (lambda state: state.popitem(), "state must have the names"),
    (lambda state: state.update(other=np.zeros(2)), "state must have the names"),
    (lambda state: state.update(dict.fromkeys(list(state)[:1], np.zeros(3))), "must be float64 of shape"),
    (lambda state: state.update(dict.fromkeys(state, np.zeros((2, 2)))), "must be float64 of shape"),
    (lambda state: state.update(dict.fromkeys(list(state)[1:2], np.zeros(2, np.float32))), "must be float64 of shape"),
])
def test_foreign_states_are_refused(make, change, fault):
    scaler = make().fit(np.ones((3, 2)))
    state, before = scaler.state_dict(), str(scaler.state_dict())
    change(state)
    with pytest.raises(ValueError, match=fault):
        scaler.load_state_dict(state)
    assert str(scaler.state_dict()) == before


@pytest.mark.parametrize("make, change, fault", [
    (Standardize, {"count": -1}, "count must be > 0"),
    (Standardize, {"count": 0}, "count must be > 0"),
    (Standardize, {"squares": -1e-300}, "squares >= 0"),
    (MinMax, {"minimum": 1.5}, "minimum must be <= maximum"),
    *((make, {name: value}, f"{name} must be finite")
      for make in SCALERS.values() for name in make.statistics for value in (np.nan, np.inf, -np.inf)),
])
def test_statistics_that_no_rows_have_are_refused(make, change, fault):
    scaler = make().fit(np.ones((3, 2)))
    state, before = scaler.state_dict(), str(scaler.state_dict())
    for name, value in change.items():
        state[name][1] = value
    with pytest.raises(ValueError, match=fault):
        scaler.load_state_dict(state)
    assert str(scaler.state_dict()) == before


@pytest.mark.parametrize("feature_range, error", [
    ((1, 1), ValueError), ((2, 1), ValueError), ((0, np.inf), ValueError), ((0, np.nan), ValueError),
    ((0,), TypeError), (3, TypeError), (("a", "b"), TypeError),
])
def test_bad_feature_range(feature_range, error):
    with pytest.raises(error, match="feature_range must be"):
        MinMax(feature_range=feature_range)
