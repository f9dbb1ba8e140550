import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.arrays import kept_bits, misaligned
from helpers.cases import arguments
from helpers.refusals import assert_refused, each_wrong_type
from numfuse import native, reference

SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0]
FORWARD = {"relu": True, "p": 0.2, "seed": 5, "offset": 6}


def draw_special(*shape, dtype=np.float32, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    x[rng.random(shape) < 0.2] = rng.choice(SPECIAL)
    return x


def bits(array):
    """The bits of an array, those of every NaN alike."""
    return np.where(np.isnan(array), array.dtype.type(np.nan), array).tobytes()


def one_by_one(x, bias, relu, p, seed, offset):
    """y, and where its gradient passes, from the three operations in turn."""
    with np.errstate(all="ignore"):
        y = x if bias is None else x + bias
    passes = np.ones(x.shape, bool)
    if relu:
        passes = ~(y <= 0)
        y = np.where(passes, y, x.dtype.type(0))
    if p:
        y, mask = native.dropout_forward(y, p=p, seed=seed, offset=offset, inverted=True)
        passes = passes & kept_bits(mask, x.size).reshape(x.shape)
    return y, passes


@pytest.mark.parametrize("backend", ["reference", *native.isas()])
@settings(max_examples=150, deadline=None)
@given(
    shape=st.one_of(st.tuples(st.integers(0, 70), st.sampled_from([1, 2, 3, 10, 31, 32, 33, 64, 100, 300])),
                    st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 40))),
    has_bias=st.booleans(), relu=st.booleans(), p=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    dtype=st.sampled_from([np.float32, np.float64]), in_place=st.booleans(), start=st.integers(0, 3),
    seed=st.integers(0, 2**64 - 1),
)
def test_equals_the_operations_one_by_one(backend, shape, has_bias, relu, p, dtype, in_place, start, seed):
    before = native.isa()
    kernels = reference if backend == "reference" else native
    native.use_isa(before if kernels is reference else backend)
    try:
        buffer = draw_special(int(np.prod(shape)) + 3, dtype=dtype, seed=seed)
        x = buffer[start : start + int(np.prod(shape))].reshape(shape)  # not aligned as vectors would be
        bias = draw_special(shape[-1], dtype=dtype, seed=seed + 1) if has_bias else None
        options = {"relu": relu, "p": p, "seed": seed, "offset": 3}
        expected, passes = one_by_one(x.copy(), bias, **options)
        given_x = x.copy()
        y, mask = kernels.bias_relu_dropout_forward(x, bias, out=x if in_place else None, **options)
        assert bits(y) == bits(expected)
        assert y is x if in_place else bits(x) == bits(given_x)
        if relu or p:
            assert mask.dtype == np.uint32 and mask.shape == (-(-x.size // 32),)
            padded = np.zeros(32 * mask.size, bool)
            padded[: x.size] = passes.reshape(-1)
            assert np.array_equal(kept_bits(mask, padded.size), padded)
        else:
            assert mask is None

        grad_y = draw_special(*shape, dtype=dtype, seed=seed + 2)
        scale = dtype(1 / (1 - p)) if p < 1 else dtype(0)
        with np.errstate(all="ignore"):
            expected = np.where(passes, grad_y * scale, dtype(0))
        grad_bias = np.full(shape[-1], 7, dtype) if has_bias else None
        out = grad_y if in_place and mask is not None else None
        given_y = grad_y.copy()
        grad_x = kernels.bias_relu_dropout_backward(grad_y, mask, p=p, grad_bias=grad_bias, out=out)
        assert bits(grad_x) == bits(expected)
        assert (grad_x is grad_y) == (mask is None or in_place)
        assert grad_x is grad_y or bits(grad_y) == bits(given_y)
        if has_bias:
            assert_column_sums(grad_bias, expected.reshape(-1, shape[-1]))
    finally:
        native.use_isa(before)


def assert_column_sums(actual, rows):
    """n additions in double, in any order, and one rounding to the arrays' type."""
    finite = np.isfinite(rows).all(axis=0)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(actual[~finite], rows.sum(axis=0)[~finite])
    wide = rows[:, finite].astype(np.longdouble)
    error = np.abs(actual[finite] - wide.sum(axis=0))
    eps = np.finfo(np.float64).eps
    bound = len(rows) * eps * np.abs(wide).sum(axis=0) + np.finfo(rows.dtype).eps * np.abs(wide.sum(axis=0))
    assert (error <= bound).all()


@pytest.mark.parametrize("shape", [(2000, 100), (300, 1000), (9000, 2), (1000, 333), (3, 5000)])
def test_sums_of_many_rows(kernels, shape):
    grad_y = np.random.default_rng(0).standard_normal(shape)
    for dtype in (np.float32, np.float64):
        grad_bias = np.empty(shape[1], dtype)
        given_y = grad_y.astype(dtype)
        assert kernels.bias_relu_dropout_backward(given_y, None, p=0.0, grad_bias=grad_bias) is given_y
        assert_column_sums(grad_bias, given_y)


def test_sums_have_the_same_bits_on_any_number_of_threads():
    grad_y = draw_special(native.thread_threshold("bias_relu_dropout_backward") // 96 + 77, 96)
    mask = np.random.default_rng(0).integers(2**32, size=-(-grad_y.size // 32), dtype=np.uint32)
    threads, results = native.get_num_threads(), set()
    try:
        for isa_threads in (1, 2, 3):
            native.set_num_threads(isa_threads)
            grad_bias = np.empty(96, np.float32)
            grad_x = native.bias_relu_dropout_backward(grad_y, mask, p=0.2, grad_bias=grad_bias)
            results.add((bits(grad_x), bits(grad_bias)))
    finally:
        native.set_num_threads(threads)
    assert len(results) == 1


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0)])
def test_any_memory_order_without_a_bias(kernels, order):
    memory = draw_special(5, 7, 9)
    expected, mask = kernels.bias_relu_dropout_forward(memory, None, **FORWARD)
    y, same_mask = kernels.bias_relu_dropout_forward(memory.transpose(order), None, **FORWARD)
    assert y.strides == memory.transpose(order).strides and np.array_equal(mask, same_mask)
    assert bits(y) == bits(expected.transpose(order))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,)])
def test_nothing(kernels, shape):
    x, bias, grad_bias = np.ones(shape), np.ones(shape[-1]), np.full(shape[-1], np.nan)
    y, mask = kernels.bias_relu_dropout_forward(x, bias, **FORWARD)
    assert y.shape == shape and mask.shape == (0,)
    assert kernels.bias_relu_dropout_backward(x, mask, p=0.2, grad_bias=grad_bias).shape == shape
    assert (grad_bias == 0).all()


# What is refused

FORWARD_ARRAYS = ["x", "bias", "out"]
BACKWARD_ARRAYS = ["grad_y", "mask", "grad_bias", "out"]
each_array = pytest.mark.parametrize("direction, name", [
    *[("forward", name) for name in FORWARD_ARRAYS], *[("backward", name) for name in BACKWARD_ARRAYS]])


def good_call(direction):
    return arguments(f"bias_relu_dropout_{direction}", (9, 7), np.float64)


def assert_direction_refused(direction, bad, error, pattern):
    assert_refused(f"bias_relu_dropout_{direction}", bad, error, pattern)


@each_array
@each_wrong_type
def test_wrong_type_is_refused(direction, name, change):
    bad = good_call(direction)
    bad[name] = change(bad[name])
    assert_direction_refused(direction, bad, TypeError, rf"^{name} must be")


@each_array
def test_misaligned_is_refused(direction, name):
    bad = good_call(direction)
    bad[name] = misaligned(bad[name])
    assert_direction_refused(direction, bad, ValueError, rf"^{name} must be aligned")


@pytest.mark.parametrize("direction, name", [("forward", "out"), ("backward", "out"), ("backward", "grad_bias")])
def test_read_only_is_refused(direction, name):
    bad = good_call(direction)
    bad[name].flags.writeable = False
    assert_direction_refused(direction, bad, ValueError, f"^{name} .*read-only")


@pytest.mark.parametrize("direction, name", [("forward", "bias"), ("backward", "grad_bias")])
@pytest.mark.parametrize("vector", [np.ones(6), np.ones((1, 7)), np.ones(()), np.ones(14)[::2]], ids=lambda a: str(a.shape))
def test_wrong_vector_is_refused(direction, name, vector):
    assert_direction_refused(direction, good_call(direction) | {name: vector}, ValueError, f"^{name} must")


@pytest.mark.parametrize("direction, name", [("forward", "x"), ("backward", "grad_y")])
@pytest.mark.parametrize("change", [
    np.asfortranarray, lambda x: x[::-1], lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda x: np.array(x[0, 0]),
], ids=["Fortran", "reversed", "columns", "0-d"])
def test_rows_must_be_contiguous_to_go_with_a_vector(direction, name, change):
    bad = good_call(direction) | {"out": None}
    bad[name] = change(bad[name])
    assert_direction_refused(direction, bad, ValueError, f"^({name} must be C-contiguous|mask must be contiguous)")


@pytest.mark.parametrize("direction, first, second", [
    ("forward", "out", "x"), ("forward", "out", "bias"), ("backward", "out", "grad_y"), ("backward", "grad_bias", "grad_y"),
    ("backward", "out", "mask"), ("backward", "out", "grad_bias"), ("backward", "grad_bias", "mask"),
])
def test_overlap_is_refused(direction, first, second):
    bad = good_call(direction)
    memory = np.zeros(100)
    for name, start in ((first, 0), (second, 5)):
        own = bad[name]
        bad[name] = memory.view(own.dtype)[start:][: own.size].reshape(own.shape)
    assert_direction_refused(direction, bad, ValueError, f"^{first} must not overlap {second}")


@pytest.mark.parametrize("changes, words", [
    ({"p": 0.5, "out": None}, "^mask must be an array"), ({"p": 0.0}, "^mask must be an array"),
    ({"p": 1.5, "out": None}, "^p must be"),
])
def test_no_mask_goes_with_nothing_to_do(changes, words):
    assert_direction_refused("backward", good_call("backward") | {"mask": None} | changes, ValueError, words)


@pytest.mark.parametrize("changes, error", [
    ({"p": -0.1}, ValueError), ({"p": None}, TypeError), ({"seed": -1}, ValueError), ({"seed": 1.0}, TypeError),
    ({"offset": 2**32}, ValueError),
], ids=str)
def test_wrong_numbers_are_refused(changes, error):
    assert_direction_refused("forward", good_call("forward") | changes, error, f"^{next(iter(changes))} must be")


@pytest.mark.parametrize("call, message", [
    (lambda k, g: k.bias_relu_dropout_backward(g, None, p=0.5, grad_bias=None), "mask must be an array"),
    (lambda k, g: k.bias_relu_dropout_backward(g, None, p=0.0, grad_bias=None, out=g.copy()), "mask must be an array"),
    (lambda k, g: k.bias_relu_dropout_forward(g, None, relu=True, p=2.0, seed=0, offset=0), "p must be in"),
    (lambda k, g: k.dropout_forward(g, p=np.nan, seed=0, offset=0, inverted=True), "p must be in"),
], ids=["no mask", "no mask but out", "p", "nan"])
def test_every_backend_refuses(kernels, call, message):
    with pytest.raises(ValueError, match=message):
        call(kernels, np.ones((4, 3)))
