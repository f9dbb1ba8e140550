"""Comparisons of kernels with their references, and with themselves on other instruction sets and threads."""

import numpy as np
import pytest

from helpers.arrays import flat
from helpers.natives import each_native
from numfuse import native, reference

SIZES = [0, 1, 7, 8, 9, 63, 64, 65, 1003]
ABOVE_THRESHOLD = "above threshold"  # of elements from which on the kernel uses threads
ODD_SIZES = [*SIZES, (300, 31), (300, 32), (3, 5003), (5000, 1)]
GUARD, FENCE = 16, 77  # elements on either side of an array, and their value
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def case_arguments(case, size, dtype, special=False):
    if size == ABOVE_THRESHOLD:
        size = native.thread_threshold(case.kernel) + 1
    rng = np.random.default_rng(size)
    arguments = case.arguments(size, dtype, rng)
    if special:
        for array in flat(arguments):
            sprinkle(array, rng)
        if case.kernel == "bce_with_logits":
            np.clip(arguments["target"], 0, 1, out=arguments["target"])
        if case.group == "losses":
            make_weights(arguments)
    if "out" in arguments:
        arguments["out"].fill(np.nan)
    return arguments


def make_weights(arguments):
    """Keep 0 and what is tiny among a loss's weights, and put 1 in place of what would be refused."""
    for name in ("weight", "pos_weight", "sample_weight"):
        weight = arguments.get(name)
        if weight is not None and weight.size:
            weight[~((weight >= 0) & (weight <= 2))] = 1
            weight[arguments["target"][:1] if name == "weight" else 0] = 1


def sprinkle(array, rng):
    """Put what is rare among random numbers into a third of a float array."""
    if array.dtype.kind == "f":
        info = np.finfo(array.dtype)
        tiny, one = info.tiny, array.dtype.type(1)
        special = [np.nan, np.inf, 0, one, tiny, tiny / 2, np.nextafter(0, one), np.sqrt(tiny), info.max]
        special = np.array(special, dtype=array.dtype)
        chosen = rng.random(array.shape) < 1 / 3
        array[chosen] = rng.choice(np.concatenate([special, -special]), chosen.sum())


def guarded(value, offset):
    """A copy with fences on both sides, `offset` elements after where NumPy would align it."""
    if isinstance(value, list):
        return [guarded(part, offset) for part in value]
    if not isinstance(value, np.ndarray):
        return value
    buffer = np.full(value.size + 2 * GUARD, FENCE, dtype=value.dtype)
    view = buffer[GUARD + offset:][: value.size].reshape(value.shape)
    view[...] = value
    return view


def outcome(backend, case, arguments, offset=0):
    """All arrays after a call on copies of the arguments: these copies, then the results."""
    copies = {name: guarded(value, offset) for name, value in arguments.items()}
    with np.errstate(all="ignore"):
        result = getattr(backend, case.kernel)(**copies)
    for array in flat(copies):
        before, after = array.base[: GUARD + offset], array.base[GUARD + offset + array.size:]
        assert (before == FENCE).all() and (after == FENCE).all(), "written outside an array"
    values = [np.array(part) for part in (result if isinstance(result, tuple) else [result]) if isinstance(part, float)]
    return flat(copies) + flat(result) + values


def assert_same_bits(actual, expected, where):
    assert len(actual) == len(expected)
    for number, (a, b) in enumerate(zip(actual, expected)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(bits(a), bits(b), err_msg=f"array {number} on {where}")


def bits(array):
    if array.dtype.kind == "f":  # which NaN it is may differ between CPUs
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return array.view(f"u{array.itemsize}")


def assert_native_is_the_reference(case, arguments, offset=0, counts=(1, 2)):
    expected = outcome(reference, case, arguments)
    for where in each_native(counts):
        assert_same_bits(outcome(native, case, arguments, offset), expected, where)


def assert_native_is_always_the_same(call, counts=(1, 2, 3)):
    expected = None
    for where in each_native(counts):
        actual = call()
        if expected is not None:
            assert_same_bits(actual, expected, where)
        expected = actual


def results_of(backend, case, arguments):
    """The results on copies of the arguments, by name; the outputs among the arguments are results."""
    copies = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in arguments.items()}
    with np.errstate(all="ignore"):
        result = getattr(backend, case.kernel)(**copies)
    named = {"value": np.array(result[0])} if isinstance(result, tuple) else {}
    return named | {name: copies[name] for name in ("out", "grad_bias") if copies.get(name) is not None}


def assert_close(actual, expected, bound):
    """Within the bound, or both NaN or the same infinity."""
    with np.errstate(all="ignore"):
        error = np.abs(np.subtract(actual, expected, dtype=float))
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    assert (same | (error <= bound)).all(), f"error {(error / bound)[~same].max():.3g} times the bound"
