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
    assert_refused(kernel, good | {name: change(good[name])}, TypeError, f"^{name} must be")


@pytest.mark.parametrize("name", ["prediction", "target", "out"])
@each_kernel
def test_kernels_refuse_wrong_shapes_strides_and_addresses(kernel, name):
    good = arguments(kernel)
    array = good[name]
    wide = np.repeat(array, 2, axis=-1)
    for bad, words in [(misaligned(array), "aligned"), (array[1:], "shape"), (array[..., None], "shape"),
                       (wide[..., ::2], "contiguous|strides")]:
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
