import copy
import math
import pickle
import threading

import numpy as np
import pytest
from bad_arrays import each_wrong_type, misaligned

from numfuse import native, nn, reference
from numfuse.bench import textbook

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


# The kernels

OPTIONS = {
    "cross_entropy": {"weight": 4, "sample_weight": 6, "label_smoothing": 0.1},
    "mse": {"sample_weight": 6},
    "huber": {"sample_weight": 6, "delta": 0.5},
    "bce_with_logits": {"pos_weight": 4, "sample_weight": 6},
}
KERNELS = list(OPTIONS)
WEIGHTS = [(kernel, name) for kernel, options in OPTIONS.items() for name in options if name.endswith("weight")]

each_weight = pytest.mark.parametrize("kernel, name", WEIGHTS)


def arguments(kernel, dtype=np.float32, **changes):
    """Those of a call with all weights and options."""
    x = np.random.default_rng(2).standard_normal((6, 4)).astype(dtype)
    target = np.arange(6) % 4 if kernel == "cross_entropy" else np.linspace(0, 1, 24, dtype=dtype).reshape(6, 4)
    options = {name: np.linspace(0.5, 1.5, value, dtype=dtype) if name.endswith("weight") else value
               for name, value in OPTIONS[kernel].items()}
    return {"prediction": x, "target": target, "mean": True, "out": np.full_like(x, 7)} | options | changes


def assert_refused(arguments, kernel, error, words):
    out = arguments["out"]
    before = out.tobytes() if isinstance(out, np.ndarray) and out.dtype != "O" else None
    with pytest.raises(error, match=words):
        getattr(native, kernel)(**arguments)
    assert before is None or out.tobytes() == before


@each_wrong_type
@pytest.mark.parametrize("name", ["prediction", "target", "out"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_refuse_wrong_types(kernel, name, change):
    good = arguments(kernel)
    assert_refused(good | {name: change(good[name])}, kernel, TypeError, f"^{name} must be")


@pytest.mark.parametrize("name", ["prediction", "target", "out"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_refuse_wrong_shapes_strides_and_addresses(kernel, name):
    good = arguments(kernel)
    array = good[name]
    wide = np.repeat(array, 2, axis=-1)
    for bad, words in [(misaligned(array), "aligned"), (array[1:], "shape"), (array[..., None], "shape"),
                       (wide[..., ::2], "contiguous|strides")]:
        if name == "prediction" and kernel == "cross_entropy" and bad.shape == (5, 4):
            assert_refused(good | {name: bad}, kernel, ValueError, r"^target must have shape \(5,\)")
        else:
            assert_refused(good | {name: bad}, kernel, ValueError, f"({name}|target|out) must .*({words})")


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_refuse_to_write_over_their_arguments(kernel):
    good = arguments(kernel)
    assert_refused(good | {"out": good["prediction"]}, kernel, ValueError, "^out must not overlap prediction")
    good["out"].flags.writeable = False
    assert_refused(good, kernel, ValueError, "^out is updated in place and must be writable")


def test_kernels_look_at_targets_before_they_write():
    target = np.arange(6)
    assert_refused(arguments("cross_entropy", target=target), "cross_entropy", ValueError,
                   r"^target must be labels from 0 to 3; target\[4\] is 4")
    target = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
    assert_refused(arguments("bce_with_logits", target=target), "bce_with_logits", ValueError,
                   "^target must be from 0 to 1, was -1.0")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("mean", [True, False])
def test_kernels_write_into_out(kernels, kernel, mean):
    given = arguments(kernel, mean=mean)
    value, grad = getattr(kernels, kernel)(**given)
    assert grad is given["out"]
    again, new = getattr(kernels, kernel)(**given | {"out": None})
    assert again == value and type(value) is float
    assert np.array_equal(new, grad) and not np.shares_memory(new, grad)


@pytest.mark.parametrize("classes", [1, 2, 31, 32, 33, 2047, 2048, 2049])
def test_cross_entropy_of_any_number_of_classes(kernels, classes):
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
