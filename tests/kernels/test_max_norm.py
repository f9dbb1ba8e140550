import math

import numpy as np
import pytest

from helpers.arrays import misaligned
from numfuse import native, reference

SHAPES = [(5, 7), (3, 2, 2, 3), (1, 1003), (400, 1), (4,), (), (0, 3), (3, 0)]

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def arrays(dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]


@every_dtype
@pytest.mark.parametrize("averaged", [False, True])
def test_formula(kernels, dtype, averaged):
    params = arrays(dtype)
    averages = arrays(dtype, 1) if averaged else None
    before = [[array.astype(np.float64) for array in group] for group in (params, averages or params)]
    kernels.max_norm(params, averages, max_norm=1.5, ema_decay=0.75)
    scaled = 0
    for i, (old, new) in enumerate(zip(before[0], params)):
        wanted = old.copy()
        if old.ndim >= 2 and old.size:
            norms = np.sqrt((old.reshape(len(old), -1) ** 2).sum(axis=1))
            scaled += (norms > 1.5).sum()
            wanted = old * np.minimum(1, 1.5 / norms).reshape(-1, *[1] * (old.ndim - 1))
        # The norm is a sum in float64; then the factor and the product round, of numbers below 4.
        eps = np.finfo(dtype).eps * 4
        np.testing.assert_allclose(new, wanted, rtol=0, atol=3 * eps)
        if averaged:
            np.testing.assert_allclose(averages[i], 0.75 * before[1][i] + 0.25 * wanted, rtol=0, atol=8 * eps)
    assert scaled > 10


@every_dtype
def test_norms_end_at_the_limit_and_rows_within_it_keep_their_bits(kernels, dtype):
    param = np.random.default_rng(2).standard_normal((50, 33)).astype(dtype)
    param[::2] *= dtype(0.1)
    before = param.copy()
    kernels.max_norm([param], None, max_norm=2.0, ema_decay=0.0)
    assert param[::2].tobytes() == before[::2].tobytes()
    norms = np.sqrt((param[1::2].astype(np.float64) ** 2).sum(axis=1))
    # Each product is off by two roundings at most, and so is their norm.
    np.testing.assert_allclose(norms, 2.0, rtol=3 * np.finfo(dtype).eps)


def test_rows_that_are_not_finite(kernels):
    param = np.ones((4, 3))
    param[1, 0], param[2, 0] = np.nan, np.inf
    with np.errstate(all="raise"):
        kernels.max_norm([param], None, max_norm=1.0, ema_decay=0.0)
    np.testing.assert_array_equal(param[1], [np.nan, 1, 1])
    np.testing.assert_array_equal(param[2], [np.nan, 0, 0])  # infinity * 0
    assert (param[[0, 3]] < 1).all()


@pytest.mark.parametrize("max_norm", [1e-100, 2.0, 1e200, 1e308])
def test_rows_whose_squares_overflow(kernels, max_norm):
    param = np.random.default_rng(4).standard_normal((5, 67)) * [[1], [1e160], [1e200], [1e250], [2e307]]
    param[4, 0] = 1.75e308
    before = param.copy()
    kernels.max_norm([param], None, max_norm=max_norm, ema_decay=0.0)
    # math.hypot scales by the largest element. A product is off by two roundings, as is the norm.
    for old, new in zip(before, param):
        norm = math.hypot(*old / 2)
        if norm <= max_norm / 2:
            assert new.tobytes() == old.tobytes()
        else:
            np.testing.assert_allclose(new, old / 2 / norm * max_norm, rtol=8 * np.finfo(float).eps)
            assert math.hypot(*new) == pytest.approx(max_norm, rel=8 * np.finfo(float).eps)


@every_dtype
def test_rows_of_every_size_have_the_same_bits(dtype):
    """Also with averages, those that overflow, and those that are not finite."""
    exponents = np.linspace(np.log2(np.finfo(dtype).tiny), np.log2(np.finfo(dtype).max) - 3, 50)
    drawn = (np.random.default_rng(5).standard_normal((50, 35)) * np.exp2(exponents)[:, None]).astype(dtype)
    drawn[::7, 3], drawn[1::7, 5], drawn[2::7] = np.inf, np.nan, -0.0
    results = []
    for backend in (native, reference):
        param, average = drawn.copy(), drawn / 2
        backend.max_norm([param], [average], max_norm=3.0, ema_decay=0.5)
        results.append(param.tobytes() + average.tobytes())
    assert results[0] == results[1]


@every_dtype
def test_the_reference_takes_any_order(dtype):
    drawn = np.random.default_rng(6).standard_normal((4, 3, 5)).astype(dtype)
    swapped = drawn.transpose(0, 2, 1).copy().transpose(0, 2, 1)
    for param in (drawn.copy("F"), swapped, drawn.repeat(2, axis=2)[..., ::2]):
        expected = drawn.copy()
        native.max_norm([expected], None, max_norm=1.0, ema_decay=0.0)
        reference.max_norm([param], None, max_norm=1.0, ema_decay=0.0)
        assert param.tobytes() == expected.tobytes() != drawn.tobytes()


def test_many_rows_give_the_same_bits_on_any_number_of_threads():
    before, results = native.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            native.set_num_threads(threads)
            params, averages = ([np.random.default_rng(3).standard_normal((n, 1003)) for n in (1000, 3, 2000)]
                                for _ in range(2))
            native.max_norm(params, averages, max_norm=30.0, ema_decay=0.5)
            results.append([array.tobytes() for array in (*params, *averages)])
    finally:
        native.set_num_threads(before)
    assert results[0] == results[1] == results[2]


def test_nothing_to_do(kernels):
    kernels.max_norm([], None, max_norm=1.0, ema_decay=0.0)
    kernels.max_norm([np.ones((0, 3)), np.ones(3)], [np.ones((0, 3)), np.ones(3)], max_norm=1.0, ema_decay=0.0)


BASE = np.zeros(12)


@pytest.mark.parametrize("params, averages, options, error, pattern", [
    (np.ones((2, 3)), None, {}, TypeError, "^params must be a list"),
    ([np.ones((2, 3)), 1.0], None, {}, TypeError, r"^params\[1\] must be a NumPy array"),
    ([np.ones((2, 3)), np.ones((2, 3), np.float32)], None, {}, TypeError, r"^params\[1\] must be float64"),
    ([np.ones((2, 3), int)], None, {}, TypeError, r"^params\[0\] must be float32 or float64"),
    ([np.asfortranarray(np.ones((2, 3)))], None, {}, ValueError, r"^params\[0\] must be C-contiguous"),
    ([np.ones((2, 6))[:, ::2]], None, {}, ValueError, r"^params\[0\] must be C-contiguous"),
    ([misaligned(np.ones((2, 3)))], None, {}, ValueError, r"^params\[0\] must be aligned"),
    ([np.ones((2, 3))], [], {}, ValueError, "^ema_params must have 1 arrays"),
    ([np.ones((2, 3))], [None], {}, TypeError, r"^ema_params\[0\] must be a NumPy array"),
    ([np.ones((2, 3))], [np.ones((3, 2))], {}, ValueError, r"^ema_params\[0\] must have the shape"),
    ([np.ones((2, 3))], [np.asfortranarray(np.ones((2, 3)))], {}, ValueError, r"^ema_params\[0\] must lie in memory"),
    ([BASE[:6].reshape(2, 3)], [BASE[5:11].reshape(2, 3)], {}, ValueError, "must not overlap"),
    ([BASE[:6].reshape(2, 3), BASE[4:10].reshape(2, 3)], None, {}, ValueError, "must not overlap"),
    ([np.ones((2, 3))], None, {"max_norm": 0.0}, ValueError, "^max_norm must be > 0, was 0.0"),
    ([np.ones((2, 3))], None, {"max_norm": -1.0}, ValueError, "^max_norm must be"),
    ([np.ones((2, 3))], None, {"max_norm": np.nan}, ValueError, "^max_norm must be"),
    ([np.ones((2, 3))], None, {"max_norm": None}, TypeError, "^max_norm must be a number"),
    ([np.ones((2, 3))], None, {"ema_decay": 1.0}, ValueError, "^ema_decay must be in"),
], ids=lambda value: str(value)[:30])
def test_wrong_arguments_are_refused(params, averages, options, error, pattern):
    before = [np.copy(array) for array in (*params, *(averages or []))]
    with pytest.raises(error, match=pattern):
        native.max_norm(params, averages, **{"max_norm": 0.5, "ema_decay": 0.5, **options})
    for old, new in zip(before, (*params, *(averages or []))):
        np.testing.assert_array_equal(old, new)
