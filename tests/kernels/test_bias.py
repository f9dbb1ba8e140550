import numpy as np
import pytest

from helpers.arrays import misaligned
from helpers.cases import arguments
from helpers.refusals import assert_refused, each_wrong_type
from numfuse import native

SHAPES = [(32, 2), (7, 300), (2000, 100), (9000, 3), (3, 5000), (4, 5, 6), (11,), (70000, 33)]


def draw(*shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("in_place", [False, True])
def test_forward_adds_the_bias_to_every_row(kernels, shape, dtype, in_place):
    x, bias = draw(*shape, dtype=dtype), draw(shape[-1], dtype=dtype, seed=1)
    expected = x + bias
    y = kernels.bias_forward(x, bias, out=x if in_place else None)
    assert np.array_equal(y, expected)
    assert (y is x) == in_place


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_backward_sums_the_rows(kernels, shape, dtype):
    grad_y, grad_bias = draw(*shape, dtype=dtype), np.full(shape[-1], np.nan, dtype)
    before = grad_y.copy()
    assert kernels.bias_backward(grad_y, grad_bias) is None
    assert np.array_equal(grad_y, before)
    rows = grad_y.reshape(-1, shape[-1]).astype(np.longdouble)
    # n additions in double, in any order, and one rounding to the arrays' type.
    bound = len(rows) * np.finfo(np.float64).eps * np.abs(rows).sum(axis=0)
    bound += np.finfo(dtype).eps * np.abs(rows.sum(axis=0))
    assert (np.abs(grad_bias - rows.sum(axis=0)) <= bound).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,)])
def test_nothing(kernels, shape):
    x, grad_bias = np.ones(shape), np.full(shape[-1], np.nan)
    assert kernels.bias_forward(x, np.ones(shape[-1])).shape == shape
    kernels.bias_backward(x, grad_bias)
    assert (grad_bias == 0).all()


def test_the_same_bits_on_any_number_of_threads():
    rows = 2 * native.thread_threshold("bias_backward") // 96 + 77
    x, bias = draw(rows, 96, dtype=np.float32), draw(96, dtype=np.float32, seed=1)
    threads, results = native.get_num_threads(), set()
    try:
        for number in (1, 2, 3):
            native.set_num_threads(number)
            grad_bias = np.empty_like(bias)
            native.bias_backward(x, grad_bias)
            results.add((native.bias_forward(x, bias).tobytes(), grad_bias.tobytes()))
    finally:
        native.set_num_threads(threads)
    assert len(results) == 1


# What is refused

ARRAYS = {"forward": ["x", "bias", "out"], "backward": ["grad_y", "grad_bias"]}
each_array = pytest.mark.parametrize("direction, name", [(key, name) for key, names in ARRAYS.items() for name in names])


def assert_bias_refused(direction, changes, error, pattern):
    good = arguments(f"bias_{direction}", (9, 7), np.float64)
    bad = good | {name: change(good[name]) for name, change in changes.items()}
    assert_refused(f"bias_{direction}", bad, error, pattern)


@each_array
@each_wrong_type
def test_wrong_type_is_refused(direction, name, change):
    assert_bias_refused(direction, {name: change}, TypeError, rf"^{name} must be")


@each_array
def test_misaligned_is_refused(direction, name):
    assert_bias_refused(direction, {name: misaligned}, ValueError, rf"^{name} must be aligned")


@pytest.mark.parametrize("direction, name", [("forward", "out"), ("backward", "grad_bias")])
def test_read_only_is_refused(direction, name):
    def read_only(array):
        array = array.copy()
        array.flags.writeable = False
        return array
    assert_bias_refused(direction, {name: read_only}, ValueError, f"^{name} .*read-only")


@pytest.mark.parametrize("direction, name", [("forward", "bias"), ("backward", "grad_bias")])
@pytest.mark.parametrize("vector", [np.ones(6), np.ones((1, 7)), np.ones(()), np.ones(14)[::2]], ids=lambda a: str(a.shape))
def test_wrong_vector_is_refused(direction, name, vector):
    assert_bias_refused(direction, {name: lambda _: vector}, ValueError, f"^{name} must")


@pytest.mark.parametrize("direction, name", [("forward", "bias"), ("backward", "grad_bias")])
def test_no_vector_is_refused(direction, name):
    assert_bias_refused(direction, {name: lambda _: None}, TypeError, f"^{name} must be a NumPy array")


@pytest.mark.parametrize("direction, name", [("forward", "x"), ("backward", "grad_y")])
@pytest.mark.parametrize("change", [
    np.asfortranarray, lambda x: x[::-1], lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda x: np.array(x[0, 0]),
], ids=["Fortran", "reversed", "columns", "0-d"])
def test_rows_must_be_contiguous(direction, name, change):
    assert_bias_refused(direction, {name: change}, ValueError, f"^{name} must be C-contiguous")


@pytest.mark.parametrize("direction, first, second", [
    ("forward", "out", "x"), ("forward", "out", "bias"), ("backward", "grad_bias", "grad_y"),
])
def test_overlap_is_refused(direction, first, second):
    memory = np.zeros(100)
    changes = {name: lambda own, start=start: memory[start:][: own.size].reshape(own.shape)
               for name, start in ((first, 0), (second, 5))}
    assert_bias_refused(direction, changes, ValueError, f"^{first} must not overlap {second}")
