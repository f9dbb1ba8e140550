import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.arrays import misaligned
from helpers.refusals import each_wrong_type
from numfuse import native, reference

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def random_arrays(sizes, dtype):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(size, dtype=dtype) for size in sizes]


@each_dtype
@pytest.mark.parametrize("sizes", [[1], [31, 32, 33], [4095, 4096, 4097, 0, 8193], [70_001]], ids=str)
def test_formula(kernels, dtype, sizes):
    grads = random_arrays(sizes, dtype)
    exact = math.sqrt(math.fsum(float(g) * float(g) for grad in grads for g in grad))
    # At most 128 + 32 + 20 additions of numbers >= 0 and a root, each rounded once.
    assert abs(kernels.grad_norm(grads) - exact) <= 181 * np.finfo(np.float64).eps * exact


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 10_000), max_size=6), dtype=st.sampled_from([np.float32, np.float64]))
def test_bits_are_those_of_the_reference_for_any_sizes(sizes, dtype):
    grads = random_arrays(sizes, dtype)
    assert native.grad_norm(grads) == reference.grad_norm(grads)


@each_dtype
def test_bits_do_not_depend_on_threads(dtype):
    threads = native.get_num_threads()
    grads = random_arrays([5, native.thread_threshold("grad_norm") + 1, 12_289], dtype)
    norms = set()
    try:
        for n in (1, 2, 3):
            native.set_num_threads(n)
            norms |= {native.grad_norm(grads) for _ in range(3)}
    finally:
        native.set_num_threads(threads)
    assert norms == {reference.grad_norm(grads)}


@each_dtype
def test_any_shapes_and_memory_orders(kernels, dtype):
    (flat,) = random_arrays([24], dtype)
    fortran = np.asfortranarray(flat.reshape(4, 6).T)
    read_only = flat.reshape(2, 3, 4)
    read_only.flags.writeable = False
    norm = kernels.grad_norm([flat])
    assert kernels.grad_norm([read_only]) == kernels.grad_norm((fortran,)) == norm
    assert kernels.grad_norm([flat[:1].reshape(())]) == abs(float(flat[0]))


def test_none_and_empty_arrays_are_passed_over(kernels):
    grads = [None, np.array([3.0]), np.zeros((0, 2)), None, np.array([4.0])]
    assert kernels.grad_norm(grads) == 5.0
    for nothing in ([], [None], [np.zeros(0, np.float32), None]):
        norm = kernels.grad_norm(nothing)
        assert type(norm) is float and norm == 0.0


def test_float32_squares_neither_overflow_nor_underflow(kernels):
    for value in (1e38, 1e-38):
        grad = np.full(4, value, np.float32)
        assert kernels.grad_norm([grad]) == 2 * float(grad[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 40, 4999])
def test_nan_and_infinity_reach_the_norm(kernels, value, place):
    grad = np.ones(5000, np.float32)
    grad[place] = value
    norm = kernels.grad_norm([np.ones(3, np.float32), grad])
    assert math.isnan(norm) if math.isnan(value) else norm == math.inf


@each_wrong_type
def test_wrong_type_is_refused(change):
    with pytest.raises(TypeError, match=r"^grads\[1\] must be"):
        native.grad_norm([np.ones(3), change(np.ones(3))])


@pytest.mark.parametrize("grads, error, pattern", [
    (np.ones(3), TypeError, "^grads must be a list of arrays, was ndarray"),
    (3, TypeError, "^grads must be a list of arrays, was int"),
    ([np.ones(3), None, np.ones(3, np.float32)], TypeError, r"^grads\[2\] must be float64, was float32"),
    ([np.ones((4, 4))[:, ::2]], ValueError, r"^grads\[0\] must be contiguous"),
    ([np.ones(4)[::-1]], ValueError, r"^grads\[0\] must be contiguous"),
    ([misaligned(np.ones(3))], ValueError, r"^grads\[0\] must be aligned"),
], ids=["array", "number", "two dtypes", "strided", "reversed", "misaligned"])
def test_wrong_lists_are_refused(grads, error, pattern):
    with pytest.raises(error, match=pattern):
        native.grad_norm(grads)
