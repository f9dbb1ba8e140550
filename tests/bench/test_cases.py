"""The NumPy rivals do the work of the kernels, so that no one is timed doing something else."""

import math

import numpy as np
import pytest

from numfuse import reference
from numfuse.bench import operations, peers, textbook
from numfuse.bench.case import arrays, merge
from numfuse.bench.operations import CASES, OPERATIONS, find, function, operation_of

RANDOM = "batch_norm_relu_dropout_forward p=0.2"  # each version draws another mask
BATCH_NORMS = [case for case in CASES if case.kernel.startswith("batch_norm") and case.name != RANDOM]
DROPOUTS = [case for case in CASES if case.kernel == "dropout_forward"]
STEPS = [case for case in CASES if case.kernel.endswith("_step")]
LOSSES = [case for case in CASES if case.group == "losses"]
ACTIVATIONS = [case for case in CASES if case.group == "activations"]
DTYPES = [np.float32, np.float64]

each_version = pytest.mark.parametrize("version", ["textbook", "in_place"])
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def arguments_of(case, size=1003, dtype=np.float64):
    return case.arguments(size, dtype, np.random.default_rng(1))


def first(result):
    """A result, or the first array of several: a loss's value comes before its gradient."""
    if not isinstance(result, tuple):
        return result
    return next(part for part in result if isinstance(part, np.ndarray))


def run_both(case, version, dtype):
    """The reference's arguments afterwards and its first result, and the same of one NumPy version."""
    expected, actual = arguments_of(case, dtype=dtype), arguments_of(case, dtype=dtype)
    expected_result = first(getattr(reference, case.kernel)(**expected))
    return expected, expected_result, actual, first(getattr(case, version)(actual)())


def test_every_kernel_has_a_case_and_every_case_a_name():
    assert {case.kernel for case in CASES} == set(reference.__all__)
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("kernel", dict.fromkeys(case.kernel for case in CASES))
def test_every_kernel_has_its_versions_in_numpy(kernel):
    missing = [name for name in ("textbook", "in_place") if not function(name, kernel)]
    assert not missing, f"{operation_of(kernel).__file__} has no {' and no '.join(f'{name}_{kernel}' for name in missing)}"
    assert getattr(textbook, kernel) is function("textbook", kernel)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_version_is_that_of_a_kernel_of_the_operation(name):
    module, sources = OPERATIONS[name], ("textbook", "in_place", *peers.NAMES)
    known = {f"{source}_{case.kernel}" for case in module.CASES for source in sources}
    own = {name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__}
    assert {name for name in own if name.startswith(tuple(f"{source}_" for source in sources))} <= known


def test_an_operation_without_a_file_is_named():
    with pytest.raises(ModuleNotFoundError, match="'nosuch' of native.operations.. has no file .*operations.nosuch.py"):
        operations.load("nosuch")


def test_the_textbook_has_kernels_alone():
    with pytest.raises(AttributeError, match="'numfuse.bench.textbook' has no attribute 'nosuch'"):
        textbook.nosuch


@each(CASES)
@each_dtype
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 63, 64, 65, 1003])
def test_the_kernel_takes_the_arguments(case, dtype, size):
    arguments = arguments_of(case, size, dtype)
    largest = arrays(arguments)[0]
    assert largest.dtype == dtype
    assert largest.size >= size and (largest.size == 0) == (size == 0)
    getattr(reference, case.kernel)(**arguments)


def test_a_mebi_of_elements_is_a_square_to_batch_normalisation():
    assert arguments_of(find("batch_norm_forward"), 1 << 20, np.float32)["x"].shape == (1024, 1024)


@each(STEPS)
@each_version
@each_dtype
def test_step_versions_agree_with_the_reference(case, version, dtype):
    expected, _, actual, _ = run_both(case, version, dtype)
    # Every number is reached by less than 16 roundings, each of an intermediate no larger than the
    # largest array element: the denominators exceed 0.9, the other factors are at most 1.
    largest = max(np.abs(array).max() for array in arrays(expected) if array.dtype == dtype)
    for a, b in zip(arrays(actual), arrays(expected)):
        if b.dtype == dtype:
            assert a.dtype == dtype
            np.testing.assert_allclose(a, b, rtol=0, atol=16 * np.finfo(dtype).eps * largest)


@each_version
@each_dtype
def test_max_norm_versions_agree_with_the_reference(version, dtype):
    expected, _, actual, _ = run_both(find("max_norm"), version, dtype)
    # A sum of n squares errs by at most n + 1 roundings, halved by the root; then come 8, on numbers below 4.
    tolerance = (expected["params"][0].shape[1] / 2 + 8) * np.finfo(dtype).eps * 4
    for name in ("params", "ema_params"):
        np.testing.assert_allclose(actual[name][0], expected[name][0], rtol=0, atol=tolerance)


@each_version
@each_dtype
def test_grad_norm_versions_agree_with_the_reference(version, dtype):
    _, expected, _, result = run_both(find("grad_norm"), version, dtype)
    # A sum of n squares, none negative, in any order errs by at most n + 1 roundings; the root halves that.
    assert abs(result - expected) <= 1004 / 2 * np.finfo(dtype).eps * expected


@each(BATCH_NORMS)
@each_version
def test_batch_norm_versions_agree_with_the_reference(case, version):
    expected, expected_result, actual, result = run_both(case, version, np.float64)
    # A sum of n terms errs by at most n eps times the sum of their magnitudes, which are products
    # of at most one element of each of x, xhat, weight and grad_y; three sums feed each other.
    x = expected["x"]
    n = x.size // x.shape[expected["axis"]]
    largest = math.prod(max(1, np.abs(expected[name]).max()) for name in ("x", "weight", "grad_y")
                        if expected.get(name) is not None) * 4
    tolerance = 3 * (n + 8) * np.finfo(np.float64).eps * n * largest
    assert tolerance < 1e-6
    np.testing.assert_allclose(result, expected_result, rtol=0, atol=tolerance)
    for name in ("running_mean", "running_var", "grad_weight", "grad_bias"):
        if expected.get(name) is not None:
            np.testing.assert_allclose(actual[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


@each(DROPOUTS)
@each_version
@each_dtype
def test_dropout_versions_keep_as_many_as_the_reference(case, version, dtype):
    arguments = arguments_of(case, 100_000, dtype)
    x, keep = arguments["x"], 1 - arguments["p"]
    for step in (getattr(case, version)(arguments), lambda: reference.dropout_forward(**arguments)):
        y = first(step())
        kept = y != 0
        assert abs(kept.sum() - keep * x.size) < 6 * math.sqrt(x.size * keep * (1 - keep))
        # Two roundings: of the scale, and of the product.
        np.testing.assert_allclose(y[kept], x[kept] / keep, rtol=2 * np.finfo(dtype).eps)


@each_version
@each_dtype
def test_dropout_backward_versions_agree_with_the_reference(version, dtype):
    _, expected, _, result = run_both(find("dropout_backward p=0.5"), version, dtype)
    np.testing.assert_array_equal(result, expected)  # the scale is 2


@each(LOSSES)
@each_version
def test_loss_versions_agree_with_the_reference(case, version):
    for mean in (True, False):
        arguments = arguments_of(case) | {"mean": mean}
        expected, expected_grad = getattr(reference, case.kernel)(**arguments | {"out": None})
        value, grad = getattr(case, version)(arguments)()
        assert isinstance(value, float)
        scale = 1 if mean else len(arguments["prediction"])
        # Sums of 1003 terms and fewer, of numbers below 10, in any order.
        np.testing.assert_allclose(value, expected, rtol=1e5 * np.finfo(float).eps)
        np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=scale * 1e5 * np.finfo(float).eps)


@each(ACTIVATIONS)
@each_version
@each_dtype
def test_activation_versions_agree_with_the_reference(case, version, dtype):
    expected, expected_result, actual, result = run_both(case, version, dtype)
    # Some ten roundings of numbers below 10, of which grad_bias is a sum of 32.
    tolerance = 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(result, expected_result, rtol=0, atol=tolerance)
    if expected.get("grad_bias") is not None:
        np.testing.assert_allclose(actual["grad_bias"], expected["grad_bias"], rtol=0, atol=32 * tolerance)


@each([find("bias_forward"), find("bias_backward")])
@each_version
@each_dtype
def test_bias_versions_agree_with_the_reference(case, version, dtype):
    expected, expected_result, actual, result = run_both(case, version, dtype)
    np.testing.assert_array_equal(result, expected_result)
    if "grad_bias" in expected:
        # A sum of n terms errs by at most n eps times the sum of their magnitudes.
        tolerance = len(expected["grad_y"]) * np.finfo(dtype).eps * np.abs(expected["grad_y"]).sum(axis=0).max()
        np.testing.assert_allclose(actual["grad_bias"], expected["grad_bias"], rtol=0, atol=tolerance)


@each([find(f"bias_relu_dropout_{name} p=0") for name in ("forward", "backward")])
@each_version
@each_dtype
def test_bias_and_relu_versions_agree_with_the_reference(case, version, dtype):
    expected, expected_result, actual, result = run_both(case, version, dtype)
    np.testing.assert_array_equal(result, expected_result)
    if "grad_bias" in expected:
        # A sum of n terms, of order one, errs by at most n eps times the sum of their magnitudes.
        magnitudes = np.abs(expected_result).sum(axis=0).max()
        tolerance = len(expected_result) * np.finfo(dtype).eps * magnitudes
        np.testing.assert_allclose(actual["grad_bias"], expected["grad_bias"], rtol=0, atol=tolerance)


@each_version
@each_dtype
def test_bias_relu_dropout_versions_keep_as_many_as_the_reference(version, dtype):
    arguments = arguments_of(find("bias_relu_dropout_forward p=0.2"), 100_000, dtype)
    positive = np.maximum(arguments["x"] + arguments["bias"], 0)
    y = first(getattr(find("bias_relu_dropout_forward p=0.2"), version)(arguments)())
    kept, count = y != 0, np.count_nonzero(positive)
    assert abs(kept.sum() - 0.8 * count) < 6 * math.sqrt(count * 0.8 * 0.2)
    # Two roundings: of the scale, and of the product.
    np.testing.assert_allclose(y[kept], positive[kept] / dtype(0.8), rtol=3 * np.finfo(dtype).eps)


@each_version
def test_a_backward_version_with_dropout_agrees_with_the_reference(version):
    _, expected, _, result = run_both(find("bias_relu_dropout_backward p=0.2"), version, np.float64)
    np.testing.assert_allclose(result, expected, rtol=2 * np.finfo(np.float64).eps)


@each(CASES)
@each_version
def test_float32_stays_float32(case, version):
    _, _, actual, result = run_both(case, version, np.float32)
    assert result is None or isinstance(result, float) or result.dtype == np.float32
    floats = [array for array in arrays(actual) if array.dtype.kind == "f"]
    saved = [array for array in floats if array is actual.get("mean") or array is actual.get("rstd")]
    assert all((array.dtype == np.float32) == all(array is not one for one in saved) for array in floats)


@each(STEPS)
@each_version
@each_dtype
def test_repeated_steps_stay_on_ordinary_numbers(case, version, dtype):
    arguments = case.steady_arguments(64, dtype, np.random.default_rng(1))
    before = arguments["params"][0].copy()
    step = getattr(case, version)(arguments)
    for _ in range(5_000):
        step()
    # An update is at most the gradient over eps = 1e-3, summed up by a momentum of 0.9.
    gradient = np.abs(arguments["grads"][0]).max()
    assert np.abs(arguments["params"][0] - before).max() < 5_000 * 1e-9 * 10 * gradient / 1e-3
    for array in arrays(arguments):
        if array.dtype == dtype:
            assert np.isfinite(array).all()
            assert not ((array != 0) & (np.abs(array) < np.finfo(dtype).tiny)).any()


def test_merge_joins_tensors_and_step_counts():
    case = find("adam_step amsgrad")
    calls = [arguments_of(case, size) for size in (3, 5)]
    merged = merge(calls)
    assert [p.size for p in merged["params"]] == [p.size for p in merged["max_exp_avg_sqs"]] == [3, 5]
    assert merged["params"][1] is calls[1]["params"][0]
    assert merged["steps"].tolist() == [10, 10]
    assert merge([arguments_of(find("adam_step"), size) for size in (3, 5)])["max_exp_avg_sqs"] is None
