import math
import threading

import numpy as np
import pytest

from helpers.arrays import misaligned
from helpers.cases import CASES, arguments
from helpers.losses import assert_terms_are_close
from helpers.parity import ODD_SIZES, each, each_dtype
from helpers.refusals import assert_refused
from numfuse import native


@each([case for case in CASES if case.kernel == "cross_entropy"])
@each_dtype
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_close_to_the_reference(kernels, case, dtype, size, special):
    assert_terms_are_close(kernels, case, dtype, size, special)


@pytest.mark.parametrize("classes", [1, 2, 31, 32, 33, 2047, 2048, 2049])
def test_any_number_of_classes(kernels, classes):
    """Against the formula in float64, for x - m of 30 and less, whose rounding is up to 15 eps of its exp."""
    rng = np.random.default_rng(classes)
    x = 3 * rng.standard_normal((70, classes), dtype=np.float32)
    target = rng.integers(classes, size=70)
    value, grad = kernels.cross_entropy(x, target, None, None, mean=True, label_smoothing=0.0)
    wide = x.astype(np.float64)
    exp = np.exp(wide - wide.max(axis=1, keepdims=True))
    softmax = exp / exp.sum(axis=1, keepdims=True)
    expected = -np.log(softmax[np.arange(70), target])
    softmax[np.arange(70), target] -= 1
    error = float(32 * np.finfo(np.float32).eps)  # with some 16 roundings
    assert value == pytest.approx(expected.mean(), rel=error, abs=error)
    np.testing.assert_allclose(grad, softmax / 70, rtol=0, atol=error / 70)


def test_labels_may_change_while_they_are_read():
    """Another thread puts labels out of range between the check and the kernel's reading."""
    rows, stop = 50_000, threading.Event()
    prediction, target = np.zeros((rows, 2), np.float32), np.zeros(rows, np.int64)
    bad = target.copy()
    bad[-100:] = 10**6

    def change():
        while not stop.is_set():
            target[...] = bad
            target[...] = 0

    other = threading.Thread(target=change)
    other.start()
    try:
        for _ in range(200):
            try:
                native.cross_entropy(prediction, target, None, None, mean=True, label_smoothing=0.0)
            except ValueError as error:
                assert "target must be labels" in str(error)
    finally:
        stop.set()
        other.join()


@pytest.mark.parametrize("classes", [2, 31, 32, 33, 2047, 2049])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_any_number_of_classes_with_weights_and_smoothing(kernels, classes, smoothing):
    """Against the formula in float64, for x - m of 30 and less, whose rounding is up to 15 eps of its exp."""
    rng = np.random.default_rng(classes)
    x, target = 3 * rng.standard_normal((70, classes), dtype=np.float32), rng.integers(classes, size=70)
    v, w = rng.random(classes, dtype=np.float32), rng.random(70, dtype=np.float32)
    value, grad = kernels.cross_entropy(x, target, v, w, mean=True, label_smoothing=smoothing)
    wide = x.astype(np.float64)
    log_softmax = wide - wide.max(axis=1, keepdims=True)
    log_softmax -= np.log(np.exp(log_softmax).sum(axis=1, keepdims=True))
    wanted = np.full(x.shape, smoothing / classes)
    wanted[np.arange(70), target] += 1 - smoothing
    wanted *= w[:, None].astype(np.float64) * v
    total = (w.astype(np.float64) * v[target]).sum()
    error = float(64 * np.finfo(np.float32).eps)  # with some 30 roundings
    assert value == pytest.approx(-(wanted * log_softmax).sum() / total, rel=error, abs=error)
    expected = wanted.sum(axis=1, keepdims=True) * np.exp(log_softmax) - wanted
    np.testing.assert_allclose(grad, expected / total, rtol=0, atol=error / total)


def test_targets_are_looked_at_before_anything_is_written():
    bad = arguments("cross_entropy", target=np.arange(6))
    assert_refused("cross_entropy", bad, ValueError, r"^target must be labels from 0 to 3; target\[4\] is 4")


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, math.nan])
def test_wrong_label_smoothing_is_refused(smoothing):
    bad = arguments("cross_entropy", label_smoothing=smoothing)
    assert_refused("cross_entropy", bad, ValueError, f"^label_smoothing must be .* was {smoothing}")


@pytest.mark.parametrize("change", [
    *[lambda labels, kind=kind: labels.astype(kind) for kind in ("i1", "u1", "i2", "u2", "i4", "u4", ">i4", "u8", ">i8")],
    lambda labels: np.repeat(labels, 2)[::2],
    lambda labels: labels[::-1].copy()[::-1],
    misaligned,
], ids=["i1", "u1", "i2", "u2", "i4", "u4", ">i4", "u8", ">i8", "every second", "reversed", "misaligned"])
def test_labels_may_be_integers_of_any_type_and_layout(kernels, change):
    given = arguments("cross_entropy")
    value, grad = kernels.cross_entropy(**given | {"out": None})
    other, same = kernels.cross_entropy(**given | {"out": None, "target": change(given["target"])})
    assert other == value and np.array_equal(same, grad)


@pytest.mark.parametrize("label", [np.uint64(2**64 - 1), np.uint64(2**63), np.int8(-1), np.uint8(200)], ids=str)
def test_labels_out_of_range_are_named_as_they_are(kernels, label):
    given = arguments("cross_entropy")
    target = given["target"].astype(label.dtype)
    target[2] = label
    with pytest.raises(ValueError, match=rf"target\[2\] is {label}$"):
        kernels.cross_entropy(**given | {"out": None, "target": target})
