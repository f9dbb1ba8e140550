"""Dropout of whole channels is dropout of an array of one element a channel, spread over the channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.arrays import draw, kept_bits, misaligned
from helpers.cases import CASES, arguments
from helpers.parity import assert_native_is_the_reference, case_arguments, each
from helpers.refusals import assert_refused, each_wrong_type
from numfuse import native, reference

SEED = {"seed": 2**63 + 5, "offset": 2**31}
SHAPES = [
    ((5, 3, 7), 1), ((5, 7, 3), -1), ((4, 33, 9), 1), ((4, 9, 33), -1), ((2, 200, 3, 4), 1), ((2, 3, 4, 200), -1),
    ((3, 32, 5, 2, 3), 1), ((3, 5, 2, 3, 32), -1), ((70, 1, 2), 1), ((70, 2, 1), -1), ((9, 40), 1), ((9, 40), -1),
    ((1, 2, 20_000), 1), ((1, 20_000, 2), -1), ((3, 64, 513), 1), ((3, 513, 64), -1),
]

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_shape = pytest.mark.parametrize("shape, axis", SHAPES)


def expected_of(x, axis, p, inverted=True):
    """y and the mask, by the kernel for elements and NumPy's broadcasting."""
    units = np.ones((x.shape[0], x.shape[axis]), x.dtype)
    kept, mask = reference.dropout_forward(units, p=p, inverted=False, **SEED)
    between = [1] * (x.ndim - 2)
    kept = kept.reshape((*kept.shape, *between) if axis == 1 else (len(kept), *between, kept.shape[1]))
    scale = x.dtype.type(1 / (1 - p) if inverted and p < 1 else 1)
    with np.errstate(all="ignore"):
        return np.where(kept != 0, x * scale, x.dtype.type(0)), mask


@each_dtype
@each_shape
@pytest.mark.parametrize("p", [0.0, 0.5, 0.3, 1.0])
@pytest.mark.parametrize("inverted", [True, False])
def test_channels_fare_as_elements_do(kernels, shape, axis, dtype, p, inverted):
    x = draw(*shape, dtype=dtype)
    before = x.copy()
    expected, expected_mask = expected_of(x, axis, p, inverted)
    y, mask = kernels.channel_dropout_forward(x, p=p, inverted=inverted, axis=axis, **SEED)
    mask.flags.writeable = x.flags.writeable = False
    grad_x = kernels.channel_dropout_backward(x, mask, p=p if inverted else 0.0, axis=axis)
    assert mask.dtype == np.uint32 and np.array_equal(mask, expected_mask)
    for result in (y, grad_x):
        assert result.dtype == dtype and result.tobytes() == expected.tobytes()
        assert np.array_equal(x, before) and not np.shares_memory(x, result)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(0, 40), channels=st.integers(0, 140), inner=st.integers(0, 70), axis=st.sampled_from([1, -1]),
    threads=st.integers(1, 3), isa=st.sampled_from(native.isas()),
)
def test_any_shape(samples, channels, inner, axis, threads, isa):
    x = draw(*((samples, channels, inner) if axis == 1 else (samples, inner, channels)), dtype=np.float32)
    before = native.isa(), native.get_num_threads()
    native.use_isa(isa)
    native.set_num_threads(threads)
    y, mask = native.channel_dropout_forward(x, p=0.5, inverted=True, axis=axis, **SEED)
    native.use_isa(before[0])
    native.set_num_threads(before[1])
    expected, expected_mask = expected_of(x, axis, 0.5)
    assert y.shape == x.shape and y.tobytes() == expected.tobytes() and np.array_equal(mask, expected_mask)


@each_dtype
@pytest.mark.parametrize("shape, axis", [((3, 67, 40_001), 1), ((3, 40_001, 67), -1)])
def test_large_results_have_the_same_bits(dtype, shape, axis):
    """From 16 MiB on results are written around the cache: with any alignment, in place, from any thread count."""
    x = np.random.default_rng(1).random(shape, dtype)
    x.flat[::10_007] = np.nan
    expected, expected_mask = expected_of(x, axis, 0.5)
    threads = native.get_num_threads()
    for offset, count in [(0, 1), (1, 2), (3, 3), ("in place", 3)]:
        native.set_num_threads(count)
        buffer = np.full(x.size + 32, 7, dtype)
        part = x.copy() if offset == "in place" else buffer[offset:][: x.size].reshape(shape)
        source = part if offset == "in place" else x
        y, mask = native.channel_dropout_forward(source, p=0.5, inverted=True, axis=axis, out=part, **SEED)
        assert y is part and part.tobytes() == expected.tobytes() and np.array_equal(mask, expected_mask)
        if offset != "in place":
            assert (buffer[:offset] == 7).all() and (buffer[offset + x.size:] == 7).all()
    native.set_num_threads(threads)


@each_dtype
@pytest.mark.parametrize("p", [0.5, 1.0])
def test_infinity_and_nan_pass_where_kept_and_only_there(kernels, dtype, p):
    x = np.tile(np.array([np.nan, np.inf, -np.inf, -1.0], dtype), (6, 40, 1))
    y, mask = kernels.channel_dropout_forward(x, p=p, inverted=True, axis=1, **SEED)
    kept = kept_bits(mask, 240).reshape(6, 40)
    assert 0 < (~kept).sum() and kept.any() == (p < 1)
    assert not y[~kept].any() and not np.signbit(y[~kept]).any()
    assert np.array_equal(y[kept], np.where(x == -1, x / dtype(1 - p or 1), x)[kept], equal_nan=True)
    assert kernels.channel_dropout_backward(x, mask, p=p, axis=1).tobytes() == y.tobytes()


@each_dtype
@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0), (3, 40, 0, 5, 1)])
@pytest.mark.parametrize("axis", [1, -1])
def test_empty(kernels, dtype, shape, axis):
    x = np.ones(shape, dtype)
    y, mask = kernels.channel_dropout_forward(x, p=0.5, inverted=True, axis=axis, **SEED)
    grad_x = kernels.channel_dropout_backward(x, mask, p=0.5, axis=axis)
    assert y.shape == grad_x.shape == shape and y.dtype == grad_x.dtype == dtype
    assert mask.shape == (-(-shape[0] * shape[axis] // 32),)


def test_backward_reads_any_mask_and_nothing_beyond_its_bits(kernels):
    mask = np.full(2, 0xFFFFFFFF, np.uint32)
    grad_x = kernels.channel_dropout_backward(np.ones((7, 5, 3), np.float32), mask, p=0.5, axis=1)
    assert (grad_x == 2).all()


@each([case for case in CASES if case.kernel == "channel_dropout_forward"])
@each_dtype
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.1, 0.25, 0.5, 0.75, 1 - 2**-53, 1.0])
@pytest.mark.parametrize("inverted", [True, False])
def test_probabilities(case, dtype, p, inverted):
    arguments = case_arguments(case, 1003, dtype, special=True)
    arguments |= {"p": p, "inverted": inverted, "seed": 2**64 - 1, "offset": 2**32 - 1}
    assert_native_is_the_reference(case, arguments)


# What is refused

SHAPE = (9, 7, 2)


FORWARD, BACKWARD = "channel_dropout_forward", "channel_dropout_backward"
each_kernel = pytest.mark.parametrize("kernel", [FORWARD, BACKWARD])
each_array = pytest.mark.parametrize("kernel, name", [
    (FORWARD, "x"), (FORWARD, "out"), (BACKWARD, "grad_y"), (BACKWARD, "mask"), (BACKWARD, "out")])


@each_array
@each_wrong_type
def test_wrong_type_is_refused(kernel, name, change):
    bad = arguments(kernel, SHAPE)
    bad[name] = change(bad[name])
    assert_refused(kernel, bad, TypeError, rf"^{name} must be")


@each_array
def test_misaligned_is_refused(kernel, name):
    bad = arguments(kernel, SHAPE)
    bad[name] = misaligned(bad[name])
    assert_refused(kernel, bad, ValueError, rf"^{name} must be aligned")


@each_kernel
@pytest.mark.parametrize("changes, error, words", [
    ({"p": -0.1}, ValueError, "^p must be in"), ({"p": np.nan}, ValueError, "^p must be in"),
    ({"p": "0.5"}, TypeError, "^p must be a number"), ({"axis": 2}, ValueError, "^axis must be 1 or -1, was 2"),
    ({"axis": None}, ValueError, "^axis must be 1 or -1"),
    ({"out": np.zeros((9, 2, 7), np.float32)}, ValueError, "^out must have"),
    ({"out": np.zeros((2, 7, 9), np.float32).T}, ValueError, "^out must lie in memory as"),
], ids=str)
def test_wrong_arguments_are_refused(kernel, changes, error, words):
    assert_refused(kernel, arguments(kernel, SHAPE, **changes), error, words)


@pytest.mark.parametrize("changes, error", [
    ({"seed": -1}, ValueError), ({"seed": 1.0}, TypeError), ({"offset": 2**32}, ValueError),
], ids=str)
def test_wrong_seed_and_offset_are_refused(changes, error):
    assert_refused(FORWARD, arguments(FORWARD, SHAPE, **changes), error, f"^{next(iter(changes))} must be")


@pytest.mark.parametrize("kernel, name", [(FORWARD, "x"), (BACKWARD, "grad_y")])
@pytest.mark.parametrize("value, words", [
    (np.zeros((2, 7, 9), np.float32).T, "C-contiguous.*np.ascontiguousarray"),
    (np.zeros((18, 7, 2), np.float32)[::2], "C-contiguous.*np.ascontiguousarray"),
    (np.zeros(9, np.float32), "2 to 5 dimensions"), (np.zeros((1,) * 6, np.float32), "2 to 5 dimensions"),
], ids=["transposed", "every second", "1-d", "6-d"])
def test_wrong_shapes_and_strides_are_refused(kernel, name, value, words):
    bad = arguments(kernel, SHAPE, **{name: value, "out": None})
    assert_refused(kernel, bad, ValueError, f"^{name} must .*{words}")


@pytest.mark.parametrize("mask", [
    np.zeros(1, np.uint32), np.zeros(3, np.uint32), np.zeros((1, 2), np.uint32), np.zeros(4, np.uint32)[::2],
], ids=["short", "long", "row", "strided"])
def test_wrong_mask_is_refused(mask):
    words = r"^mask must be contiguous with shape \(2,\), one bit a channel of every sample"
    assert_refused(BACKWARD, arguments(BACKWARD, SHAPE, mask=mask), ValueError, words)


def test_overlap_is_refused():
    buffer, size = draw(300, dtype=np.float32), int(np.prod(SHAPE))
    for kernel, name in ((FORWARD, "x"), (BACKWARD, "grad_y")):
        bad = arguments(kernel, SHAPE, out=buffer[1:][:size].reshape(SHAPE))
        assert_refused(kernel, bad | {name: buffer[:size].reshape(SHAPE)}, ValueError, f"^out must not overlap {name}")
    out = np.zeros(SHAPE, np.float32)
    bad = arguments(BACKWARD, SHAPE, out=out, mask=out.reshape(-1)[5:7].view(np.uint32))
    assert_refused(BACKWARD, bad, ValueError, "^out must not overlap mask")
