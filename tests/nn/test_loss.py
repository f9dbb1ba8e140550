import copy
import math
import pickle

import numpy as np
import pytest

from helpers.arrays import misaligned
from helpers.cases import textbook
from numfuse import native, nn, reference

EPS = np.finfo(float).eps
LOSSES = [nn.CrossEntropyLoss, nn.MSELoss, nn.HuberLoss, nn.BCEWithLogitsLoss]


def example(loss, shape=(5, 4), dtype=np.float64):
    rng = np.random.default_rng(1)
    prediction = rng.standard_normal(shape).astype(dtype)
    if loss is nn.CrossEntropyLoss:
        return prediction, rng.integers(shape[1], size=shape[0])
    return prediction, rng.uniform(size=shape).astype(dtype)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(5, 4), (1, 2), (3, 1)])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(check_gradients, loss, shape, reduction):
    check_gradients(loss(reduction), *example(loss, shape))


@pytest.mark.parametrize(
    "loss, formula",
    [
        (nn.CrossEntropyLoss, lambda x, t: np.log(np.exp(x).sum(axis=1)) - x[np.arange(len(t)), t]),
        (nn.MSELoss, lambda x, t: (x - t) ** 2),
        (nn.HuberLoss, lambda x, t: np.where(abs(x - t) <= 1, (x - t) ** 2 / 2, abs(x - t) - 0.5)),
        (nn.BCEWithLogitsLoss, lambda x, t: t * np.log(1 + np.exp(-x)) + (1 - t) * np.log(1 + np.exp(x))),
    ],
)
def test_values(loss, formula):
    x, target = example(loss)
    expected = formula(x, target)
    # each of at most 20 terms of order one takes about 10 roundings
    assert loss()(x, target) == pytest.approx(expected.mean(), rel=0, abs=50 * EPS)
    assert loss("sum")(x, target) == pytest.approx(expected.sum(), rel=0, abs=1000 * EPS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES)
def test_types(loss, dtype):
    instance = loss()
    x, target = example(loss, dtype=dtype)
    assert type(instance.forward(x, target)) is float
    gradient = instance.backward()
    assert (gradient.shape, gradient.dtype) == (x.shape, dtype)
    before = gradient.copy()
    gradient.fill(np.nan)
    again = instance.backward()
    assert np.array_equal(again, before)
    assert not np.shares_memory(again, gradient) and not np.shares_memory(again, instance.backward())


@pytest.mark.parametrize("loss", LOSSES)
def test_value_without_gradient(loss):
    for backend in (native, reference):
        one, other = loss().set_backend(backend), loss().set_backend(backend)
        x, target = example(loss)
        value = one(x, target)
        assert other(x, target, gradient=False) == value
        with pytest.raises(RuntimeError, match="backward needs a forward before it, but the last one had gradient=False"):
            other.backward()
        assert other(x, target) == value and np.array_equal(other.backward(), one.backward())


@pytest.mark.parametrize("loss", LOSSES)
def test_empty_batch(loss):
    x, target = example(loss, (0, 3))
    mean, total = loss(), loss("sum")
    assert math.isnan(mean(x, target)) and mean.backward().shape == (0, 3)
    assert total(x, target) == 0.0 and total.backward().shape == (0, 3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_logits(dtype):
    with np.errstate(all="raise"):
        loss = nn.CrossEntropyLoss("sum")
        assert loss(np.array([[1e30, 0, -1e30]], dtype), np.array([0])) == 0
        assert loss.backward().tolist() == [[0, 0, 0]]
        assert loss(np.array([[0, -1000]], dtype), np.array([1])) == 1000
        assert loss.backward().tolist() == [[1, -1]]
        loss = nn.BCEWithLogitsLoss("sum")
        assert loss(np.array([1000, -1000, 1000], dtype), np.array([1, 0, 0], dtype)) == 1000
        assert loss.backward().tolist() == [0, 0, 1]


def test_infinite_logits():
    """-inf rules a class out; +inf has no softmax; NaN stays NaN; and none of it prints a warning."""
    loss = nn.CrossEntropyLoss()
    assert loss(np.array([[0.0, -np.inf]]), np.array([0])) == 0.0
    assert loss(np.array([[0.0, -np.inf]]), np.array([1])) == np.inf
    for bad in (np.inf, np.nan):
        assert math.isnan(loss(np.array([[0.0, bad]]), np.array([0])))
        assert math.isnan(nn.MSELoss()(np.array([bad]), np.array([bad])))
        assert math.isnan(nn.HuberLoss()(np.array([bad]), np.array([bad])))
        assert math.isnan(nn.BCEWithLogitsLoss()(np.array([np.nan]), np.array([1.0])))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_every_integer_type_serves_as_label(kind):
    loss = nn.CrossEntropyLoss()
    x, labels = example(nn.CrossEntropyLoss)
    expected = loss(x, labels), loss.backward().tolist()
    assert (loss(x, labels.astype(kind)), loss.backward().tolist()) == expected


@pytest.mark.parametrize(
    "prediction, target, error, words",
    [
        (np.zeros((2, 3)), np.array([0, 3]), ValueError, r"from 0 to 2; target\[1\] is 3"),
        (np.zeros((2, 3)), np.array([-1, 0]), ValueError, r"target\[0\] is -1"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), TypeError, r"labels, was float64; .*astype\(np.int64\)"),
        (np.zeros((2, 3)), np.array([True, False]), TypeError, "was bool"),
        (np.zeros((2, 3)), [0, 1], TypeError, "NumPy array, was list"),
        (np.zeros((2, 3)), np.array([[0], [1]]), ValueError, r"shape \(2,\), was \(2, 1\)"),
        (np.zeros((2, 3)), np.array([0, 1, 2]), ValueError, r"shape \(2,\), was \(3,\)"),
        (np.zeros(3), np.array([0, 1, 2]), ValueError, r"shape \(N, C\), was \(3,\)"),
        (np.zeros((2, 3), int), np.array([0, 1]), TypeError, "prediction must be float32 or float64"),
    ],
)
def test_bad_labels(prediction, target, error, words):
    loss = nn.CrossEntropyLoss()
    x, labels = example(nn.CrossEntropyLoss)
    loss(x, labels)
    before = loss.backward()
    with pytest.raises(error, match=words):
        loss(prediction, target)
    assert np.array_equal(loss.backward(), before)


@pytest.mark.parametrize("loss", LOSSES[1:])
def test_bad_targets(loss):
    with pytest.raises(ValueError, match=r"target must have shape \(4, 1\), was \(4,\)"):
        loss()(np.zeros((4, 1)), np.zeros(4))
    with pytest.raises(TypeError, match=r"target must be float32, was float64; .*astype\(np.float32\)"):
        loss()(np.zeros(4, np.float32), np.zeros(4))
    with pytest.raises(TypeError, match="target must be float64, was int64"):
        loss()(np.zeros(4), np.zeros(4, np.int64))


def test_probabilities_outside_0_to_1():
    with pytest.raises(ValueError, match="target must be from 0 to 1, was 2.0"):
        nn.BCEWithLogitsLoss()(np.zeros(3), np.array([0.0, 2.0, -1.0]))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_rest(loss):
    with pytest.raises(ValueError, match="reduction must be .* was 'none'"):
        loss("none")
    with pytest.raises(RuntimeError, match=f"{loss.__name__}.backward needs a forward"):
        loss().backward()
    assert repr(loss("sum")).startswith(f"{loss.__name__}(reduction='sum'")
    instance = loss("sum")
    x, target = example(loss)
    expected = instance(x, target)
    for twin in (copy.deepcopy(instance), pickle.loads(pickle.dumps(instance))):
        assert twin(x, target) == expected


@pytest.mark.parametrize("x, target, value", [
    (np.inf, 1, 0), (np.inf, 0, np.inf), (np.inf, 0.5, np.inf),
    (-np.inf, 0, 0), (-np.inf, 1, np.inf), (-np.inf, 0.5, np.inf), (np.nan, 0, np.nan),
])
def test_binary_cross_entropy_of_what_is_not_finite(x, target, value):
    loss = nn.BCEWithLogitsLoss().forward(np.array([float(x)]), np.array([float(target)]))
    np.testing.assert_equal(loss, float(value))


@pytest.mark.parametrize("loss", LOSSES)
def test_backends(loss):
    x, target = example(loss)
    expected = loss()(x, target)
    for backend in (reference, textbook):
        instance = loss().set_backend(backend)
        # a mean of at most 20 terms of order one, of about 10 roundings each, and of exp within 4 ulp
        assert instance(x, target) == pytest.approx(expected, rel=0, abs=100 * EPS)
        assert pickle.loads(pickle.dumps(instance)).kernels is backend
    with pytest.raises(TypeError, match=f"lacks the kernels {loss.kernel_names[0]}"):
        loss().set_backend(math)


@pytest.mark.parametrize("change", [
    lambda a: a[:, ::2], lambda a: a[::-1], lambda a: np.asfortranarray(a), lambda a: a.T.copy().T[1:],
], ids=["every second column", "backwards", "Fortran order", "part in Fortran order"])
@pytest.mark.parametrize("loss", LOSSES)
def test_any_strides(loss, change):
    x, target = example(loss, (6, 4))
    if loss is nn.CrossEntropyLoss:
        x, target = change(x), target[: len(change(x))] % 2
        pairs = [(x, target, target.copy()), (x, np.repeat(target, 2)[::2], target.copy())]
    else:
        pairs = [(change(x), change(target), change(target).copy()), (x, np.asfortranarray(target), target)]
    for x, target, copy_of_target in pairs:
        strided, plain = loss("sum"), loss("sum")
        # the order of memory is that of the sum, of at most 24 terms of order one
        assert strided(x, target) == pytest.approx(plain(x.copy(), copy_of_target), rel=0, abs=1000 * EPS)
        assert np.array_equal(strided.backward(), plain.backward())


def test_no_shape_is_a_shape():
    loss = nn.MSELoss()
    assert loss(np.array(3.0), np.array(1.0)) == 4.0
    assert loss.backward().shape == () and loss.backward() == 4.0


@pytest.mark.parametrize("label", [-1, 4, -100])
@pytest.mark.parametrize("backend", [native, reference], ids=["native", "reference"])
def test_labels_out_of_range_are_refused_by_every_backend(backend, label):
    loss = nn.CrossEntropyLoss().set_backend(backend)
    with pytest.raises(ValueError, match=rf"target must be labels from 0 to 3; target\[1\] is {label}"):
        loss(np.zeros((3, 4)), np.array([0, label, 2]))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.HuberLoss(), nn.BCEWithLogitsLoss()])
def test_misaligned_arrays_of_pairs(loss, order):
    rng = np.random.default_rng(0)
    prediction, target = np.asarray(rng.standard_normal((4, 3)), order=order), np.asarray(rng.random((4, 3)), order=order)
    expected = loss(prediction, target), loss.backward()
    for x, t in [(misaligned(prediction), target), (prediction, misaligned(target)),
                 (prediction, misaligned(np.ascontiguousarray(target)))]:
        assert loss(x, t) == expected[0]
        np.testing.assert_array_equal(loss.backward(), expected[1])


def test_misaligned_logits_and_labels():
    loss, prediction, target = nn.CrossEntropyLoss(), np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 1, 2, 0])
    expected = loss(prediction, target)
    assert loss(misaligned(prediction), misaligned(target)) == expected
    assert loss(prediction, target.astype(np.uint64)) == expected
    with pytest.raises(ValueError, match="target must be labels"):
        loss(prediction, np.array([0, 1, 2, 2**64 - 1], np.uint64))


def test_a_subclass_need_not_know_of_values_without_gradient():
    class Older(nn.MSELoss):
        def forward(self, prediction, target, sample_weight=None):
            return super().forward(prediction, target, sample_weight)

    assert Older()(np.ones(3), np.zeros(3)) == 1.0
