import math

import numpy as np
import pytest

from helpers.arrays import misaligned
from helpers.cases import CASES, arguments
from helpers.parity import ODD_SIZES, assert_close, assert_same_bits, case_arguments, each, each_dtype, results_of
from helpers.refusals import assert_refused, each_wrong_type
from numfuse import reference

FUNCTIONS = ["sigmoid", "tanh", "leaky_relu", "elu", "silu", "gelu", "gelu_tanh"]

each_kernel = pytest.mark.parametrize("kernel", ["activation_forward", "activation_backward"])

each_function = pytest.mark.parametrize("function", FUNCTIONS)

NO_VECTORS = {"activation_forward": {"bias": None}, "activation_backward": {"bias": None, "grad_bias": None}}


@each([case for case in CASES if case.kernel.startswith("activation")])
@each_dtype
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_close_to_the_reference(kernels, case, dtype, size, special):
    arguments = case_arguments(case, size, dtype, special)
    expected, actual = results_of(reference, case, arguments), results_of(kernels, case, arguments)
    function = arguments["function"]
    if function == "leaky_relu" or (function in ("sigmoid", "tanh") and case.kernel == "activation_backward"):
        for name, array in expected.items():
            assert_same_bits([actual[name]], [array], f"{name} of {case.name}")
        return
    with np.errstate(all="ignore"):
        bound = error_bound(case.kernel, function, arguments, expected["out"], np.finfo(dtype))
    assert_close(actual["out"], expected["out"], bound)
    if "grad_bias" in expected and not special:  # infinities are another matter in sums
        rounding = np.finfo(dtype).eps * np.abs(expected["grad_bias"])
        assert_close(actual["grad_bias"], expected["grad_bias"], bound.sum(axis=0) + rounding)


def error_bound(kernel, function, arguments, expected, info):
    """How far two results may be apart: NumPy's expm1 is within 4 ulp, twice that of a quotient; ours are
    within 4.4 (csrc/kernels/math.h). Where sigmoid is subnormal, ours may be 0."""
    if kernel == "activation_backward":
        # A derivative is made of two terms of at most 1.
        return 32 * info.eps * np.abs(arguments["grad_y"], dtype=float)
    error = np.full(expected.shape, 16.0)
    if function == "gelu":
        # math.erfc's argument is rounded, which counts x^2 times; Phi is normal up to 38.
        x = arguments["x"] if arguments["bias"] is None else arguments["x"] + arguments["bias"]
        error += np.minimum(np.square(x, dtype=float), 38**2)
    return error * info.eps * np.abs(expected, dtype=float) + 40 * info.tiny


@each_kernel
@each_function
@each_dtype
@pytest.mark.parametrize("shape", [(6, 4), (300, 3), (2, 5, 7), (9,), (3, 5000), (0, 3), (3, 0)])
def test_a_bias_is_added_and_its_gradient_summed(kernels, kernel, function, dtype, shape):
    given = arguments(kernel, shape, dtype, function=function)
    result = getattr(kernels, kernel)(**given)
    assert result is given["out"]
    plain = given | NO_VECTORS[kernel] | {"out": None}
    if kernel == "activation_forward":
        plain["x"] = given["x"] + given["bias"]
    elif function not in ("sigmoid", "tanh"):
        plain["saved"] = given["saved"] + given["bias"]
    assert np.array_equal(result, getattr(kernels, kernel)(**plain))
    if kernel == "activation_backward":
        sums = np.empty_like(given["grad_bias"])
        kernels.bias_relu_dropout_backward(result, None, p=0.0, grad_bias=sums)
        assert np.array_equal(given["grad_bias"], sums) or not result.size


@pytest.mark.parametrize("kernel", ["activation_backward"])
@each_function
def test_a_bias_or_its_gradient_may_be_missing(kernels, kernel, function):
    given = arguments(kernel, (300, 3), function=function)
    kernels.activation_backward(**given)
    expected, expected_sum = given["out"].copy(), given["grad_bias"].copy()
    kernels.activation_backward(**given | {"grad_bias": None})
    assert np.array_equal(given["out"], expected)
    if function not in ("sigmoid", "tanh"):
        given["saved"] = given["saved"] + given["bias"]
    kernels.activation_backward(**given | {"bias": None})
    assert np.array_equal(given["out"], expected) and np.array_equal(given["grad_bias"], expected_sum)


@each_kernel
@each_function
@pytest.mark.parametrize("affine", [True, False])
def test_in_place_or_in_a_new_array(kernels, kernel, function, affine):
    given = arguments(kernel, function=function)
    name = next(iter(given))
    if not affine:
        given |= NO_VECTORS[kernel]
    expected = getattr(kernels, kernel)(**given).copy()
    source = given[name].copy()
    assert np.array_equal(getattr(kernels, kernel)(**given | {"out": None}), expected)
    assert np.array_equal(given[name], source)
    assert getattr(kernels, kernel)(**given | {"out": given[name]}) is given[name]
    assert np.array_equal(given[name], expected)


@each_kernel
def test_any_dense_array_will_do_without_a_bias(kernels, kernel):
    plain = arguments(kernel, shape=(3, 4, 5)) | NO_VECTORS[kernel] | {"out": None}
    turned = {name: value.transpose(2, 0, 1) if isinstance(value, np.ndarray) else value
              for name, value in plain.items()}
    result = getattr(kernels, kernel)(**turned)
    assert np.array_equal(result.transpose(1, 2, 0), getattr(kernels, kernel)(**plain))


@each_wrong_type
@pytest.mark.parametrize("kernel, name", [(kernel, name) for kernel, names in {
    "activation_forward": ("x", "bias", "out"), "activation_backward": ("grad_y", "saved", "bias", "grad_bias", "out"),
}.items() for name in names])
def test_kernels_refuse_wrong_types(kernel, name, change):
    good = arguments(kernel)
    assert_refused(kernel, good | {name: change(good[name])}, TypeError, f"^{name} must be")


@each_kernel
def test_kernels_refuse_wrong_shapes_strides_and_addresses(kernel):
    good = arguments(kernel)
    first = next(iter(good))
    for name in good:
        if isinstance(good[name], np.ndarray):
            assert_refused(kernel, good | {name: misaligned(good[name])}, ValueError, f"^{name} must be aligned")
    assert_refused(kernel, good | {"out": good["out"][1:]}, ValueError, "^out must have shape")
    for vector in NO_VECTORS[kernel]:
        assert_refused(kernel, good | {vector: good[vector][1:]}, ValueError, rf"^{vector} must have shape \(4,\)")
    if kernel == "activation_backward":
        assert_refused(kernel, good | {"saved": good["saved"][1:]}, ValueError, "^saved must have the shape of grad_y")
    turned = {name: value.T for name, value in good.items() if isinstance(value, np.ndarray) and value.ndim == 2}
    wide = {name: np.repeat(value.T, 2, axis=1)[:, ::2] for name, value in turned.items()}
    assert_refused(kernel, good | turned, ValueError, f"^{first} must be C-contiguous")
    assert_refused(kernel, good | wide | NO_VECTORS[kernel], ValueError, f"^{first} must be contiguous")
    scalars = {name: np.array(1, np.float32) for name in turned}
    assert_refused(kernel, good | scalars, ValueError, f"^{first} must be C-contiguous with at least one axis")


@each_kernel
def test_kernels_refuse_unknown_functions_wrong_numbers_and_overlaps(kernel):
    good = arguments(kernel)
    assert_refused(kernel, good | {"function": "relu"}, ValueError, "function must be .*, was 'relu'")
    assert_refused(kernel, good | {"alpha": math.nan}, ValueError, "^alpha must be finite")
    assert_refused(kernel, good | {"alpha": None}, TypeError, "^alpha must be a number, was NoneType")
    shifted = np.zeros(30, np.float32)
    first = next(iter(good))
    overlapping = {first: shifted[:24].reshape(6, 4), "out": shifted[4:28].reshape(6, 4)}
    assert_refused(kernel, good | overlapping, ValueError, f"^out must not overlap {first}")
    assert_refused(kernel, good | {"bias": good["out"][0]}, ValueError, "^out must not overlap bias")
