"""Weights, values and divisors: the parts that the kernels of all losses share."""

import numpy as np
import pytest

from helpers.arrays import misaligned
from helpers.cases import CASES, arguments
from helpers.refusals import assert_refused, each_wrong_type

KERNELS = list(dict.fromkeys(case.kernel for case in CASES if case.group == "losses"))
PAIRS = [kernel for kernel in KERNELS if arguments(kernel)["target"].ndim == 2]  # of one target an element

each_kernel = pytest.mark.parametrize("kernel", KERNELS)
each_weight = pytest.mark.parametrize("kernel, name", [
    (kernel, name) for kernel in KERNELS for name in arguments(kernel) if name.endswith("weight")])


@each_wrong_type
@pytest.mark.parametrize("name", ["prediction", "target", "out"])
@each_kernel
def test_kernels_refuse_wrong_types(kernel, name, change):
    good = arguments(kernel)
    bad = change(good[name])
    if kernel == "cross_entropy" and name == "target" and isinstance(bad, np.ndarray) and bad.dtype.kind == "i":
        pytest.skip("labels are integers of any type")
    assert_refused(kernel, good | {name: bad}, TypeError, f"^{name} must be")


@pytest.mark.parametrize("name", ["prediction", "target", "out"])
@each_kernel
def test_kernels_refuse_wrong_shapes_strides_and_addresses(kernel, name):
    good = arguments(kernel)
    array = good[name]
    wide = np.repeat(array, 2, axis=-1)
    for bad, words in [(misaligned(array), "aligned"), (array[1:], "shape"), (array[..., None], "shape"),
                       (wide[..., ::2], "contiguous|strides")]:
        if name == "target" and kernel == "cross_entropy" and bad.shape == array.shape:
            continue  # labels are copied
        if name == "prediction" and kernel == "cross_entropy" and bad.shape == (5, 4):
            assert_refused(kernel, good | {name: bad}, ValueError, r"^target must have shape \(5,\)")
        else:
            assert_refused(kernel, good | {name: bad}, ValueError, f"({name}|target|out) must .*({words})")


@each_kernel
def test_kernels_refuse_to_write_over_their_arguments(kernel):
    good = arguments(kernel)
    assert_refused(kernel, good | {"out": good["prediction"]}, ValueError, "^out must not overlap prediction")
    good["out"].flags.writeable = False
    assert_refused(kernel, good, ValueError, "^out is updated in place and must be writable")


@each_kernel
@pytest.mark.parametrize("mean", [True, False])
def test_kernels_write_into_out(kernels, kernel, mean):
    given = arguments(kernel, mean=mean)
    value, grad = getattr(kernels, kernel)(**given)
    assert grad is given["out"]
    again, new = getattr(kernels, kernel)(**given | {"out": None})
    assert again == value and type(value) is float
    assert np.array_equal(new, grad) and not np.shares_memory(new, grad)


@pytest.mark.parametrize("case", [case for case in CASES if case.group == "losses"], ids=lambda case: case.name)
@pytest.mark.parametrize("size", [0, 7, 3000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_value_without_gradient_is_the_same(kernels, case, size, dtype):
    given = case.arguments(size, dtype, np.random.default_rng(0))
    kernel = getattr(kernels, case.kernel)
    value, _ = kernel(**given)
    alone, grad = kernel(**given | {"gradient": False, "out": None})
    assert np.array_equal(alone, value, equal_nan=True) and grad is None
    with pytest.raises(ValueError, match="^out must be None where gradient is False"):
        kernel(**given | {"gradient": False})


def test_value_of_rows_of_many_classes_is_the_same_without_gradient(kernels):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((3, 5000)), rng.integers(0, 5000, 3)
    values = [kernels.cross_entropy(x, target, None, None, mean=True, label_smoothing=0.1, gradient=gradient)[0]
              for gradient in (True, False)]
    assert values[0] == values[1]


def changed(weight, index, value):
    weight = weight.copy()
    weight[index] = value
    return weight


@each_weight
def test_kernels_refuse_wrong_weights(kernel, name):
    good = arguments(kernel)
    weight, n = good[name], len(good[name])
    for bad, error, words in [
        (weight.astype(np.float64), TypeError, "must be float32, was float64"),
        (weight.tolist(), TypeError, "must be a NumPy array"),
        (weight[1:], ValueError, rf"must have shape \({n},\).* had \({n - 1},\)"),
        (weight[:, None], ValueError, rf"must have shape \({n},\)"),
        (np.repeat(weight, 2)[::2], ValueError, "must be C-contiguous"),
        (misaligned(weight), ValueError, "must be aligned"),
        (changed(weight, -1, -1), ValueError, rf"must be finite and >= 0; {name}\[{n - 1}\] is -1.0"),
        (changed(weight, 0, np.nan), ValueError, rf"must be finite and >= 0; {name}\[0\] is nan"),
    ]:
        assert_refused(kernel, good | {name: bad}, error, f"^{name} {words}")
    if name != "pos_weight":
        assert_refused(kernel, good | {name: np.zeros_like(weight)}, ValueError,
                       f"{name} must have a finite sum above 0 over the rows of a mean, was 0")
    good["out"] = np.broadcast_to(weight[0], (6, 4)).copy()
    assert_refused(kernel, good | {name: good["out"].reshape(-1)[:n]}, ValueError, f"^out must not overlap {name}")


@pytest.mark.parametrize("kernel", PAIRS)
def test_kernels_want_weighted_pairs_in_c_order(kernel):
    good = arguments(kernel)
    turned = {name: np.asfortranarray(good[name]) for name in ("prediction", "target", "out")}
    assert_refused(kernel, good | turned, ValueError, "^prediction must be C-contiguous")
