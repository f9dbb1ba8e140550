import numpy as np
import pytest

from helpers.arrays import draw, misaligned
from helpers.cases import CASES, arguments
from helpers.parity import ODD_SIZES, assert_close, case_arguments, each, each_dtype, results_of
from helpers.refusals import assert_refused, each_wrong_type
from numfuse import reference


@each([case for case in CASES if case.kernel.startswith("softmax")])
@each_dtype
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("size", [*ODD_SIZES, (300, 2), (301, 3), (301, 29)], ids=str)
def test_close_to_the_reference(kernels, case, dtype, size, special):
    arguments = case_arguments(case, size, dtype, special)
    expected, actual = results_of(reference, case, arguments), results_of(kernels, case, arguments)
    with np.errstate(all="ignore"):
        bound = error_bound(case.kernel, arguments, expected["out"], np.finfo(dtype))
    assert_close(actual["out"], expected["out"], bound)


def error_bound(kernel, arguments, expected, info):
    """How far two results may be apart: NumPy's exp is within 4 ulp, twice that of a quotient; ours within 1.2.
    Where NumPy's exp is subnormal, ours may be 0."""
    if kernel == "softmax_forward":
        return 16.0 * info.eps * np.abs(expected, dtype=float) + 40 * info.tiny
    # The products and their sum are in float64, and rounded once; then a difference and a product are.
    g, y = arguments["grad_y"].astype(float), arguments["y"].astype(float)
    sums = np.abs(g * y).sum(axis=-1, keepdims=True)
    return np.abs(y) * (2 * info.eps * (np.abs(g) + sums) + y.shape[-1] * np.finfo(float).eps * sums)


@each_dtype
def test_a_constant_that_is_added_changes_nothing(kernels, dtype):
    x = np.random.default_rng(1).integers(-20, 20, (9, 37)).astype(dtype)
    assert np.array_equal(kernels.softmax_forward(x + dtype(1000)), kernels.softmax_forward(x))


@pytest.mark.parametrize("channels", [3, 50])
def test_in_place_or_in_a_new_array(kernels, channels):
    x, grad_y = draw(9, channels), draw(9, channels, seed=2)
    source = x.copy()
    y = kernels.softmax_forward(x)
    assert np.array_equal(x, source)
    assert kernels.softmax_forward(x, out=x) is x and np.array_equal(x, y)
    grad_x = kernels.softmax_backward(grad_y, y)
    assert kernels.softmax_backward(grad_y, y, out=grad_y) is grad_y and np.array_equal(grad_y, grad_x)


# What is refused

ARGUMENTS = {"softmax_forward": ("x", "out"), "softmax_backward": ("grad_y", "y", "out")}

each_argument = pytest.mark.parametrize("kernel, name", [(k, name) for k, names in ARGUMENTS.items() for name in names])


@each_wrong_type
@each_argument
def test_kernels_refuse_wrong_types(kernel, name, change):
    good = arguments(kernel)
    assert_refused(kernel, good | {name: change(good[name])}, TypeError, f"^{name} must be")


@each_argument
def test_kernels_refuse_wrong_shapes_strides_and_addresses(kernel, name):
    good = arguments(kernel)
    first = next(iter(good))
    assert_refused(kernel, good | {name: misaligned(good[name])}, ValueError, f"^{name} must be aligned")
    if name != first:
        assert_refused(kernel, good | {name: good[name][1:]}, ValueError, f"^{name} must have (the )?shape")
    assert_refused(kernel, {key: value.T for key, value in good.items()}, ValueError, f"^{first} must be C-contiguous")
    scalars = {key: np.array(1, np.float32) for key in good}
    assert_refused(kernel, scalars, ValueError, f"^{first} must have an axis of channels")


@pytest.mark.parametrize("kernel", ARGUMENTS)
def test_kernels_refuse_overlaps(kernel):
    memory, good = np.zeros(30, np.float32), arguments(kernel)
    for name in ARGUMENTS[kernel][:-1]:
        shifted = {name: memory[:24].reshape(6, 4), "out": memory[4:28].reshape(6, 4)}
        assert_refused(kernel, good | shifted, ValueError, f"^out must not overlap {name}")
    if kernel == "softmax_backward":
        assert_refused(kernel, good | {"out": good["y"]}, ValueError, "^out must not overlap y")
