"""Same bits: every kernel against its reference, and against itself on other instruction sets and threads."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natives import each_native
from numfuse import native, reference
from numfuse.bench.case import merge
from numfuse.bench.operations import CASES, find

BATCH_NORMS = [case for case in CASES if case.kernel.startswith("batch_norm")]
LOSSES = [case for case in CASES if case.group == "losses"]
ACTIVATIONS = [case for case in CASES if case.group == "activations"]
ELEMENTWISE = [case for case in CASES if case not in [*BATCH_NORMS, *LOSSES, *ACTIVATIONS]]
STEPS = [case for case in CASES if case.kernel.endswith("_step")]
SIZES = [0, 1, 7, 8, 9, 63, 64, 65, 1003]
ABOVE_THRESHOLD = "above threshold"  # of elements from which on the kernel uses threads
ODD_SIZES = [*SIZES, (300, 31), (300, 32), (3, 5003), (5000, 1)]
GUARD, FENCE = 16, 77  # elements on either side of an array, and their value

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda dtype: dtype.__name__)


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def restored():
    isa, threads = native.isa(), native.get_num_threads()
    yield
    native.use_isa(isa)
    native.set_num_threads(threads)


def arguments_of(case, size, dtype, special=False):
    if size == ABOVE_THRESHOLD:
        size = native.thread_threshold(case.kernel) + 1
    rng = np.random.default_rng(size)
    arguments = case.arguments(size, dtype, rng)
    if special:
        for array in flat(arguments):
            sprinkle(array, rng)
        if case.kernel == "bce_with_logits":
            np.clip(arguments["target"], 0, 1, out=arguments["target"])
        if case in LOSSES:
            make_weights(arguments)
    if "out" in arguments:
        arguments["out"].fill(np.nan)
    return arguments


def make_weights(arguments):
    """Keep 0 and what is tiny among a loss's weights, and put 1 in place of what would be refused."""
    for name in ("weight", "pos_weight", "sample_weight"):
        weight = arguments.get(name)
        if weight is not None and weight.size:
            weight[~((weight >= 0) & (weight <= 2))] = 1
            weight[arguments["target"][:1] if name == "weight" else 0] = 1


def flat(value):
    """All arrays in a dict, list, tuple or result, in order."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    nested = hasattr(value, "__iter__") and not isinstance(value, str)
    return [array for part in value for array in flat(part)] if nested else []


def sprinkle(array, rng):
    """Put what is rare among random numbers into a third of a float array."""
    if array.dtype.kind == "f":
        info = np.finfo(array.dtype)
        tiny, one = info.tiny, array.dtype.type(1)
        special = [np.nan, np.inf, 0, one, tiny, tiny / 2, np.nextafter(0, one), np.sqrt(tiny), info.max]
        special = np.array(special, dtype=array.dtype)
        chosen = rng.random(array.shape) < 1 / 3
        array[chosen] = rng.choice(np.concatenate([special, -special]), chosen.sum())


def guarded(value, offset):
    """A copy with fences on both sides, `offset` elements after where NumPy would align it."""
    if isinstance(value, list):
        return [guarded(part, offset) for part in value]
    if not isinstance(value, np.ndarray):
        return value
    buffer = np.full(value.size + 2 * GUARD, FENCE, dtype=value.dtype)
    view = buffer[GUARD + offset:][: value.size].reshape(value.shape)
    view[...] = value
    return view


def outcome(backend, case, arguments, offset=0):
    """All arrays after a call on copies of the arguments: these copies, then the results."""
    copies = {name: guarded(value, offset) for name, value in arguments.items()}
    with np.errstate(all="ignore"):
        result = getattr(backend, case.kernel)(**copies)
    for array in flat(copies):
        before, after = array.base[: GUARD + offset], array.base[GUARD + offset + array.size:]
        assert (before == FENCE).all() and (after == FENCE).all(), "written outside an array"
    values = [np.array(part) for part in (result if isinstance(result, tuple) else [result]) if isinstance(part, float)]
    return flat(copies) + flat(result) + values


def assert_same_bits(actual, expected, where):
    assert len(actual) == len(expected)
    for number, (a, b) in enumerate(zip(actual, expected)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(bits(a), bits(b), err_msg=f"array {number} on {where}")


def bits(array):
    if array.dtype.kind == "f":  # which NaN it is may differ between CPUs
        array = np.where(np.isnan(array), array.dtype.type(np.nan), array)
    return array.view(f"u{array.itemsize}")


def assert_native_is_the_reference(case, arguments, offset=0, counts=(1, 2)):
    expected = outcome(reference, case, arguments)
    for where in each_native(counts):
        assert_same_bits(outcome(native, case, arguments, offset), expected, where)


@each(ELEMENTWISE)
@each_dtype
@pytest.mark.parametrize("size", [*SIZES, ABOVE_THRESHOLD])
def test_elementwise(case, dtype, size):
    assert_native_is_the_reference(case, arguments_of(case, size, dtype), counts=(1, 2, 3))


@each(ELEMENTWISE)
@each_dtype
@pytest.mark.parametrize("size", SIZES)
def test_rare_numbers_in_misaligned_arrays(case, dtype, size):
    assert_native_is_the_reference(case, arguments_of(case, size, dtype, special=True), offset=1)


@each(STEPS)
@each_dtype
@pytest.mark.parametrize("change", [
    {"maximize": True}, {"grad_scale": 0.3}, {"grad_scale": math.inf}, {"weight_decay": 1e-30}, {"lr": 1e-30},
    {"steps": 0},
], ids=str)
def test_other_options(case, dtype, change):
    arguments = arguments_of(case, 1003, dtype, special=True) | change
    arguments["steps"] = np.array(arguments["steps"], dtype=np.int64).reshape(1)
    assert_native_is_the_reference(case, arguments)


@each(STEPS)
@each_dtype
def test_lists_of_many_shapes_with_missing_gradients(case, dtype):
    arguments = merge([arguments_of(case, size, dtype) for size in [*SIZES, 1, 60]])
    arguments["steps"] += np.arange(len(arguments["steps"]))
    for name, arrays in arguments.items():
        if isinstance(arrays, list):
            arguments[name] = [*arrays[:-2], arrays[-2].reshape(()), arrays[-1].reshape(3, 4, 5)]
    arguments["grads"][2] = None
    assert_native_is_the_reference(case, arguments)


@each_dtype
@each([find("dropout_forward p=0.5"), find("channel_dropout_forward NCHW"), find("channel_dropout_forward NHWC")])
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.1, 0.25, 0.5, 0.75, 1 - 2**-53, 1.0])
@pytest.mark.parametrize("inverted", [True, False])
def test_dropout_probabilities(case, dtype, p, inverted):
    arguments = arguments_of(case, 1003, dtype, special=True)
    arguments |= {"p": p, "inverted": inverted, "seed": 2**64 - 1, "offset": 2**32 - 1}
    assert_native_is_the_reference(case, arguments)


@each([find("dropout_forward p=0.2"), find("dropout_backward p=0.5")])
@each_dtype
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("in_place", [False, True])
def test_dropout_in_memory_order(case, dtype, order, in_place):
    def call(backend):
        arguments = arguments_of(case, 7 * 11 * 13, dtype)
        name = next(iter(arguments))
        x = arguments[name].reshape(7, 11, 13).transpose(order)
        arguments |= {name: x, "out": x if in_place else None}
        result = getattr(backend, case.kernel)(**arguments)
        y = result[0] if isinstance(result, tuple) else result
        assert y.strides == x.strides and (y is x) == in_place
        return [x, *flat(result)]

    expected = call(reference)
    for where in each_native((1, 2)):
        assert_same_bits(call(native), expected, where)


def assert_native_is_always_the_same(call, counts=(1, 2, 3)):
    expected = None
    for where in each_native(counts):
        actual = call()
        if expected is not None:
            assert_same_bits(actual, expected, where)
        expected = actual


@each([*LOSSES, *ACTIVATIONS])
@each_dtype
@pytest.mark.parametrize("size", [*ODD_SIZES, ABOVE_THRESHOLD], ids=str)
def test_losses_and_activations(case, dtype, size):
    for special, offset in [(False, 0), (True, 1)]:
        arguments = arguments_of(case, size, dtype, special)
        if size != ABOVE_THRESHOLD or not special:
            assert_native_is_always_the_same(lambda: outcome(native, case, arguments, offset))


def results_of(backend, case, arguments):
    """The results on copies of the arguments, by name; the outputs among the arguments are results."""
    copies = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in arguments.items()}
    with np.errstate(all="ignore"):
        result = getattr(backend, case.kernel)(**copies)
    named = {"value": np.array(result[0])} if isinstance(result, tuple) else {}
    return named | {name: copies[name] for name in ("out", "grad_bias") if copies.get(name) is not None}


@each(LOSSES)
@each_dtype
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_losses_are_close_to_their_references(kernels, case, dtype, size, special):
    """All terms of a value are positive, so that their relative error is the value's; their sums are in float64."""
    arguments = arguments_of(case, size, dtype, special)
    expected, actual = results_of(reference, case, arguments), results_of(kernels, case, arguments)
    sums = arguments["target"].size * np.finfo(np.float64).eps
    if case.kernel in ("mse", "huber"):
        np.testing.assert_allclose(actual["value"], expected["value"], rtol=2 * sums)
        if arguments["sample_weight"] is not None:  # the share of a mean comes from a sum of weights
            np.testing.assert_allclose(actual["out"], expected["out"], rtol=sums + 2 * np.finfo(dtype).eps,
                                       atol=np.finfo(dtype).tiny)
            arguments["mean"] = False
            expected, actual = results_of(reference, case, arguments), results_of(kernels, case, arguments)
        assert_same_bits([actual["out"]], [expected["out"]], case.name)
        return
    # exp and log of NumPy are within 4 ulp (its own promise), ours within 2, and an ulp is at most eps of the
    # number; a loss and a gradient take three of them, and a few roundings, of numbers that begin at 1, and as
    # much with weights and smoothing.
    error = (16 if case.options == "" else 32) * np.finfo(dtype).eps
    np.testing.assert_allclose(actual["value"], expected["value"], rtol=error + sums, atol=error)
    np.testing.assert_allclose(actual["out"], expected["out"], rtol=0, atol=error * largest_share(arguments))


def largest_share(arguments):
    """The most that an element or row counts in the mean: its weights, the largest there are, over the sum of all."""
    target, one = arguments["target"], np.ones(1)
    weights = [arguments.get(name) for name in ("weight", "pos_weight", "sample_weight")]
    v, p, w = (one if weight is None else weight.astype(np.float64) for weight in weights)
    w = np.broadcast_to(w.reshape(-1, *[1] * (target.ndim - 1)), target.shape)
    total = (v[target] * w if len(v) > 1 else w).sum()
    return v.max() * max(1, p.max()) * w.max() / total if target.size else 1


@each(ACTIVATIONS)
@each_dtype
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_activations_are_close_to_their_references(kernels, case, dtype, size, special):
    arguments = arguments_of(case, size, dtype, special)
    expected, actual = results_of(reference, case, arguments), results_of(kernels, case, arguments)
    function = arguments.get("function")
    if function == "leaky_relu" or (function in ("sigmoid", "tanh") and case.kernel == "activation_backward"):
        for name, array in expected.items():
            assert_same_bits([actual[name]], [array], f"{name} of {case.name}")
        return
    with np.errstate(all="ignore"):
        bound = activation_bound(case.kernel, function, arguments, expected["out"], np.finfo(dtype))
    assert_close(actual["out"], expected["out"], bound)
    if "grad_bias" in expected and not special:  # infinities are another matter in sums
        rounding = np.finfo(dtype).eps * np.abs(expected["grad_bias"])
        assert_close(actual["grad_bias"], expected["grad_bias"], bound.sum(axis=0) + rounding)


def activation_bound(kernel, function, arguments, expected, info):
    """How far two results may be apart: NumPy's exp and expm1 are within 4 ulp, twice that of a quotient; ours of
    sigmoid and expm1 within 2.5, Phi within 8. Where NumPy's exp is subnormal, ours is 0."""
    if kernel == "softmax_backward":
        # The products and their sum are in float64, and rounded once; then a difference and a product are.
        g, y = arguments["grad_y"].astype(float), arguments["y"].astype(float)
        sums = np.abs(g * y).sum(axis=-1, keepdims=True)
        return np.abs(y) * (2 * info.eps * (np.abs(g) + sums) + y.shape[-1] * np.finfo(float).eps * sums)
    if kernel == "activation_backward":
        # A derivative is made of two terms of at most 1.
        return 32 * info.eps * np.abs(arguments["grad_y"], dtype=float)
    error = np.full(expected.shape, 16.0)
    if function == "gelu":
        # math.erfc's argument is rounded, which counts x^2 times; Phi is normal up to 38.
        x = arguments["x"] if arguments["bias"] is None else arguments["x"] + arguments["bias"]
        error += np.minimum(np.square(x, dtype=float), 38**2)
    return error * info.eps * np.abs(expected, dtype=float) + 40 * info.tiny


@each(BATCH_NORMS)
@each_dtype
@pytest.mark.parametrize("size", [*SIZES, ABOVE_THRESHOLD])
def test_batch_norm(case, dtype, size):
    arguments = arguments_of(case, size, dtype)
    for offset in (1,) if size == ABOVE_THRESHOLD else (0, 1):
        assert_native_is_always_the_same(lambda: outcome(native, case, arguments, offset))


@each(BATCH_NORMS)
@each_dtype
def test_batch_norm_of_rare_numbers(case, dtype):
    arguments = arguments_of(case, 1003, dtype, special=True)
    assert_native_is_always_the_same(lambda: outcome(native, case, arguments))


def same_order(x, axis):
    return x.copy()


def other_order(x, axis):
    if x.ndim == 2:
        return np.asfortranarray(x)
    other = -1 if axis == 1 else 1
    return np.moveaxis(np.moveaxis(x, axis, other).copy(), other, axis)


def every_second_row(x, axis):
    buffer = np.full((2 * len(x), *x.shape[1:]), np.nan, dtype=x.dtype)
    buffer[::2] = x
    return buffer[::2]


def last_columns(x, axis):
    buffer = np.full((*x.shape[:-1], x.shape[-1] + 3), np.nan, dtype=x.dtype)
    buffer[..., 3:] = x
    return buffer[..., 3:] if x.ndim == 2 else x.copy()


LAYOUTS = [same_order, other_order, every_second_row, last_columns]
SHAPES = [((1003, 31), 1), ((300, 70), -1), ((2, 1), 1), ((7, 5, 11), 1), ((7, 11, 5), -1),
          ((5, 3, 17, 13), 1), ((5, 17, 13, 3), -1), ((3, 4, 2, 5, 3), 1), ((3, 2, 5, 3, 4), -1)]


def batch_norm_calls(shape, axis, dtype, layout, affine, mean=0.0, std=1.0):
    """x and grad_y in a layout, weight and bias, and a call of each kernel on them."""
    rng = np.random.default_rng(1)
    x = layout((mean + std * rng.standard_normal(shape)).astype(dtype), axis)
    grad_y = layout(rng.standard_normal(shape, dtype=dtype), axis)
    vectors = rng.standard_normal((4, x.shape[axis]), dtype=dtype)
    weight, bias = vectors[:2] if affine else (None, None)
    running = vectors[2], vectors[3] ** 2
    wide = x.astype(np.float64)
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    batch = wide.mean(axes), 1 / np.sqrt(wide.var(axes) + 1e-5)

    def forward(backend):
        copies = [r.copy() for r in running]
        return flat(backend.batch_norm_forward(
            x, weight, bias, *copies, axis=axis, momentum=0.1, eps=1e-5)) + copies

    def inference(backend):
        return [backend.batch_norm_inference(x, weight, bias, *running, axis=axis, eps=1e-5)]

    def backward(backend, training=True):
        grads = np.full((2, x.shape[axis]), np.nan, dtype=dtype)
        return [backend.batch_norm_backward(
            grad_y, x, weight, *batch, *grads, axis=axis, training=training), grads]

    return x, grad_y, weight, bias, running, (forward, inference, backward)


@each_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_layouts(shape, axis, dtype, layout, affine):
    forward, inference, backward = batch_norm_calls(shape, axis, dtype, layout, affine)[-1]
    assert_native_is_always_the_same(lambda: forward(native), (1,))
    for where in each_native((1,)):
        assert_same_bits(inference(native), inference(reference), where)
    for training in (True, False):
        assert_native_is_always_the_same(lambda: backward(native, training), (1,))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize(("mean", "std"), [(0, 1), (1000, 0.1)])
def test_batch_norm_accuracy(kernels, shape, axis, layout, affine, mean, std):
    x, grad_y, weight, bias, running, calls = batch_norm_calls(
        shape, axis, np.float32, layout, affine, mean, std)
    (y, saved_mean, saved_rstd, *new_running), (inferred,), (grad_x, (grad_weight, grad_bias)) = (
        call(kernels) for call in calls)
    axes = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    n = x.size // x.shape[axis]
    eps = np.finfo(np.float32).eps

    def along(vector):
        return np.expand_dims(np.asarray(vector, dtype=np.float64), axes)

    def average(values):
        return values.mean(axes, keepdims=True)

    x, g = x.astype(np.float64), grad_y.astype(np.float64)
    w, b = (along(vector) if affine else np.float64(default) for vector, default in ((weight, 1), (bias, 0)))
    rstd = 1 / np.sqrt(x.var(axes, keepdims=True) + 1e-5)
    xhat = (x - average(x)) * rstd
    # Sums of up to four deviations are rounded to float32: the mean is off by 2 eps of the largest one at most.
    largest = abs(xhat).max(axes, keepdims=True)
    assert_within(y, xhat * w + b, 4 * eps * (abs(xhat * w) * (1 + largest**2) + abs(b)) + 4 * eps * largest * abs(w))
    slope = average(g * xhat)
    assert_within(grad_x, rstd * w * (g - average(g) - xhat * slope),
                  4 * eps * abs(rstd * w) * (abs(g) + average(abs(g)) + abs(xhat) * average(abs(g * xhat))))
    inferred_xhat = (x - along(running[0])) / np.sqrt(along(running[1]) + 1e-5)
    assert_within(inferred, inferred_xhat * w + b, 4 * eps * (abs(inferred_xhat * w) + abs(b)))
    # The sums are held to the bound that any order of summation keeps: n roundings of n terms.
    assert_within(grad_bias, g.sum(axes), n * eps * abs(g).sum(axes))
    assert_within(grad_weight, (g * xhat).sum(axes), n * eps * abs(g * xhat).sum(axes))
    for old, new, batch in zip(running, new_running, (x.mean(axes), x.var(axes) * n / (n - 1))):
        assert_within(new, 0.9 * old.astype(np.float64) + 0.1 * batch, 4 * eps * (abs(old) + abs(batch)))
    assert_within(saved_rstd, rstd.ravel(), 4 * eps * (rstd * (1 + largest**2)).ravel())
    assert_within(saved_mean, x.mean(axes), eps * abs(x).mean(axes))


def assert_close(actual, expected, bound):
    """Within the bound, or both NaN or the same infinity."""
    with np.errstate(all="ignore"):
        error = np.abs(np.subtract(actual, expected, dtype=float))
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    assert (same | (error <= bound)).all(), f"error {(error / bound)[~same].max():.3g} times the bound"


def assert_within(actual, expected, bound):
    error = abs(actual.astype(np.float64) - expected)
    assert (error <= bound).all(), f"error {(error / bound).max():.3g} times the bound"


@each([case for case in BATCH_NORMS if case.options == ""])
@each_dtype
def test_batch_norm_in_place_or_in_a_new_array(case, dtype):
    source = "grad_y" if case.kernel == "batch_norm_backward" else "x"

    def call(out):
        arguments = arguments_of(case, 1003, dtype)
        arguments["out"] = arguments[source] if out is source else arguments["out"] if out else None
        return flat(getattr(native, case.kernel)(**arguments))

    for where in each_native((1, 2)):
        assert_same_bits(call(source), call("own"), where)
        assert_same_bits(call(None), call("own"), where)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3).map(lambda sides: (2, *sides)),
    axis=st.sampled_from([1, -1]),
    layout=st.sampled_from(LAYOUTS),
    affine=st.booleans(),
)
def test_batch_norm_of_any_shape(shape, axis, layout, affine):
    for call in batch_norm_calls(shape, axis, np.float32, layout, affine)[-1]:
        assert_native_is_always_the_same(lambda: call(native), (1,))
