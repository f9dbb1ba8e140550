"""Batch norm of arrays in any layout: the same bits on every instruction set, close to the formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.arrays import flat
from helpers.cases import CASES
from helpers.natives import each_native
from helpers.parity import assert_native_is_always_the_same, assert_same_bits, case_arguments, each, each_dtype
from numfuse import native, reference

BATCH_NORMS = [case for case in CASES if case.kernel.startswith("batch_norm")]


def same_order(x, axis):
    return x.copy()


def other_order(x, axis):
    if x.ndim == 2:
        return np.asfortranarray(x)
    other = -1 if axis == 1 else 1
    return np.moveaxis(np.moveaxis(x, axis, other).copy(), other, axis)


def every_second_row(x, axis):
    buffer = np.full((2 * len(x), *x.shape[1:]), np.nan, dtype=x.dtype)
    buffer[::2] = x
    return buffer[::2]


def last_columns(x, axis):
    buffer = np.full((*x.shape[:-1], x.shape[-1] + 3), np.nan, dtype=x.dtype)
    buffer[..., 3:] = x
    return buffer[..., 3:] if x.ndim == 2 else x.copy()


LAYOUTS = [same_order, other_order, every_second_row, last_columns]

SHAPES = [((1003, 31), 1), ((300, 70), -1), ((2, 1), 1), ((7, 5, 11), 1), ((7, 11, 5), -1),
          ((5, 3, 17, 13), 1), ((5, 17, 13, 3), -1), ((3, 4, 2, 5, 3), 1), ((3, 2, 5, 3, 4), -1)]


def batch_norm_calls(shape, axis, dtype, layout, affine, mean=0.0, std=1.0):
    """x and grad_y in a layout, weight and bias, and a call of each kernel on them."""
    rng = np.random.default_rng(1)
    x = layout((mean + std * rng.standard_normal(shape)).astype(dtype), axis)
    grad_y = layout(rng.standard_normal(shape, dtype=dtype), axis)
    vectors = rng.standard_normal((4, x.shape[axis]), dtype=dtype)
    weight, bias = vectors[:2] if affine else (None, None)
    running = vectors[2], vectors[3] ** 2
    wide = x.astype(np.float64)
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    batch = wide.mean(axes), 1 / np.sqrt(wide.var(axes) + 1e-5)

    def forward(backend):
        copies = [r.copy() for r in running]
        return flat(backend.batch_norm_forward(
            x, weight, bias, *copies, axis=axis, momentum=0.1, eps=1e-5)) + copies

    def inference(backend):
        return [backend.batch_norm_inference(x, weight, bias, *running, axis=axis, eps=1e-5)]

    def backward(backend, training=True):
        grads = np.full((2, x.shape[axis]), np.nan, dtype=dtype)
        return [backend.batch_norm_backward(
            grad_y, x, weight, *batch, *grads, axis=axis, training=training), grads]

    return x, grad_y, weight, bias, running, (forward, inference, backward)


@each_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_layouts(shape, axis, dtype, layout, affine):
    forward, inference, backward = batch_norm_calls(shape, axis, dtype, layout, affine)[-1]
    assert_native_is_always_the_same(lambda: forward(native), (1,))
    for where in each_native((1,)):
        assert_same_bits(inference(native), inference(reference), where)
    for training in (True, False):
        assert_native_is_always_the_same(lambda: backward(native, training), (1,))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize(("mean", "std"), [(0, 1), (1000, 0.1)])
def test_batch_norm_accuracy(kernels, shape, axis, layout, affine, mean, std):
    x, grad_y, weight, bias, running, calls = batch_norm_calls(
        shape, axis, np.float32, layout, affine, mean, std)
    (y, saved_mean, saved_rstd, *new_running), (inferred,), (grad_x, (grad_weight, grad_bias)) = (
        call(kernels) for call in calls)
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    n = x.size // x.shape[axis]
    eps = np.finfo(np.float32).eps

    def along(vector):
        return np.expand_dims(np.asarray(vector, dtype=np.float64), axes)

    def average(values):
        return values.mean(axes, keepdims=True)

    x, g = x.astype(np.float64), grad_y.astype(np.float64)
    w, b = (along(vector) if affine else np.float64(default) for vector, default in ((weight, 1), (bias, 0)))
    rstd = 1 / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    xhat = (x - average(x)) * rstd
    # Sums of up to four deviations are rounded to float32: the mean is off by 2 eps of the largest one at most.
    largest = abs(xhat).max(axes, keepdims=True)
    assert_within(y, xhat * w + b, 4 * eps * (abs(xhat * w) * (1 + largest**2) + abs(b)) + 4 * eps * largest * abs(w))
    slope = average(g * xhat)
    assert_within(grad_x, rstd * w * (g - average(g) - xhat * slope),
                  4 * eps * abs(rstd * w) * (abs(g) + average(abs(g)) + abs(xhat) * average(abs(g * xhat))))
    inferred_xhat = (x - along(running[0])) / np.sqrt(along(running[1]) + 1e-5)
    assert_within(inferred, inferred_xhat * w + b, 4 * eps * (abs(inferred_xhat * w) + abs(b)))
    # The sums are held to the bound that any order of summation keeps: n roundings of n terms.
    assert_within(grad_bias, g.sum(axes), n * eps * abs(g).sum(axes))
    assert_within(grad_weight, (g * xhat).sum(axes), n * eps * abs(g * xhat).sum(axes))
    for old, new, batch in zip(running, new_running, (x.mean(axes), x.var(axes) * n / (n - 1))):
        assert_within(new, 0.9 * old.astype(np.float64) + 0.1 * batch, 4 * eps * (abs(old) + abs(batch)))
    assert_within(saved_rstd, rstd.ravel(), 4 * eps * (rstd * (1 + largest**2)).ravel())
    assert_within(saved_mean, x.mean(axes), eps * abs(x).mean(axes))


def assert_within(actual, expected, bound):
    error = abs(actual.astype(np.float64) - expected)
    assert (error <= bound).all(), f"error {(error / bound).max():.3g} times the bound"


@each([case for case in BATCH_NORMS if case.options == ""])
@each_dtype
def test_batch_norm_in_place_or_in_a_new_array(case, dtype):
    source = "grad_y" if case.kernel == "batch_norm_backward" else "x"

    def call(out):
        arguments = case_arguments(case, 1003, dtype)
        arguments["out"] = arguments[source] if out is source else arguments["out"] if out else None
        return flat(getattr(native, case.kernel)(**arguments))

    for where in each_native((1, 2)):
        assert_same_bits(call(source), call("own"), where)
        assert_same_bits(call(None), call("own"), where)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(lambda sides: (2, *sides)),
    axis=st.sampled_from([1, -1]),
    layout=st.sampled_from(LAYOUTS),
    affine=st.booleans(),
)
def test_batch_norm_of_any_shape(shape, axis, layout, affine):
    for call in batch_norm_calls(shape, axis, np.float32, layout, affine)[-1]:
        assert_native_is_always_the_same(lambda: call(native), (1,))
