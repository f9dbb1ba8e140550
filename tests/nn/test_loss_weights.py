"""Class weights, sample weights, label smoothing and delta: what they mean, and what is refused."""

import copy
import math
import pickle

import numpy as np
import pytest

from helpers.arrays import misaligned
from numfuse import native, nn, reference

EPS = np.finfo(float).eps
CLASSES = 4
CLASS_WEIGHTS = [0.5, 2.0, 0.0, 1.25]
CROSS_ENTROPIES = [
    nn.CrossEntropyLoss(reduction, weight=weight, label_smoothing=smoothing)
    for reduction in ("mean", "sum")
    for weight in (None, CLASS_WEIGHTS)
    for smoothing in (0.0, 0.1, 1.0)
]
PAIRS = [
    make(reduction)
    for reduction in ("mean", "sum")
    for make in (
        nn.MSELoss,
        nn.HuberLoss,
        lambda reduction: nn.HuberLoss(reduction, delta=0.3),
        nn.BCEWithLogitsLoss,
        lambda reduction: nn.BCEWithLogitsLoss(reduction, pos_weight=3),
        lambda reduction: nn.BCEWithLogitsLoss(reduction, pos_weight=CLASS_WEIGHTS),
    )
]

each_loss = pytest.mark.parametrize("loss", CROSS_ENTROPIES + PAIRS, ids=repr)


def example(loss, rows=7, dtype=np.float64, shape=()):
    """Prediction, target and sample weights, the first of which is 0."""
    rng = np.random.default_rng(1)
    prediction = rng.standard_normal((rows, *shape, CLASSES)).astype(dtype)
    weight = rng.uniform(0.5, 2, rows)
    weight[0] = 0
    if isinstance(loss, nn.CrossEntropyLoss):
        return prediction, np.arange(rows) % CLASSES, weight
    return prediction, rng.uniform(size=prediction.shape).astype(dtype), weight


def terms(loss, x, t):
    """The unweighted or class-weighted loss of each row or element, and what it counts in a mean, from the formulas."""
    if isinstance(loss, nn.CrossEntropyLoss):
        v = np.ones(CLASSES) if loss.weight is None else loss.weight
        wanted = np.full(x.shape, loss.label_smoothing / CLASSES)
        wanted[np.arange(len(t)), t] += 1 - loss.label_smoothing
        return (wanted * v * (np.log(np.exp(x).sum(axis=1, keepdims=True)) - x)).sum(axis=1), v[t]
    d = x - t
    if isinstance(loss, nn.MSELoss):
        return d**2, np.ones(x.shape)
    if isinstance(loss, nn.HuberLoss):
        delta = loss.delta
        return np.where(abs(d) <= delta, d**2 / 2, delta * (abs(d) - delta / 2)), np.ones(x.shape)
    p = 1 if loss.pos_weight is None else loss.pos_weight
    return p * t * np.log(1 + np.exp(-x)) + (1 - t) * np.log(1 + np.exp(x)), np.ones(x.shape)


@each_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients(check_gradients, loss, weighted):
    # In the seventh place a class of weight 0 is wanted, too.
    prediction, target, weight = example(loss)
    check_gradients(loss, prediction, target, *[weight] * weighted)


@each_loss
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_values(kernels, loss, weighted, shape):
    if shape and isinstance(loss, nn.CrossEntropyLoss):
        shape = ()
    loss = copy.deepcopy(loss).set_backend(kernels)
    x, target, weight = example(loss, shape=shape)
    each, counts = terms(loss, x, target)
    w = weight.reshape(-1, *[1] * (each.ndim - 1)) if weighted else 1
    expected = (w * each).sum()
    if loss.reduction == "mean":
        expected /= (w * counts).sum()
    # at most 84 terms, none negative and each of some 20 roundings of numbers below 20
    assert loss(x, target, *[weight] * weighted) == pytest.approx(expected, rel=200 * EPS)


@each_loss
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_of_weight_0_count_for_nothing(kernels, loss, bad):
    loss = copy.deepcopy(loss).set_backend(kernels)
    x, target, weight = example(loss)
    weight[3] = 0
    kept = weight > 0
    expected = loss(x[kept], target[kept], weight[kept]), loss.backward()
    x[~kept] = bad
    # the sum has another order
    assert loss(x, target, weight) == pytest.approx(expected[0], rel=10 * EPS)
    gradient = loss.backward()
    assert not gradient[~kept].any()
    np.testing.assert_allclose(gradient[kept], expected[1], rtol=10 * EPS)


@each_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_of_1_change_no_bit(kernels, loss, dtype):
    loss = copy.deepcopy(loss).set_backend(kernels)
    x, target, _ = example(loss, 1000, dtype)
    expected = loss(x, target), loss.backward()
    for weight in (np.ones(1000, dtype), np.ones(1000, bool), np.ones(1000, np.int8)):
        assert loss(x, target, weight) == expected[0]
        assert loss.backward().tobytes() == expected[1].tobytes()


def test_options_of_1_and_0_change_no_bit(kernels):
    for plain, same in [(nn.CrossEntropyLoss(), nn.CrossEntropyLoss(weight=np.ones(CLASSES), label_smoothing=0)),
                        (nn.BCEWithLogitsLoss(), nn.BCEWithLogitsLoss(pos_weight=np.ones(CLASSES)))]:
        x, target, _ = example(plain, 1000)
        plain.set_backend(kernels)
        assert plain(x, target) == same.set_backend(kernels)(x, target)
        assert plain.backward().tobytes() == same.backward().tobytes()


@each_loss
def test_only_proportions_matter_to_a_mean(loss):
    x, target, weight = example(loss)
    value, scaled = loss(x, target, weight), loss(x, target, 1024 * weight)
    assert scaled == (value if loss.reduction == "mean" else 1024 * value)


@each_loss
def test_empty_batches(kernels, loss):
    loss = copy.deepcopy(loss).set_backend(kernels)
    for arrays in (example(loss, 1)[:2], example(loss, 1)):
        value = loss(*(array[:0] for array in arrays))
        assert math.isnan(value) if loss.reduction == "mean" else value == 0
        assert loss.backward().shape == (0, CLASSES)


def test_one_class(kernels):
    for options in ({}, {"weight": [2.0]}, {"label_smoothing": 0.3}, {"weight": [2.0], "label_smoothing": 0.3}):
        loss = nn.CrossEntropyLoss(**options).set_backend(kernels)
        assert loss(np.array([[3.0], [-5.0]]), np.array([0, 0]), np.array([1.0, 2.0])) == 0
        np.testing.assert_allclose(loss.backward(), 0, atol=4 * EPS)


def test_classes_of_weight_0_may_be_ruled_out(kernels):
    """-inf rules a class out; smoothing gives such a class its share, unless it weighs nothing."""
    x, target = np.array([[0.0, 0.0, -np.inf], [0.0, 0.0, -np.inf]]), np.array([0, 1])
    even = nn.CrossEntropyLoss(label_smoothing=0.3).set_backend(kernels)
    assert even(x, target) == np.inf
    loss = nn.CrossEntropyLoss(weight=[1, 1, 0], label_smoothing=0.3).set_backend(kernels)
    # 0.7 + 0.3 / 3 of the target and 0.3 / 3 of the other
    assert loss(x, target) == pytest.approx(0.9 * math.log(2), rel=10 * EPS)
    assert np.isfinite(loss.backward()).all() and not loss.backward()[:, 2].any()


def test_huber_is_the_squared_and_the_absolute_error(kernels):
    x, target = np.array([0.5, -0.5, 3.0, -3.0, np.inf]), np.zeros(5)
    loss = nn.HuberLoss("sum", delta=1.0).set_backend(kernels)
    for i, (value, slope) in enumerate([(0.125, 0.5), (0.125, -0.5), (2.5, 1), (2.5, -1), (np.inf, 1)]):
        assert (loss(x[i:i + 1], target[i:i + 1]), loss.backward()[0]) == (value, slope)
    wide = nn.HuberLoss(delta=1e6).set_backend(kernels)
    x, target, _ = example(wide)
    assert wide(x, target) == pytest.approx(nn.MSELoss()(x, target) / 2, rel=10 * EPS)


@each_loss
def test_any_strides_and_places(loss):
    x, target, weight = example(loss)
    expected = loss(x, target, weight), loss.backward()
    wide = np.asfortranarray(target) if target.ndim > 1 else target
    for arrays in [(np.asfortranarray(x), wide, weight), (x, target, np.repeat(weight, 2)[::2]),
                   (misaligned(x), target, misaligned(weight)), (x, target, weight.astype(">f8"))]:
        assert loss(*arrays) == expected[0]
        np.testing.assert_array_equal(loss.backward(), expected[1])


@each_loss
def test_backward_again_copies_and_pickles(loss):
    x, target, weight = example(loss)
    value, gradient = loss(x, target, weight), loss.backward()
    np.testing.assert_array_equal(loss.backward(), gradient)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert twin(x, target, weight) == value and repr(twin) == repr(loss)


def test_the_loss_owns_its_weights():
    given = np.array(CLASS_WEIGHTS)
    for loss in (nn.CrossEntropyLoss(weight=given), nn.BCEWithLogitsLoss(pos_weight=given)):
        x, target, _ = example(loss)
        value = loss(x, target)
        given[:] += 1
        assert loss(x, target) == value


# What is refused

@pytest.mark.parametrize("make, error, words", [
    (lambda: nn.CrossEntropyLoss(weight=[1, -1]), ValueError, r"weight must be finite and >= 0; weight\[1\] is -1.0"),
    (lambda: nn.CrossEntropyLoss(weight=[np.nan, 1]), ValueError, r"weight\[0\] is nan"),
    (lambda: nn.CrossEntropyLoss(weight=[np.inf, 1]), ValueError, r"weight\[0\] is inf"),
    (lambda: nn.CrossEntropyLoss(weight=[0, 0]), ValueError, "weight must not sum to 0"),
    (lambda: nn.CrossEntropyLoss(weight=[[1, 2]]), ValueError, r"weight must have one axis.*\(1, 2\)"),
    (lambda: nn.CrossEntropyLoss(weight="two"), TypeError, "weight must be numbers, was 'two'"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=-0.1), ValueError, "label_smoothing must be from 0 to 1, was -0.1"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=1.1), ValueError, "label_smoothing must be from 0 to 1, was 1.1"),
    (lambda: nn.CrossEntropyLoss(label_smoothing=math.nan), ValueError, "label_smoothing must be .* was nan"),
    (lambda: nn.CrossEntropyLoss(label_smoothing="a"), TypeError, "label_smoothing must be a number"),
    (lambda: nn.CrossEntropyLoss(np.ones(2)), ValueError, "reduction must be"),
    (lambda: nn.BCEWithLogitsLoss(pos_weight=-1), ValueError, r"pos_weight must be finite and >= 0"),
    (lambda: nn.BCEWithLogitsLoss(pos_weight=[[1]]), ValueError, "pos_weight must have one axis"),
    (lambda: nn.HuberLoss(delta=0), ValueError, "delta must be > 0 and finite, was 0"),
    (lambda: nn.HuberLoss(delta=-1), ValueError, "delta must be > 0 and finite, was -1"),
    (lambda: nn.HuberLoss(delta=math.inf), ValueError, "delta must be > 0 and finite, was inf"),
    (lambda: nn.HuberLoss(delta="1"), TypeError, "delta must be a number"),
])
def test_bad_options(make, error, words):
    with pytest.raises(error, match=words):
        make()


def changed(weight, index, value):
    weight = weight.copy()
    weight[index] = value
    return weight


@each_loss
@pytest.mark.parametrize("backend", [native, reference], ids=["native", "reference"])
@pytest.mark.parametrize("change, error, words", [
    (lambda w: changed(w, 2, -1), ValueError, r"sample_weight must be finite and >= 0; sample_weight\[2\] is -1.0"),
    (lambda w: changed(w, 1, np.nan), ValueError, r"sample_weight\[1\] is nan"),
    (lambda w: changed(w, 1, np.inf), ValueError, r"sample_weight\[1\] is inf"),
    (lambda w: w[1:], ValueError, r"sample_weight must have shape \(7,\), was \(6,\)"),
    (lambda w: w[:, None], ValueError, r"sample_weight must have shape \(7,\), was \(7, 1\)"),
    (lambda w: w.tolist(), TypeError, "sample_weight must be a NumPy array, was list"),
    (lambda w: w.astype(complex), TypeError, "sample_weight must be real numbers, was complex128"),
    (lambda w: w.astype(str), TypeError, "sample_weight must be real numbers"),
], ids=["negative", "nan", "inf", "short", "column", "list", "complex", "text"])
def test_bad_sample_weights(loss, backend, change, error, words):
    loss = copy.deepcopy(loss).set_backend(backend)
    x, target, weight = example(loss)
    loss(x, target)
    before = loss.backward()
    with pytest.raises(error, match=words):
        loss(x, target, change(weight))
    np.testing.assert_array_equal(loss.backward(), before)


@each_loss
@pytest.mark.parametrize("backend", [native, reference], ids=["native", "reference"])
def test_weights_that_sum_to_0_have_no_mean(loss, backend):
    loss = copy.deepcopy(loss).set_backend(backend)
    x, target, weight = example(loss)
    nothing = np.zeros_like(weight)
    if loss.reduction == "sum":
        assert loss(x, target, nothing) == 0 and not loss.backward().any()
        return
    with pytest.raises(ValueError, match="must have a finite sum above 0 over the rows of a mean, was 0"):
        loss(x, target, nothing)
    if isinstance(loss, nn.CrossEntropyLoss) and loss.weight is not None:
        with pytest.raises(ValueError, match="must have a finite sum above 0 over the rows of a mean, was 0"):
            loss(x, np.full_like(target, 2))  # a class of weight 0


@pytest.mark.parametrize("backend", [native, reference], ids=["native", "reference"])
def test_other_refusals(backend):
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"weight must have shape \(3,\).* had \(2,\)"):
        nn.CrossEntropyLoss(weight=[1, 2]).set_backend(backend)(x, np.array([0, 1]))
    with pytest.raises(ValueError, match=r"pos_weight must have shape \(3,\).* had \(2,\)"):
        nn.BCEWithLogitsLoss(pos_weight=[1, 2]).set_backend(backend)(x, x)
    with pytest.raises(ValueError, match=r"sample_weight\[0\] is inf"):  # in float32
        nn.MSELoss().set_backend(backend)(x, x, np.array([1e300, 1]))
    with pytest.raises(ValueError, match=r"prediction must have rows to be weighted, had shape \(\)"):
        nn.MSELoss().set_backend(backend)(np.array(1.0), np.array(1.0), np.array(1.0))
