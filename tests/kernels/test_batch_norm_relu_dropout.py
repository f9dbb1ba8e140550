"""Batch normalisation, ReLU and dropout in one pass: the bits of the three kernels one after the other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.arrays import kept_bits
from numfuse import native, reference

SEED = {"seed": 2**63 + 5, "offset": 7}
SHAPES = [
    ((2, 1), 1), ((128, 256), 1), ((300, 10), 1), ((1003, 31), -1), ((130, 1500), 1),
    ((32, 6, 14, 14), 1), ((5, 3, 7, 7), 1), ((2, 5, 1, 1), 1), ((3, 2, 37, 41), 1), ((2, 3, 2100), 1),
    ((4, 9, 9, 70), -1), ((2, 3, 4, 5, 6), 1), ((0, 4), 1),
]  # fmt: skip


def inputs(shape, axis, dtype, special=False):
    rng = np.random.default_rng(3)
    x, grad_y = rng.standard_normal((2, *shape)).astype(dtype)
    if special:
        for array in (x, grad_y):
            rare = rng.random(shape) < 0.01
            array[rare] = rng.choice([0.0, -0.0, 1e15, -1e15, np.finfo(dtype).tiny], rare.sum())
    weight, bias, running_mean = rng.standard_normal((3, shape[axis])).astype(dtype)
    return x, grad_y, weight, bias, running_mean, np.ones(shape[axis], dtype)


def separate(backend, x, grad_y, weight, bias, *running, axis, relu, p):
    """All results of the kernels called one by one."""
    running = [array.copy() for array in running]
    y, mean, rstd = backend.batch_norm_forward(x, weight, bias, *running, axis=axis, momentum=0.1, eps=1e-5)
    positive = np.where(y <= 0, y.dtype.type(0), y) if relu else y
    z, kept = backend.dropout_forward(positive, p=p, **SEED, inverted=True)
    passed = backend.dropout_backward(grad_y, kept, p=p)
    if relu:
        passed = np.where(positive <= 0, y.dtype.type(0), passed)
    grads = np.full((2, x.shape[axis]), np.nan, x.dtype)
    grad_x = backend.batch_norm_backward(passed, x, weight, mean, rstd, *grads, axis=axis, training=True)
    return z, mean, rstd, *running, grad_x, *grads


def fused(backend, x, grad_y, weight, bias, *running, axis, relu, p):
    """The same from one call forward and one backward."""
    running = [array.copy() for array in running]
    y, mean, rstd, mask = backend.batch_norm_relu_dropout_forward(
        x, weight, bias, *running, axis=axis, momentum=0.1, eps=1e-5, relu=relu, p=p, **SEED)
    grads = np.full((2, x.shape[axis]), np.nan, x.dtype)
    grad_x = backend.batch_norm_relu_dropout_backward(
        grad_y, x, weight, mean, rstd, mask, *grads, axis=axis, p=p)
    return y, mean, rstd, *running, grad_x, *grads


def assert_same(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = native.get_num_threads()
    native.set_num_threads(request.param)
    yield
    native.set_num_threads(before)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("relu", "p"), [(True, 0.0), (True, 0.2), (False, 0.5), (True, 1.0), (False, 0.0)])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_bits_of_the_separate_kernels(kernels, shape, axis, relu, p, dtype, special):
    arguments = inputs(shape, axis, dtype, special)
    options = {"axis": axis, "relu": relu, "p": p}
    assert_same(fused(kernels, *arguments, **options), separate(kernels, *arguments, **options))


@pytest.mark.parametrize(("shape", "axis"), [((8, 67, 35, 35), 1), ((9000, 67), 1), ((3, 700, 450, 5), 1),
                                             ((66_000, 67), 1), ((37, 70, 41, 41), 1)])
def test_bits_of_any_number_of_threads_and_around_the_cache(threads, shape, axis):
    arguments = inputs(shape, axis, np.float32)
    options = {"axis": axis, "relu": True, "p": 0.2}
    assert_same(fused(native, *arguments, **options), separate(native, *arguments, **options))


@settings(max_examples=150, deadline=None)
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(lambda sides: (2, *sides)),
    axis=st.sampled_from([1, -1]), relu=st.booleans(), p=st.sampled_from([0.0, 0.2, 0.5]), isa=st.sampled_from(native.isas()),
)
def test_any_shape(shape, axis, relu, p, isa):
    before = native.isa()
    native.use_isa(isa)
    try:
        arguments = inputs(shape, axis, np.float32)
        options = {"axis": axis, "relu": relu, "p": p}
        assert_same(fused(native, *arguments, **options), separate(native, *arguments, **options))
    finally:
        native.use_isa(before)


@pytest.mark.parametrize(("shape", "axis"), [((128, 256), 1), ((5, 3, 7, 7), 1)])
def test_in_place(kernels, shape, axis):
    arguments = inputs(shape, axis, np.float32)
    x, grad_y = arguments[:2]
    options = {"axis": axis, "relu": True, "p": 0.2}
    expected = fused(kernels, *arguments, **options)
    y, own_grad = x.copy(), grad_y.copy()
    running = [array.copy() for array in arguments[4:]]
    result = kernels.batch_norm_relu_dropout_forward(
        y, *arguments[2:4], *running, axis=axis, momentum=0.1, eps=1e-5, relu=True, p=0.2, **SEED, out=y)
    grads = np.empty((2, x.shape[axis]), np.float32)
    grad_x = kernels.batch_norm_relu_dropout_backward(
        own_grad, x, arguments[2], *result[1:3], result[3], *grads, axis=axis, p=0.2, out=own_grad)
    assert result[0] is y and grad_x is own_grad
    assert_same([y, *result[1:3], *running, grad_x, *grads], expected)


def test_the_mask_says_where_the_gradient_passes(kernels):
    arguments = inputs((16, 6), 1, np.float64)
    x, _, *vectors = arguments
    y, _, _, mask = kernels.batch_norm_relu_dropout_forward(
        x, *vectors, axis=1, momentum=0.1, eps=1e-5, relu=True, p=0.2, **SEED)
    np.testing.assert_array_equal(kept_bits(mask, y.size).reshape(y.shape), y > 0)


@pytest.mark.parametrize(("change", "message"), [
    ({"p": 1.5}, "p must be in"),
    ({"seed": -1}, "seed must be in"),
    ({"x": np.asfortranarray(np.ones((4, 6), np.float32))}, "x must be C-contiguous"),
    ({"out": np.asfortranarray(np.ones((4, 6), np.float32))}, "out must be C-contiguous"),
    ({"x": np.ones((1, 6), np.float32)}, "more than 1 value per channel"),
])
def test_bad_arguments(change, message):
    x, _, weight, bias, *running = inputs((4, 6), 1, np.float32)
    call = {"x": x, "weight": weight, "bias": bias, "running_mean": running[0], "running_var": running[1], "axis": 1,
            "momentum": 0.1, "eps": 1e-5, "relu": True, "p": 0.2, **SEED} | change
    before = [array.copy() for array in running]
    with pytest.raises(ValueError, match=message):
        native.batch_norm_relu_dropout_forward(**call)
    assert_same(running, before)


@pytest.mark.parametrize(("change", "message"), [
    ({"mask": None}, "mask must be an array where p > 0"),
    ({"mask": np.zeros(2, np.uint32)}, r"mask must be contiguous with shape \(1,\)"),
    ({"grad_y": np.asfortranarray(np.ones((4, 6), np.float32))}, "grad_y must be C-contiguous"),
    ({"p": -0.1}, "p must be in"),
])
def test_bad_arguments_of_backward(change, message):
    x, grad_y, weight, *_ = inputs((4, 6), 1, np.float32)
    _, mean, rstd = reference.batch_norm_forward(x, None, None, None, None, axis=1, momentum=0.1, eps=1e-5)
    grads = np.zeros((2, 6), np.float32)
    call = {"grad_y": grad_y, "x": x, "weight": weight, "mean": mean, "rstd": rstd, "mask": np.zeros(1, np.uint32),
            "grad_weight": grads[0], "grad_bias": grads[1], "axis": 1, "p": 0.2} | change
    with pytest.raises(ValueError, match=message):
        native.batch_norm_relu_dropout_backward(**call)
    assert not grads.any()
