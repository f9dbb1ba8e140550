"""What the bindings of batch normalisation refuse: an error that names the argument, and nothing modified."""

import numpy as np
import pytest

from helpers.arrays import draw, misaligned
from helpers.cases import arguments
from helpers.refusals import assert_refused, each_wrong_type
from numfuse import native

SHAPE = (6, 3)
PER_CHANNEL = {
    "batch_norm_forward": ["weight", "bias", "running_mean", "running_var"],
    "batch_norm_inference": ["weight", "bias", "running_mean", "running_var"],
    "batch_norm_backward": ["weight", "mean", "rstd", "grad_weight", "grad_bias"],
}
LIKE_X = {
    "batch_norm_forward": ["x", "out"],
    "batch_norm_inference": ["x", "out"],
    "batch_norm_backward": ["x", "grad_y", "out"],
}
WRITTEN = [
    *[("batch_norm_forward", name) for name in ("out", "running_mean", "running_var")],
    ("batch_norm_inference", "out"),
    *[("batch_norm_backward", name) for name in ("out", "grad_weight", "grad_bias")],
]
ARRAYS = [(kernel, name) for kernel in LIKE_X for name in LIKE_X[kernel] + PER_CHANNEL[kernel]]

each_kernel = pytest.mark.parametrize("kernel", LIKE_X)
each_array = pytest.mark.parametrize("kernel, name", ARRAYS)


def assert_change_refused(kernel, name, change, pattern, error=ValueError):
    bad = arguments(kernel, SHAPE)
    bad[name] = change(bad[name])
    assert_refused(kernel, bad, error, pattern)


@each_array
@each_wrong_type
def test_wrong_type_is_refused(kernel, name, change):
    assert_change_refused(kernel, name, change, f"^{name} must be", TypeError)


@each_kernel
@pytest.mark.parametrize("dtype", ["e", "i", "?", "F", "O"])
def test_other_dtypes_are_refused_even_if_all_agree(kernel, dtype):
    bad = {name: value.astype(dtype) if getattr(value, "dtype", None) == np.float32 else value
           for name, value in arguments(kernel, SHAPE).items()}
    assert_refused(kernel, bad, TypeError, "^x must be float32 or float64, was")


@pytest.mark.parametrize("kernel, name", [pair for pair in ARRAYS if pair[1] != "x"])
def test_mixed_dtypes_are_refused(kernel, name):
    other = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.float32}
    words = rf"^{name} must be (float32, was float64|float64, was float32); use \.astype"
    assert_change_refused(kernel, name, lambda array: array.astype(other[array.dtype]), words, TypeError)


@each_array
def test_misaligned_is_refused(kernel, name):
    assert_change_refused(kernel, name, misaligned, f"^{name} must be aligned")


@pytest.mark.parametrize("kernel, name", WRITTEN)
def test_read_only_is_refused(kernel, name):
    bad = arguments(kernel, SHAPE)
    bad[name].flags.writeable = False
    assert_refused(kernel, bad, ValueError, f"^{name} .*read-only")


@each_kernel
@pytest.mark.parametrize("shape", [(), (18,), (6, 3, 1, 1, 1, 1)], ids=str)
def test_wrong_rank_is_refused(kernel, shape):
    bad = arguments(kernel, SHAPE) | {name: np.ones(shape, np.float32) for name in LIKE_X[kernel]}
    assert_refused(kernel, bad, ValueError, "^x must have 2 to 5 dimensions")


@pytest.mark.parametrize("kernel, name", [pair for pair in ARRAYS if pair[1] in ("out", "grad_y")])
def test_wrong_shape_is_refused(kernel, name):
    for shape in [(3, 6), (18,), (6, 3, 1), (6, 4), (0, 3)]:
        bad = arguments(kernel, SHAPE, **{name: np.ones(shape, np.float32)})
        assert_refused(kernel, bad, ValueError, f"^{name} .*shape")


@pytest.mark.parametrize("kernel, name", [pair for pair in ARRAYS if pair[1] in PER_CHANNEL[pair[0]]])
def test_wrong_vector_is_refused(kernel, name):
    for shape in [(2,), (4,), (1, 3), (3, 1), ()]:
        change = lambda vector: np.resize(vector, shape)
        assert_change_refused(kernel, name, change, rf"^{name} must have shape \(3,\)")
    for change in (lambda v: v.repeat(2)[::2], lambda v: v[::-1]):
        assert_change_refused(kernel, name, change, rf"^{name} must be contiguous.*np\.ascontiguousarray")


@pytest.mark.parametrize("kernel, name, other", [
    (kernel, name, other) for kernel, name in WRITTEN for k, other in ARRAYS if k == kernel and other != name
])
def test_overlap_is_refused(kernel, name, other):
    """One array begins with, one element after or one before another; out may be x or grad_y itself."""
    for start in (0, 1, 2):
        buffer = 3 + 2 * draw(30)
        bad = arguments(kernel, SHAPE, np.float64)
        bad[name] = buffer[1:][: bad[name].size].reshape(bad[name].shape)
        bad[other] = buffer[start:][: bad[other].size].reshape(bad[other].shape)
        in_place = name == "out" and other == ("grad_y" if "grad_y" in bad else "x")
        if not (in_place and start == 1):
            names = f"({name} must not overlap {other}|{other} must not overlap {name})"
            assert_refused(kernel, bad, ValueError, f"^{names} in memory")


def test_running_statistics_that_are_one_array_are_refused():
    one = np.ones(3, np.float32)
    bad = arguments("batch_norm_forward", SHAPE, running_mean=one, running_var=one)
    assert_refused("batch_norm_forward", bad, ValueError, "^running_mean must not overlap running_var")


@each_kernel
def test_arrays_that_interleave_do_not_overlap(kernel):
    buffer, good = np.empty((12, 3), np.float32), arguments(kernel, SHAPE)
    source = "grad_y" if "grad_y" in good else "x"
    getattr(native, kernel)(**good)
    buffer[::2] = good[source]
    getattr(native, kernel)(**good | {source: buffer[::2], "out": buffer[1::2]})
    assert np.array_equal(buffer[1::2], good["out"]) and np.array_equal(buffer[::2], good[source])


@each_kernel
def test_other_strides_are_refused(kernel):
    """Beside the channels', more than two steps through memory, or orders that do not go together."""
    shape = (4, 3, 6, 4)
    for change in (lambda x: x[:, :, ::2], lambda x: x[..., :3], lambda x: x[..., ::-1]):
        bad = arguments(kernel, shape)
        bad |= {name: change(bad[name].repeat(2, axis=2)) for name in LIKE_X[kernel]}
        assert_refused(kernel, bad, ValueError, r"^x and .*strides.*np\.ascontiguousarray")
        assert_refused(kernel, bad | {"out": None}, ValueError, r"^x and .*strides.*np\.ascontiguousarray")
    bad = arguments(kernel, shape)
    bad[LIKE_X[kernel][1]] = np.asfortranarray(bad[LIKE_X[kernel][1]])
    assert_refused(kernel, bad, ValueError, r"^x and .*strides.*np\.ascontiguousarray")


@each_kernel
def test_wrong_axis_is_refused(kernel):
    for axis in (0, 2, -2, "x", 1.0, None, (1,)):
        assert_refused(kernel, arguments(kernel, SHAPE, axis=axis), ValueError, "^axis must be 1 or -1, was")
    getattr(native, kernel)(**arguments(kernel, SHAPE, axis=np.int64(-1)))


@pytest.mark.parametrize("kernel, name", [
    ("batch_norm_forward", "eps"), ("batch_norm_forward", "momentum"), ("batch_norm_inference", "eps")])
def test_wrong_numbers_are_refused(kernel, name):
    for value in [-1e-5, -5e-324, np.nan, np.inf, -np.inf, 10**400] + [1.001] * (name == "momentum"):
        assert_refused(kernel, arguments(kernel, SHAPE, **{name: value}), ValueError, f"^{name} must be")
    for value in ("0.1", None, 0.1j, [0.1], np.ones(2)):
        assert_refused(kernel, arguments(kernel, SHAPE, **{name: value}), TypeError, f"^{name} must be a number")


def test_what_belongs_together_must_be_given_together():
    for name in ("running_mean", "running_var"):
        bad = arguments("batch_norm_forward", SHAPE, **{name: None})
        assert_refused("batch_norm_forward", bad, ValueError, "^running_mean and running_var must both")
        bad = arguments("batch_norm_inference", SHAPE, **{name: None})
        assert_refused("batch_norm_inference", bad, TypeError, f"^{name} must be a NumPy array")
    for name in ("mean", "rstd", "grad_y"):
        bad = arguments("batch_norm_backward", SHAPE, **{name: None})
        assert_refused("batch_norm_backward", bad, TypeError, f"^{name} must be a NumPy array")


@each_kernel
@pytest.mark.parametrize("strides", [(0, 4), (4, 4), (8, 4), (4, 8), (-8, 4)], ids=str)
def test_an_out_that_overlaps_itself_is_refused(kernel, strides):
    out = np.lib.stride_tricks.as_strided(np.zeros(99, np.float32)[50:], (6, 3), strides)
    assert_refused(kernel, arguments(kernel, SHAPE, out=out), ValueError, "^out must not overlap itself")


@each_kernel
def test_a_step_along_an_axis_of_one_is_never_taken(kernel):
    x = np.lib.stride_tricks.as_strided(np.zeros(12, np.float32), (1, 3, 4), (7, 16, 4))
    for name in LIKE_X[kernel]:
        if name != "out":
            getattr(native, kernel)(**arguments(kernel, (1, 3, 4), out=None) | {name: x})
