"""What the kernels of all optimizers have in common: lists, layouts, errors."""

import re

import numpy as np
import pytest

from helpers.arrays import flat, misaligned
from helpers.optimizers import STEPS, Step, every_step
from helpers.refusals import assert_refused
from numfuse import native, reference

SHAPES = [(5,), (2, 3), (3, 1, 2), ()]
LISTS = [(step, argument) for step in STEPS.values() for argument in ["params", "grads", *step.lists]]
WRITTEN = [(step, argument) for step, argument in LISTS if argument != "grads"]

every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def each(names, values):
    """Steps go by their kernels' names."""
    return pytest.mark.parametrize(names, values, ids=lambda value: value.kernel if isinstance(value, Step) else None)


every_list = each("step, argument", LISTS)


def test_every_kernel_that_steps_stands_in_the_list_of_steps():
    kernels = {name for name in dir(native) if name.endswith("_step")}
    assert kernels == set(STEPS), f"{kernels ^ set(STEPS)}: see OPTIMIZERS of tests/helpers/optimizers.py"


def copied(value):
    """A copy of all arrays in dicts and lists."""
    if isinstance(value, dict):
        return {name: copied(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [copied(entry) for entry in value]
    return value.copy("K") if isinstance(value, np.ndarray) else value


def assert_same_bits(actual, expected):
    for a, b in zip(flat(actual), flat(expected), strict=True):
        assert a.shape == b.shape and a.tobytes() == b.tobytes()


@every_step
@every_dtype
def test_every_array_of_a_list_is_updated_as_if_alone(kernels, step, dtype):
    together = step.arguments(dtype=dtype)
    alone = copied(together)
    for _ in range(3):
        getattr(kernels, step.kernel)(**together)
        for i in range(len(SHAPES)):
            one = {name: value[i : i + 1] if isinstance(value, (list, np.ndarray)) else value
                   for name, value in alone.items()}
            getattr(kernels, step.kernel)(**one)
    assert_same_bits(together, alone)
    assert together["steps"].tolist() == [3] * len(SHAPES)


@every_step
def test_gradient_of_none_leaves_parameter_state_and_count(kernels, step):
    actual = step.arguments()
    getattr(kernels, step.kernel)(**actual)
    before = copied(actual)
    getattr(kernels, step.kernel)(**{**actual, "grads": [None, actual["grads"][1], None, actual["grads"][3]]})
    assert actual["steps"].tolist() == [1, 2, 1, 2]
    for name in ["params", *step.lists]:
        same = [a.tobytes() == b.tobytes() for a, b in zip(actual[name], before[name])]
        assert same[0] and same[2] and (name == "max_exp_avg_sqs" or not same[1] and not same[3])


@every_step
def test_all_gradients_none_changes_nothing(kernels, step):
    actual = step.arguments()
    before = copied(actual)
    getattr(kernels, step.kernel)(**{**actual, "grads": [None] * len(SHAPES)})
    assert_same_bits(actual, before)


@every_step
def test_empty_lists_and_empty_arrays(kernels, step):
    getattr(kernels, step.kernel)(**step.arguments(shapes=[]))
    actual = step.arguments(shapes=[(0,), (2,), (3, 0)])
    without = step.arguments(shapes=[(2,)])
    getattr(kernels, step.kernel)(**actual)
    getattr(kernels, step.kernel)(**without)
    assert actual["steps"].tolist() == [1, 1, 1]
    assert actual["params"][1].tobytes() == without["params"][0].tobytes()


@every_step
def test_memory_order_and_offset_do_not_matter(kernels, step):
    expected = step.arguments(shapes=[(4, 3, 5)])
    fortran, channels_last, shifted = copied(expected), copied(expected), copied(expected)
    for name in ["params", "grads", *step.lists]:
        fortran[name] = [np.asfortranarray(array) for array in fortran[name]]
        channels_last[name] = [array.swapaxes(1, 2).copy().swapaxes(1, 2) for array in channels_last[name]]
        base = np.zeros(61, dtype=np.float32)
        base[1:].reshape(4, 3, 5)[...] = shifted[name][0]
        shifted[name] = [base[1:].reshape(4, 3, 5)]
    getattr(kernels, step.kernel)(**expected)
    for variant in (fortran, channels_last, shifted):
        getattr(kernels, step.kernel)(**variant)
        assert_same_bits(variant, expected)


@every_step
def test_gradients_may_be_read_only_and_shared(kernels, step):
    actual = step.arguments(shapes=[(6,), (6,)])
    expected = copied(actual)
    actual["grads"][0].flags.writeable = False
    actual["grads"][1] = actual["grads"][0]
    expected["grads"][1] = expected["grads"][0].copy()
    getattr(kernels, step.kernel)(**actual)
    getattr(kernels, step.kernel)(**expected)
    assert_same_bits(actual, expected)


@every_step
@every_dtype
def test_maximize_is_the_step_with_the_opposite_gradient(kernels, step, dtype):
    climb = step.arguments(dtype=dtype, maximize=True)
    descend = copied({**climb, "maximize": False})
    for grad in descend["grads"]:
        np.negative(grad, out=grad)
    getattr(kernels, step.kernel)(**climb)
    getattr(kernels, step.kernel)(**descend)
    climb["grads"] = descend["grads"]
    assert_same_bits(climb, descend)


@every_step
@every_dtype
def test_nan_and_infinity_reach_the_parameter_and_stay_in_their_element(kernels, step, dtype):
    clean = step.arguments(shapes=[(70,)], dtype=dtype)
    dirty = copied(clean)
    dirty["grads"][0][[3, 40, 69]] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        for _ in range(2):
            getattr(kernels, step.kernel)(**clean)
            getattr(kernels, step.kernel)(**dirty)
    assert (~np.isfinite(dirty["params"][0])).nonzero()[0].tolist() == ([3] if step.bounded else [3, 40, 69])
    for name in ["params", *step.lists]:
        assert np.isnan(dirty[name][0][3])
        rest = [i for i in range(70) if i not in (3, 40, 69)]
        assert dirty[name][0][rest].tobytes() == clean[name][0][rest].tobytes()


@every_step
@every_dtype
def test_state_decays_to_zero_and_is_never_subnormal(kernels, step, dtype):
    """Zero gradients: after 455 steps a state of tiny * 2^20 has decayed by 0.97^455 < 2^-20, below tiny."""
    tiny = np.finfo(dtype).tiny
    decaying = step.arguments(shapes=[(9,)], dtype=dtype, weight_decay=0.0)
    decaying["grads"][0][...] = 0
    decaying["steps"][0] = 10
    for name in step.lists:
        decaying[name][0][...] = tiny * 2.0 ** np.arange(12, 21)
    decays = [name for name in step.lists if name not in (*step.lasting, "ema_params")]
    for _ in range(1000):
        getattr(kernels, step.kernel)(**decaying)
        for name in step.lists:
            magnitude = np.abs(decaying[name][0])
            assert ((magnitude == 0) | (magnitude >= tiny)).all()
    assert not any(decaying[name][0].any() for name in decays)


@every_step
@pytest.mark.parametrize("value", [1e-19, 1e-38, 3e-45, -1e-19])
def test_small_gradients_make_no_subnormal_state(kernels, step, value):
    actual = step.arguments(shapes=[(9,)], dtype=np.float32)
    actual["grads"][0][...] = value
    actual["params"][0][...] = 0  # weight decay would hide the gradient
    for _ in range(50):
        getattr(kernels, step.kernel)(**actual)
        for name in step.lists:
            magnitude = np.abs(actual[name][0])
            assert ((magnitude == 0) | (magnitude >= np.finfo(np.float32).tiny)).all()
        actual["params"][0][...] = 0
    for name in ("square_avgs", "exp_avg_sqs"):  # (1 - 0.97) * 1e-19^2 is subnormal in float32
        if name in actual:
            assert not actual[name][0].any()


def fading(dtype):
    """Gradients to take after ordinary ones: what their squares, products and decayed averages are is subnormal."""
    tiny = np.finfo(dtype).tiny
    mixed = np.random.default_rng(1).standard_normal(9).astype(dtype)
    mixed[4] = tiny / 16
    return [dtype(1), np.sqrt(tiny), tiny * 2**26, tiny, tiny / 16, dtype(0), mixed]


@pytest.mark.parametrize("isa", native.isas())
@every_step
@every_dtype
def test_fading_gradients_give_the_bits_of_the_twin(isa, step, dtype):
    """For as many steps as averages take to become subnormal, were they left to: 0.97^3000 < 2^-126.

    In float64 that would be eight times as many. There gradients are small from the start: the squares of some are just
    normal, and some are so themselves."""
    native.use_isa(isa)
    for value in fading(dtype):
        ours = step.arguments(shapes=[(9,)], dtype=dtype, lr=1e-3, weight_decay=0.0)
        if dtype is np.float64:
            ours["grads"][0] *= 2.0 ** np.repeat([-490, -1000], [5, 4])
        for _ in range(3):
            getattr(native, step.kernel)(**ours)
        ours["grads"][0][...] = value
        twin = copied(ours)
        for _ in range(30):
            for _ in range(100):
                getattr(native, step.kernel)(**ours)
                getattr(reference, step.kernel)(**twin)
            assert_same_bits(ours, twin)


@each("step", [step for step in STEPS.values() if "eps" in step.options])
@every_dtype
@pytest.mark.parametrize("eps", [0.0, 1e-300])
def test_no_step_divides_by_the_root_of_a_square_that_became_zero(kernels, step, dtype, eps):
    """One gradient whose square is just normal, or just not, then none: a step moves by a few learning rates."""
    root = np.sqrt(np.finfo(dtype).tiny)
    absent = dict.fromkeys(name for name in step.lists if name not in step.plain_states)
    actual = step.arguments(shapes=[(96,)], dtype=dtype, **{**step.plain, "eps": eps}, **absent, weight_decay=0.0)
    actual["params"][0][...] = 0
    actual["grads"][0][...] = root * 2.0 ** np.linspace(-8, 8, 96)
    for _ in range(400):
        before = actual["params"][0].copy()
        getattr(kernels, step.kernel)(**actual)
        assert np.abs(actual["params"][0] - before).max() <= 16 * actual["lr"]
        actual["grads"][0][...] = 0


def replaced(step, argument, replacement):
    """Arguments with the array number 1 of a list replaced by what a function makes of it."""
    bad = step.arguments()
    bad[argument][1] = replacement(bad[argument][1])
    return bad


def every_second(array):
    base = np.zeros((*array.shape, 2), dtype=array.dtype)
    base[..., 0] = array
    return base[..., 0]


@every_list
@pytest.mark.parametrize("replacement", [
    lambda array: array.astype(np.float64),
    lambda array: array.astype(np.float16),
    lambda array: array.astype(np.int32),
    lambda array: array.astype(array.dtype.newbyteorder()),
    lambda array: array.tolist(),
    lambda array: 1.0,
], ids=["float64", "float16", "int32", "byte-swapped", "list", "number"])
def test_wrong_type_is_refused(step, argument, replacement):
    bad = replaced(step, argument, replacement)
    if argument == "grads" and getattr(bad[argument][1], "dtype", None) == bad["params"][1].dtype.newbyteorder():
        pytest.skip("a gradient is only read, in any byte order")
    assert_refused(step.kernel, bad, TypeError, rf"^{argument}\[1\]")


@every_step
@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.complex64, object])
def test_other_dtypes_are_refused_even_if_all_agree(step, dtype):
    assert_refused(step.kernel, step.arguments(dtype=dtype), TypeError, r"^params\[0\].*float32")


@every_list
@pytest.mark.parametrize("replacement", [
    lambda array: array.reshape(3, 2),
    lambda array: array.reshape(6),
    lambda array: array[:1].copy(),
], ids=["transposed shape", "flat", "smaller"])
def test_wrong_shape_is_refused(step, argument, replacement):
    # Where it is that of a parameter, the gradient is the first to differ.
    wrong = "grads" if argument == "params" else argument
    bad = replaced(step, argument, replacement)
    assert_refused(step.kernel, bad, ValueError, rf"^{wrong}\[1\] must have the shape")


LAYOUTS = {
    "every second": every_second,
    "columns": lambda array: np.pad(array, [(0, 0), (0, 1)])[:, :-1],
    "reversed": lambda array: array[::-1].copy()[::-1],
    "misaligned": misaligned,
}


@each("step, argument", WRITTEN)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrong_layout_of_what_is_written_is_refused(step, argument, layout):
    assert_refused(step.kernel, replaced(step, argument, LAYOUTS[layout]), ValueError, rf"^{argument}\[1\]")


@each("step, argument", WRITTEN)
def test_memory_order_unlike_the_parameters_is_refused(step, argument):
    if argument == "params":
        lists = [name for name, value in step.arguments().items() if isinstance(value, list)]
        if lists == ["params", "grads"]:
            pytest.skip("nothing but the gradient lies beside the parameter")
        argument, pattern = "params", rf"^({'|'.join(lists[2:])})\[1\] must lie in memory as params\[1\] does"
    else:
        pattern = rf"^{argument}\[1\] must lie in memory as params\[1\] does"
    assert_refused(step.kernel, replaced(step, argument, np.asfortranarray), ValueError, pattern)


@every_step
@pytest.mark.parametrize(
    "layout", [*LAYOUTS, "Fortran", "byte-swapped", "broadcast", "read-only", "a view of the parameter"])
def test_gradient_of_any_layout_is_read(step, layout):
    expected, actual = step.arguments(), step.arguments()
    grad = actual["grads"][1]
    if layout == "broadcast":
        actual["grads"][1] = np.broadcast_to(grad[:1].copy(), grad.shape)
    elif layout == "byte-swapped":
        actual["grads"][1] = grad.astype(grad.dtype.newbyteorder())
    elif layout == "Fortran":
        actual["grads"][1] = np.asfortranarray(grad)
    elif layout == "a view of the parameter":
        actual["grads"][1] = actual["params"][1][::-1]  # it is read before anything is written
    elif layout == "read-only":
        grad.flags.writeable = False
    else:
        actual["grads"][1] = LAYOUTS[layout](grad)
    expected["grads"][1] = np.ascontiguousarray(actual["grads"][1]).astype(grad.dtype)
    before = actual["grads"][1].tobytes()
    for arguments in (expected, actual):
        getattr(native, step.kernel)(**arguments)
    assert actual["grads"][1].tobytes() == before or layout == "a view of the parameter"
    for name in (name for name, value in actual.items() if isinstance(value, list) and name != "grads"):
        assert [array.tobytes() for array in actual[name]] == [array.tobytes() for array in expected[name]], name


@every_step
def test_arrays_that_were_checked_are_run_as_any(step):
    arguments = step.arguments()
    lists = [name for name, value in arguments.items() if isinstance(value, (list, type(None)))]
    options = {name: value for name, value in arguments.items() if name not in [*lists, "steps"]}
    params, grads, *state = (arguments[name] for name in lists)
    given = (*state, arguments["steps"])
    kernel = getattr(native, step.kernel)
    call = params, len(params), None, None, given, params[0].dtype, False
    (tensors,) = native.check_steps([call], grads)
    assert list(tensors) == params and len(tensors) == len(params) and tensors[1] is params[1]
    assert list(tensors.grads) == grads
    expected = step.arguments()
    for run in range(3):  # checked before, run again, and with other lists
        if run < 2:
            kernel(tensors, tensors.grads, *given, **options)
        else:
            kernel(tensors, grads, *state, arguments["steps"], **options)
        kernel(**expected)
        assert [p.tobytes() for p in params] == [p.tobytes() for p in expected["params"]]
    params[0].flags.writeable = False
    with pytest.raises(ValueError, match=r"^params\[0\] is updated in place"):
        kernel(tensors, tensors.grads, *given, **options)


@pytest.mark.parametrize("change, words", [
    (lambda call: (*call[:4], (), *call[5:]), "a step must have"),
    (lambda call: (*call[:4], call[4] * 9, *call[5:]), "a step must have"),
    (lambda call: (*call[:5], np.dtype("i4"), False), "a step must have"),
    (lambda call: (call[0], 7, *call[2:]), "params must keep its length 7"),
    (lambda call: (*call[:2], [0, 5], [0, 1], *call[4:]), "list index out of range"),
])
def test_calls_that_are_none_are_refused(change, words):
    params, grads = [np.ones(2), np.ones(3)], [np.ones(2), np.ones(3)]
    call = params, 2, None, None, (None, None, np.zeros(2, np.int64)), params[0].dtype, False
    with pytest.raises((ValueError, IndexError), match=words):
        native.check_steps([change(call)], grads)


@each("step, argument", WRITTEN)
def test_read_only_is_refused(step, argument):
    bad = step.arguments()
    bad[argument][1].flags.writeable = False
    assert_refused(step.kernel, bad, ValueError, rf"^{argument}\[1\].*(writ|read-only)")


@each("step, argument, other, i", [
    (step, argument, other, i) for step, argument in LISTS for other in ("params", "grads") for i in (1, 2)
    if argument != other or argument == "params" and i == 2
])
def test_overlap_is_refused(step, argument, other, i):
    """The same six numbers are array 1 of one list, and array 1 or 2 of another or the same."""
    bad = step.arguments()
    bad[argument][1] = bad[other][i].reshape(SHAPES[1])
    names = "|".join(re.escape(name) for name in (f"{argument}[1]", f"{other}[{i}]"))
    assert_refused(step.kernel, bad, ValueError, rf"^({names})")


@every_step
def test_partial_overlap_is_refused(step):
    base = np.arange(12, dtype=np.float32)
    for start in (5, 1, 0):
        bad = step.arguments(shapes=[(6,), (6,)])
        bad["params"] = [base[:6], base[start : start + 6]]
        assert_refused(step.kernel, bad, ValueError, r"^params\[[01]\]")
    good = step.arguments(shapes=[(6,), (6,)])
    good["params"] = [base[6:], base[:6]]
    getattr(native, step.kernel)(**good)


@every_list
@pytest.mark.parametrize("change", [lambda arrays: arrays[:-1], lambda arrays: [*arrays, arrays[0].copy()]])
def test_lists_of_different_length_are_refused(step, argument, change):
    bad = step.arguments()
    bad[argument] = change(bad[argument])
    assert_refused(step.kernel, bad, ValueError, r"^(grads|steps)" if argument == "params" else rf"^{argument}\b")


@every_list
@pytest.mark.parametrize("value", [3, "abcd"])
def test_what_is_no_list_is_refused(step, argument, value):
    assert_refused(step.kernel, step.arguments(**{argument: value}), TypeError, rf"^{argument}\b")


@each("step, argument", [(step, name) for step in STEPS.values() for name in step.states if name not in step.may_miss])
def test_state_that_is_needed_must_be_given(step, argument):
    assert_refused(step.kernel, step.arguments(**{argument: None}), (TypeError, ValueError), rf"^{argument}\b")


@every_list
def test_none_is_allowed_for_a_gradient_only(step, argument):
    bad = step.arguments()
    bad[argument][1] = None
    if argument == "grads":
        getattr(native, step.kernel)(**bad)
    else:
        assert_refused(step.kernel, bad, TypeError, rf"^{argument}\[1\]")


@every_step
@pytest.mark.parametrize("steps, error", [
    (np.zeros(4, np.int32), TypeError),
    (np.zeros(4, np.float64), TypeError),
    (np.zeros(4, np.dtype(np.int64).newbyteorder()), TypeError),
    ([0, 0, 0, 0], TypeError),
    (np.zeros(3, np.int64), ValueError),
    (np.zeros((4, 1), np.int64), ValueError),
    (np.zeros(8, np.int64)[::2], ValueError),
    (np.frombuffer(bytes(32), np.int64), ValueError),
    (misaligned(np.zeros(4, np.int64)), ValueError),
], ids=["int32", "float64", "byte-swapped", "list", "short", "2-d", "strided", "read-only", "misaligned"])
def test_wrong_steps_are_refused(step, steps, error):
    assert_refused(step.kernel, step.arguments(steps=steps), error, r"^steps\b")


@pytest.mark.parametrize("value, error", [
    (-1.0, ValueError), (-1e-300, ValueError), (float("nan"), ValueError), (float("inf"), ValueError),
    ("0.1", TypeError), (None, TypeError),
])
@each("step, option", [
    (step, option) for step in STEPS.values() for option, value in step.arguments().items()
    if isinstance(value, float) and option not in ("grad_scale", "max_grad_value")
])
def test_wrong_hyper_parameters_are_refused(step, option, value, error):
    assert_refused(step.kernel, step.arguments(**{option: value}), error, rf"^{option}\b")


@every_step
@pytest.mark.parametrize("value, error", [
    (0.0, ValueError), (-1.0, ValueError), (float("nan"), ValueError), (float("-inf"), ValueError),
    ("0.1", TypeError), (None, TypeError),
])
def test_wrong_max_grad_value_is_refused(step, value, error):
    assert_refused(step.kernel, step.arguments(max_grad_value=value), error, r"^max_grad_value must be ")


@every_step
@pytest.mark.parametrize("value, error", [
    (-1.0, ValueError), (float("nan"), ValueError), (float("-inf"), ValueError), ("0.1", TypeError), (None, TypeError),
])
def test_wrong_grad_scale_is_refused(step, value, error):
    assert_refused(step.kernel, step.arguments(grad_scale=value), error, r"^grad_scale must be ")


@every_step
@every_dtype
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("factor", [0.3, 2, 0.0, float("inf")])
def test_grad_scale_is_the_step_with_scaled_gradients(kernels, step, dtype, maximize, factor):
    scaled = step.arguments(dtype=dtype, grad_scale=factor, maximize=maximize)
    plain = copied({**scaled, "grad_scale": 1.0})
    with np.errstate(all="ignore"):
        for grad in plain["grads"]:
            np.multiply(grad, dtype(factor), out=grad)
        getattr(kernels, step.kernel)(**scaled)
        getattr(kernels, step.kernel)(**plain)
    scaled["grads"] = plain["grads"]
    assert_same_bits(scaled, plain)


@every_step
def test_steps_must_not_overlap_an_array(step):
    bad = step.arguments(shapes=[(4,)], dtype=np.float64)
    bad["steps"] = bad["params"][0].view(np.int64)[:1]
    bad["steps"][0] = 1
    assert_refused(step.kernel, bad, ValueError, r"must not overlap")


@every_step
def test_a_count_that_cannot_grow_is_refused(step):
    bad = step.arguments()
    bad["steps"][:] = np.iinfo(np.int64).max
    assert_refused(step.kernel, bad, ValueError, r"^steps\[\d\] must be in")


def test_both_names_of_a_64_bit_integer_count():
    good = STEPS["adam_step"].arguments()
    good["steps"] = good["steps"].astype(np.longlong)
    native.adam_step(**good)
    assert (good["steps"] == 1).all()
