import copy
import pickle
import weakref

import numpy as np
import pytest

from numfuse import native, reference
from numfuse.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSProp

CLASSES = [SGD, RMSProp, Adam, AdamW, Adagrad]
FULL = {  # options with which every kind of state is in use
    SGD: {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "ema_decay": 0.5},
    RMSProp: {"lr": 0.1, "momentum": 0.9, "centered": True, "weight_decay": 0.01, "ema_decay": 0.5},
    Adam: {"lr": 0.1, "amsgrad": True, "weight_decay": 0.01},
    AdamW: {"lr": 0.1, "amsgrad": True, "ema_decay": 0.5},
    Adagrad: {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 1.0, "ema_decay": 0.5},
}
BACKENDS = [native, reference]

every_class = pytest.mark.parametrize("cls", CLASSES)
every_backend = pytest.mark.parametrize("backend", BACKENDS, ids=["native", "reference"])


def random_arrays(shapes, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def bits(arrays):
    return [array.tobytes() for array in arrays]


def state_bits(optimizer):
    return pickle.dumps(optimizer.state_dict())


def named_optimizer(cls, backend, dtypes=(np.float32, np.float32)):
    """Two groups with names, three parameters, stepped once."""
    params = {"a": np.ones(3, dtypes[0]), "b": np.ones((2, 2), dtypes[1]), "c": np.ones((), dtypes[0])}
    groups = [{"params": {"a": params["a"], "b": params["b"]}}, {"params": {"c": params["c"]}, "lr": 0.5}]
    optimizer = cls(groups, **FULL[cls]).set_backend(backend)
    grads = {name: np.full_like(param, 0.5) for name, param in params.items()}
    optimizer.step(grads)
    return optimizer, params, grads


@every_class
@every_backend
def test_lists_dicts_and_groups_give_the_same_bits(cls, backend):
    shapes = [(4,), (2, 3), (), (0, 2)]
    grads = random_arrays(shapes, seed=1)
    names = ["w", "x", "y", "z"]
    results = []
    for arrange in (
        lambda params: params,
        lambda params: iter(params),
        lambda params: dict(zip(names, params)),
        lambda params: [{"params": params[:1]}, {"params": iter(params[1:])}],
        lambda params: [{"params": dict(zip(names[:3], params[:3]))}, {"params": {"z": params[3]}}],
        lambda params: [{"params": params}, {"params": []}],
    ):
        params = random_arrays(shapes)
        arranged = arrange(params)
        optimizer = cls(arranged, **FULL[cls]).set_backend(backend)
        named = "param_names" in optimizer.param_groups[0]
        for _ in range(3):
            optimizer.step(dict(zip(names, grads)) if named else tuple(grads))
            optimizer.step(iter(grads))
        results.append(bits(params))
    assert all(result == results[0] for result in results)
    assert results[0] != bits(random_arrays(shapes))


@every_class
def test_groups_have_their_own_options(cls):
    moved, still = np.ones(3), np.ones(3)
    optimizer = cls([{"params": [moved]}, {"params": [still], "lr": 0.0}], lr=0.1)
    optimizer.step([np.ones(3), np.ones(3)])
    assert (moved < 1).all() and (still == 1).all()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.0]


@every_class
@every_backend
def test_mixed_dtypes_give_what_separate_optimizers_give(cls, backend):
    single, double = random_arrays([(3,), (4,)]), random_arrays([(2, 2), ()], dtype=np.float64)
    mixed = [single[0].copy(), double[0].copy(), single[1].copy(), double[1].copy()]
    grads = [np.ones_like(param) for param in mixed]
    together = cls(mixed, **FULL[cls]).set_backend(backend)
    apart = [cls(params, **FULL[cls]).set_backend(backend) for params in (single, double)]
    for _ in range(3):
        together.step(grads)
        apart[0].step(grads[::2])
        apart[1].step(grads[1::2])
    assert bits(mixed) == bits([single[0], double[0], single[1], double[1]])
    assert [together.state_dict()["state"][i]["step"] for i in range(4)] == [3] * 4


@every_class
@every_backend
@pytest.mark.parametrize("skip", [{"a": None}, {}], ids=["None", "missing"])
def test_parameter_without_gradient_is_skipped(cls, backend, skip):
    optimizer, params, grads = named_optimizer(cls, backend)
    before, a = optimizer.state_dict()["state"], params["a"].copy()
    b, c = params["b"].copy(), params["c"].copy()
    optimizer.step({"c": grads["c"], "b": grads["b"], **skip})
    after = optimizer.state_dict()["state"]
    assert params["a"].tobytes() == a.tobytes() and pickle.dumps(after[0]) == pickle.dumps(before[0])
    assert [after[i]["step"] for i in range(3)] == [1, 2, 2]
    assert (params["b"] < b).all() and params["c"] < c


@every_class
@every_backend
def test_wrong_gradients_are_refused_before_anything_is_modified(cls, backend):
    for make in (named_optimizer, one_group):
        optimizer, params, grads = make(cls, backend)
        last = list(params)[-1]
        good = grads[last]
        transposed = np.asfortranarray(np.arange(4, dtype=np.float32).reshape(2, 2))
        for name, grad, error, pattern in [
            (last, good.astype(np.float64), TypeError, rf"grads\['{last}'\] must be float32"),
            (last, good.astype(np.dtype(np.float32).newbyteorder()), TypeError, rf"grads\['{last}'\].*byte"),
            (last, 1.0, TypeError, rf"grads\['{last}'\].*float"),
            (last, np.ones(2, np.float32), ValueError, rf"grads\['{last}'\].*shape"),
            ("b", np.ones((2, 4), np.float32)[:, ::2], ValueError, r"grads\['b'\].*np.ascontiguousarray"),
            ("b", transposed, ValueError, r"grads\['b'\].*np.ascontiguousarray"),
            (last, params[last], ValueError, rf"(params|grads)\['{last}'\].*share"),
            ("b", params["b"], ValueError, r"(params|grads)\['b'\].*share"),
        ]:
            before = bits(params.values()), state_bits(optimizer)
            with pytest.raises(error, match=pattern):
                optimizer.step({**grads, name: grad})
            assert (bits(params.values()), state_bits(optimizer)) == before
        optimizer.step(grads)


def one_group(cls, backend):
    params = {"a": np.ones(3, np.float32), "b": np.ones((2, 2), np.float32), "c": np.ones((), np.float32)}
    optimizer = cls(params, **FULL[cls]).set_backend(backend)
    return optimizer, params, {name: np.full_like(param, 0.5) for name, param in params.items()}


@every_backend
@pytest.mark.parametrize("start", [0, 2, 3, 6])
@pytest.mark.parametrize("groups", [1, 2])
def test_gradient_that_overlaps_a_parameter_in_part_is_refused(backend, start, groups):
    base = np.arange(10.0)
    params, grads = [base[3:7], np.ones(4)], [np.ones(4), base[start : start + 4]]
    arranged = params if groups == 1 else [{"params": [param]} for param in params]
    optimizer = SGD(arranged).set_backend(backend)
    with pytest.raises(ValueError, match=r"^(params\[0\]|grads\[1\]) must not share memory with"):
        optimizer.step(grads)
    assert base.tolist() == list(range(10)) and params[1].tolist() == [1.0] * 4


@every_backend
def test_gradients_that_are_wrong_as_a_whole_are_refused(backend):
    param = np.ones(3)
    optimizer = Adam([param]).set_backend(backend)
    named, params, grads = named_optimizer(Adam, backend)
    for target, wrong, error, pattern in [
        (optimizer, [], ValueError, "grads must have length 1"),
        (optimizer, [np.ones(3), np.ones(3)], ValueError, "grads must have length 1.*was 2"),
        (optimizer, np.ones((1, 3)), TypeError, "grads must be a list"),
        (optimizer, {"a": np.ones(3)}, TypeError, "grads must be a list.*without names"),
        (optimizer, {0: np.ones(3)}, TypeError, "grads must be a list.*without names"),
        (optimizer, [[1.0, 1.0, 1.0]], TypeError, r"grads\[0\] must be a numpy.ndarray, was list"),
        (named, {**grads, "d": np.ones(3)}, ValueError, "unknown name 'd'; valid are 'a', 'b', 'c'"),
        (named, [grads["a"]], ValueError, "grads must have length 3"),
    ]:
        before = bits([param, *params.values()]), state_bits(optimizer), state_bits(named)
        with pytest.raises(error, match=pattern):
            target.step(wrong)
        assert (bits([param, *params.values()]), state_bits(optimizer), state_bits(named)) == before


def strided(dtype=np.float32):
    return np.ones((4, 6), dtype)[:, ::2]


def read_only():
    array = np.ones(3)
    array.flags.writeable = False
    return array


BASE = np.zeros(10)


@every_class
@pytest.mark.parametrize("params, error, pattern", [
    ([], ValueError, "empty parameter list"),
    ({}, ValueError, "empty parameter list"),
    (np.ones(3), TypeError, "params must be a list or dict"),
    ([{"params": np.ones(3)}], TypeError, "params must be a list or dict"),
    ([np.ones(3), [1.0]], TypeError, r"params\[1\] must be a numpy.ndarray, was list"),
    ({"w": 1.0}, TypeError, r"params\['w'\] must be a numpy.ndarray, was float"),
    ([np.ones(3, int)], TypeError, r"params\[0\] must be float32 or float64, was int64"),
    ([np.ones(3, np.float16)], TypeError, r"params\[0\].*float16"),
    ([np.ones(3, np.dtype(float).newbyteorder())], TypeError, r"params\[0\].*byte"),
    ([strided()], ValueError, r"params\[0\] must be contiguous.*np.ascontiguousarray"),
    ([np.ones((4, 6))[:, :3]], ValueError, r"params\[0\] must be contiguous"),
    ([read_only()], ValueError, r"params\[0\] must be writable"),
    ([np.zeros(25, np.uint8)[1:].view(np.float64)], ValueError, r"params\[0\] must be aligned"),
    ([BASE, BASE], ValueError, r"params\[[01]\] must not share memory with params\[[01]\]"),
    ([BASE[4:], np.ones(3), BASE[:5]], ValueError, r"params\[0\] must not share memory with params\[2\]"),
    ([{"params": [BASE]}, {"params": [BASE[3:4]]}], ValueError, r"params\[1\] must not share memory"),
    ([{"params": {"w": np.ones(1)}}, {"params": {"w": np.ones(1)}}], ValueError, r"params\['w'\].*one group"),
    ([{"params": {"w": np.ones(1)}}, {"params": [np.ones(1)]}], ValueError, "dicts in all groups or in none"),
    ([{"params": [np.ones(1)]}, np.ones(1)], TypeError, "parameter group 1 must be a dict with 'params'"),
    ([{"lr": 0.1}], TypeError, "parameter group 0 must be a dict with 'params'"),
    ([{"params": [np.ones(1)], "rate": 1}], ValueError, "unknown entry 'rate'; valid are 'params', 'lr'"),
    ([{"params": [np.ones(1)], "lr": -1.0}], ValueError, "lr must be >= 0, was -1.0"),
])
def test_wrong_parameters_are_refused(cls, params, error, pattern):
    with pytest.raises(error, match=pattern):
        cls(params)


def test_parameters_that_touch_but_do_not_overlap_are_accepted():
    base = np.zeros(10)
    optimizer = SGD([base[5:], base[:5], base[5:5]], lr=1.0)
    optimizer.step([np.full(5, 2.0), np.full(5, 1.0), np.ones(0)])
    assert base.tolist() == [-1.0] * 5 + [-2.0] * 5


NUMBERS = {
    SGD: ["lr", "momentum", "dampening", "weight_decay"],
    RMSProp: ["lr", "alpha", "eps", "weight_decay", "momentum"],
    Adam: ["lr", "eps", "weight_decay"],
    AdamW: ["lr", "eps", "weight_decay"],
    Adagrad: ["lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps", "l1"],
}
WRONG = [
    *[
        (cls, {name: value}, error, rf"^{name} must be ")
        for cls, names in NUMBERS.items() for name in names
        for value, error in [
            (-1.0, ValueError), (-1e-300, ValueError), (float("nan"), ValueError), (float("inf"), ValueError),
            (-np.inf, ValueError), (10**400, ValueError), (np.float32(-1), ValueError), ("0.1", TypeError),
            (None, TypeError), (True, TypeError), (np.array(0.1), TypeError), (np.ones(2), TypeError),
        ]
    ],
    *[
        (cls, {"betas": betas}, error, pattern)
        for cls in (Adam, AdamW)
        for betas, error, pattern in [
            ((1.0, 0.9), ValueError, r"^betas\[0\] must be >= 0 and < 1, was 1.0"),
            ((0.9, -0.1), ValueError, r"^betas\[1\] must be >= 0, was -0.1"),
            ((0.9, np.nan), ValueError, r"^betas\[1\] must be"),
            ((0.9, "0.9"), TypeError, r"^betas\[1\] must be a number"),
            (0.9, TypeError, "^betas must be a pair"),
            ((0.9,), TypeError, "^betas must be a pair"),
        ]
    ],
    (RMSProp, {"alpha": 1.5}, ValueError, "^alpha must be >= 0 and <= 1, was 1.5"),
    (SGD, {"nesterov": True}, ValueError, "^nesterov must be False unless momentum > 0"),
    (SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "^nesterov.*dampening 0.1"),
    (SGD, {"nesterov": 1}, TypeError, "^nesterov must be True or False, was 1"),
    (SGD, {"running_average": 1}, TypeError, "^running_average must be True or False, was 1"),
    (SGD, {"running_average": True, "momentum": 1.0}, ValueError, "^running_average must be False.*momentum 1.0"),
    (SGD, {"running_average": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "^running_average.*dampening 0.1"),
    (RMSProp, {"nesterov": True}, ValueError, "^nesterov must be False unless momentum > 0"),
    (RMSProp, {"nesterov": None}, TypeError, "^nesterov must be True or False"),
    (RMSProp, {"centered": None}, TypeError, "^centered must be True or False"),
    (Adam, {"amsgrad": "yes"}, TypeError, "^amsgrad must be True or False"),
    *[(cls, {"maximize": 0.0}, TypeError, "^maximize must be True or False, was 0.0") for cls in CLASSES],
    *[
        (cls, {name: value}, error, rf"^{name} must be ")
        for cls in CLASSES
        for name, value, error in [
            ("l1", -1.0, ValueError), ("l1", None, TypeError), ("l1_proximal", 1, TypeError),
            ("max_grad_value", 0, ValueError), ("max_grad_value", -1.0, ValueError),
            ("max_grad_value", np.nan, ValueError), ("max_grad_value", np.inf, ValueError),
            ("max_grad_value", "1", TypeError), ("max_norm", 0.0, ValueError), ("max_norm", np.inf, ValueError),
            ("max_norm", True, TypeError), ("ema_decay", 1.0, ValueError), ("ema_decay", -0.1, ValueError),
            ("ema_decay", np.nan, ValueError), ("ema_decay", "0.9", TypeError),
        ]
    ],
    *[(cls, {"decoupled_weight_decay": 1}, TypeError, "^decoupled_weight_decay must be True or False, was 1")
      for cls in CLASSES if cls is not AdamW],
]


@pytest.mark.parametrize("cls, options, error, pattern", WRONG, ids=str)
def test_wrong_options_are_refused_at_construction_and_at_the_step(cls, options, error, pattern):
    with pytest.raises(error, match=pattern):
        cls([np.ones(3)], **options)
    params = [np.ones(3), np.ones(2)]
    optimizer = cls([{"params": params[:1]}, {"params": params[1:]}])
    before = bits(params), state_bits(optimizer)
    with pytest.raises(error, match=pattern):
        optimizer.add_param_group({"params": [np.ones(3)], **options})
    good = dict(optimizer.param_groups[1])
    optimizer.param_groups[1].update(options)
    with pytest.raises(error, match=pattern):
        optimizer.step([np.ones(3), np.ones(2)])
    optimizer.param_groups[1].update(good)
    assert (bits(params), state_bits(optimizer)) == before
    optimizer.step([np.ones(3), np.ones(2)])


@every_class
@pytest.mark.parametrize("name", ["max_grad_value", "max_norm"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits_that_are_no_normal_numbers_of_a_parameter_are_refused(cls, name, dtype):
    smallest = float(np.finfo(dtype).smallest_normal)
    params = [np.ones(2, np.float64), np.ones(3, dtype)]
    cls(params, **{name: smallest}).step([np.ones(2), np.ones(3, dtype)])
    optimizer = cls([{"params": params[:1]}, {"params": params[1:]}])
    before, message = bits(params), f"^{name} must be at least .* of {np.dtype(dtype)} parameters, was "
    for limit in (smallest * (1 - 1e-6), smallest / 2**20):
        with pytest.raises(ValueError, match=message):
            cls(params, **{name: limit})
        optimizer.param_groups[1][name] = limit
        with pytest.raises(ValueError, match=message):
            optimizer.step([np.ones(2), np.ones(3, dtype)])
        assert bits(params) == before
    cls(params[:1], **{name: float(np.finfo(np.float32).smallest_normal) / 2})


@every_class
def test_numbers_of_any_kind_are_taken(cls):
    one, other = np.ones(3), np.ones(3)
    cls([one], lr=np.float32(0.5), weight_decay=np.float64(1)).step([np.ones(3)])
    cls([other], lr=0.5, weight_decay=1).step([np.ones(3)])
    assert one.tobytes() == other.tobytes()


@every_class
@every_backend
def test_options_may_change_between_steps(cls, backend):
    param, grad = np.ones(3), np.ones(3)
    optimizer = cls([param], **FULL[cls]).set_backend(backend)
    optimizer.step([grad])
    before = param.copy()
    optimizer.param_groups[0]["lr"] = 0
    optimizer.param_groups[0]["weight_decay"] = 0
    optimizer.step([grad])
    assert param.tobytes() == before.tobytes()
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.1}
    optimizer.step([grad])
    assert (param < before).all()


@every_class
def test_options_may_neither_vanish_nor_appear(cls):
    param = np.ones(3)
    optimizer = cls([param])
    optimizer.param_groups[0]["learning_rate"] = 0.1
    with pytest.raises(ValueError, match=r"param_groups\[0\] has an unknown entry 'learning_rate'"):
        optimizer.step([np.ones(3)])
    del optimizer.param_groups[0]["learning_rate"], optimizer.param_groups[0]["lr"]
    with pytest.raises(ValueError, match=r"param_groups\[0\] lacks the entry 'lr'"):
        optimizer.step([np.ones(3)])
    assert param.tolist() == [1, 1, 1]


@every_backend
def test_state_that_is_needed_later_comes_into_being(backend):
    for cls, switched in [
        (SGD, {"momentum": 0.9, "dampening": 0.5}),
        (RMSProp, {"momentum": 0.9, "centered": True}),
        (Adam, {"amsgrad": True}),
    ]:
        param, grad = np.ones(3), np.full(3, 0.25)
        optimizer = cls([param], lr=0.1).set_backend(backend)
        optimizer.step([grad])
        optimizer.param_groups[0].update(switched)
        optimizer.step([grad])
        state = optimizer.state_dict()["state"][0]
        assert np.isfinite(param).all() and len(state) > len(cls([param]).state_dict()["state"][0])
        if cls is SGD:  # as in PyTorch, the first gradient with momentum is the first velocity, undamped
            assert state["momentum_buffer"].tolist() == [0.25] * 3


@every_class
@every_backend
def test_arrays_may_be_replaced_and_keep_their_state(cls, backend):
    shapes = [(4,), (2, 3)]
    expected, actual = random_arrays(shapes), random_arrays(shapes)
    grads = random_arrays(shapes, seed=1)
    optimizers = [cls(params, **FULL[cls]).set_backend(backend) for params in (expected, actual)]
    for optimizer in optimizers:
        optimizer.step(grads)
    old, new = actual[1], actual[1].copy()
    optimizers[1].param_groups[0]["params"][1] = new
    kept = old.copy()
    for optimizer in optimizers:
        optimizer.step([grad.copy() for grad in grads])
    assert bits([actual[0], new]) == bits(expected) and old.tobytes() == kept.tobytes()


@every_class
@every_backend
@pytest.mark.parametrize("replacement, error, pattern", [
    (np.ones(5, np.float32), ValueError, r"params\[1\].*shape"),
    (np.ones((2, 3)), TypeError, r"params\[1\] must .*float32"),
    (np.ones((3, 2), np.float32).T, ValueError, r"params\[1\].*strides"),
    (strided()[:2], ValueError, r"params\[1\] must be contiguous"),
    ([1.0], TypeError, r"params\[1\] must be a numpy.ndarray"),
    (None, TypeError, r"params\[1\] must be a numpy.ndarray"),
], ids=["shape", "dtype", "order", "strided", "list", "None"])
def test_arrays_replaced_by_unlike_ones_are_refused(cls, backend, replacement, error, pattern):
    params = random_arrays([(4,), (2, 3)])
    before = bits(params)
    optimizer = cls(params, **FULL[cls]).set_backend(backend)
    optimizer.param_groups[0]["params"][1] = replacement
    with pytest.raises(error, match=pattern):
        optimizer.step(random_arrays([(4,), (2, 3)]))
    assert bits(params) == before


def test_groups_and_lists_must_keep_their_length():
    params = [np.ones(3), np.ones(3)]
    for change in (
        lambda optimizer: optimizer.param_groups[0]["params"].append(np.ones(3)),
        lambda optimizer: optimizer.param_groups[0]["params"].pop(),
        lambda optimizer: optimizer.param_groups.append(dict(optimizer.param_groups[0])),
        lambda optimizer: optimizer.param_groups.clear(),
    ):
        optimizer = SGD(params)
        change(optimizer)
        with pytest.raises(ValueError, match="param_groups.*must keep its .*add_param_group"):
            optimizer.step([np.ones(3), np.ones(3)])
    assert bits(params) == bits([np.ones(3), np.ones(3)])


def test_the_callers_list_and_dict_are_not_kept():
    params, group = [np.ones(3)], {"params": {"w": np.ones(3)}}
    optimizer, grouped = SGD(params), SGD([group])
    params.append(np.ones(3))
    optimizer.step([np.ones(3)])
    grouped.step({"w": np.ones(3)})
    assert list(group) == ["params"] and list(group["params"]) == ["w"]


@every_class
def test_add_param_group(cls):
    shapes = [(4,), (2, 3), (3,)]
    grads = random_arrays(shapes, seed=1)
    first, both = random_arrays(shapes), random_arrays(shapes)
    grown = cls(first[:2], **FULL[cls])
    grown.add_param_group({"params": first[2:], "lr": 0.5})
    whole = cls([{"params": both[:2]}, {"params": both[2:], "lr": 0.5}], **FULL[cls])
    for optimizer in (grown, whole):
        optimizer.step(grads)
    assert bits(first) == bits(both) and state_bits(grown) == state_bits(whole)
    before = state_bits(grown)
    for wrong in ([first[0]], [np.ones(3, int)], {"w": np.ones(3)}, np.ones(3)):
        with pytest.raises((TypeError, ValueError), match="params"):
            grown.add_param_group({"params": wrong})
    assert state_bits(grown) == before
    grown.step(grads)


@every_class
@every_backend
@pytest.mark.parametrize("dtypes", [(np.float32, np.float32), (np.float32, np.float64)], ids=["one", "mixed"])
def test_state_dict_continues_where_it_was_taken(cls, backend, dtypes):
    original, params, grads = named_optimizer(cls, backend, dtypes)
    original.step({"b": grads["b"]})
    original.param_groups[0]["lr"] = 0.25
    saved = original.state_dict()
    frozen = pickle.dumps(saved)
    copies = {name: param.copy() for name, param in params.items()}
    restored = cls(
        [{"params": {"a": copies["a"], "b": copies["b"]}}, {"params": {"c": copies["c"]}}]
    ).set_backend(backend)
    restored.load_state_dict(saved)
    assert state_bits(restored) == pickle.dumps(original.state_dict())
    for _ in range(2):
        original.step(grads)
        restored.step(grads)
    assert bits(params.values()) == bits(copies.values())
    assert state_bits(original) == state_bits(restored)
    assert pickle.dumps(saved) == frozen, "a state_dict shares memory with an optimizer"
    assert [saved["state"][i]["step"] for i in range(3)] == [1, 2, 1]


def test_state_dict_is_plain():
    optimizer, _, _ = named_optimizer(Adam, native)
    saved = optimizer.state_dict()
    assert list(saved) == ["state", "param_groups", "max_grad_norm", "skip_nonfinite", "skipped_steps"]
    assert list(saved["state"]) == [0, 1, 2]
    assert list(saved["state"][0]) == ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]
    assert saved["param_groups"][1] == {
        "lr": 0.5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "amsgrad": True,
        "decoupled_weight_decay": False, "l1": 0.0, "l1_proximal": False, "max_grad_value": None, "max_norm": None,
        "ema_decay": None, "maximize": False, "params": [2], "param_names": ["c"],
    }
    assert [type(saved["state"][i]["step"]) for i in range(3)] == [int] * 3


@every_backend
@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1)], ids=["Fortran", "channels last"])
def test_memory_order_survives_state_dict_copy_and_pickle(backend, order):
    grad = np.arange(24.0).reshape(2, 3, 4)
    permuted_grad = grad.transpose(order).copy().transpose(order)
    plain = Adam([np.zeros_like(grad)]).set_backend(backend)
    permuted = Adam([np.zeros_like(permuted_grad)]).set_backend(backend)
    plain.step([grad])
    permuted.step([permuted_grad])
    permuted.load_state_dict(plain.state_dict())
    plain.step([grad])
    for optimizer in (copy.deepcopy(permuted), pickled(permuted), permuted):
        param = optimizer.param_groups[0]["params"][0]
        grad_like_param = np.empty_like(param)  # NumPy pickles channels last in C order
        grad_like_param[...] = grad
        optimizer.step([grad_like_param])
        state, expected = (each.state_dict()["state"][0]["exp_avg"] for each in (optimizer, plain))
        assert param.strides == state.strides and bits([state]) == bits([expected])
        assert bits([param]) == bits(plain.param_groups[0]["params"])
    assert param.strides == permuted_grad.strides


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def corrupt(path, value):
    def change(saved):
        *route, last = path
        for key in route:
            saved = saved[key]
        if value is KeyError:
            del saved[last]
        else:
            saved[last] = value
    return change


@every_class
@pytest.mark.parametrize("path, value, error, pattern", [
    (("state",), KeyError, ValueError, "state_dict lacks the entry 'state'"),
    (("extra",), 1, ValueError, "state_dict has an unknown entry 'extra'"),
    (("state",), [], TypeError, r"state_dict\['state'\] must be a dict, was list"),
    (("state", 1), KeyError, ValueError, r"has the state of 2 parameters, here are 3"),
    (("state", 7), {}, ValueError, r"has the state of 4 parameters, here are 3"),
    (("state", 0), None, TypeError, r"state_dict\['state'\]\[0\] must be a dict"),
    (("state", 1, "step"), KeyError, ValueError, r"state_dict\['state'\]\[1\] lacks the entry 'step'"),
    (("state", 1, "step"), -1, ValueError, r"\[1\]\['step'\] must be at least 0"),
    (("state", 1, "step"), 2**63 - 1, ValueError, r"\[1\]\['step'\] must fit in an int64"),
    (("state", 1, "step"), 1.5, TypeError, r"\[1\]\['step'\] must be an integer, was 1.5"),
    (("state", 1, "exp_moment"), np.ones(3), ValueError, r"\[1\] has an unknown entry 'exp_moment'"),
    (("state", 2, "STATE"), KeyError, ValueError, r"\[2\] lacks the entry 'STATE'"),
    (("state", 2, "STATE"), np.ones((), np.float64), TypeError, r"\[2\]\['STATE'\] must be float32"),
    (("state", 2, "STATE"), np.ones(2, np.float32), ValueError, r"\[2\]\['STATE'\] must have shape \(\)"),
    (("state", 2, "STATE"), 1.0, TypeError, r"\[2\]\['STATE'\] must be a numpy.ndarray"),
    (("param_groups",), [], ValueError, r"state_dict has 0 parameter groups, must have 2"),
    (("param_groups", 0, "lr"), -1.0, ValueError, "lr must be >= 0"),
    (("param_groups", 1, "lr"), KeyError, ValueError, r"\['param_groups'\]\[1\] lacks the entry 'lr'"),
    (("param_groups", 1, "rate"), 1, ValueError, r"\['param_groups'\]\[1\] has an unknown entry 'rate'"),
    (("param_groups", 0, "params"), [0], ValueError, r"\['params'\] must be \[0, 1\], was \[0\]"),
    (("param_groups", 0, "param_names"), ["b", "a"], ValueError, r"\['param_names'\] must be \['a', 'b'\]"),
], ids=str)
def test_wrong_state_dict_is_refused_before_anything_is_modified(cls, path, value, error, pattern):
    optimizer, params, grads = named_optimizer(cls, native)
    saved, before = optimizer.state_dict(), state_bits(optimizer)
    name = list(saved["state"][0])[-1]
    for i in range(3):
        saved["state"][i]["step"] = 5
    saved["param_groups"][0]["weight_decay"] = 0.5
    corrupt([name if key == "STATE" else key for key in path], value)(saved)
    with pytest.raises(error, match=pattern.replace("STATE", name)):
        optimizer.load_state_dict(saved)
    assert state_bits(optimizer) == before
    optimizer.step(grads)


@every_class
@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled], ids=["copy", "pickle"])
@every_backend
def test_optimizers_copy_and_pickle_with_the_arrays_they_share(cls, backend, duplicate):
    optimizer, params, grads = named_optimizer(cls, backend)
    twin, twin_params = duplicate((optimizer, params))
    assert twin.kernels is backend
    before = bits(params.values())
    twin.step(grads)
    assert bits(params.values()) == before and bits(twin_params.values()) != before
    optimizer.step(grads)
    assert bits(params.values()) == bits(twin_params.values())


def test_backend_is_set_for_one_optimizer():
    assert Optimizer.kernels is native
    first, second = SGD([np.ones(3)]), SGD([np.ones(3)])
    assert first.set_backend(reference) is first
    assert first.kernels is reference and second.kernels is native


def test_repr_is_pytorchs():
    optimizer = SGD([{"params": {"w": np.ones(3)}}, {"params": {"b": np.ones(3)}, "lr": 1}], lr=0.5)
    assert repr(optimizer) == """SGD (
Parameter Group 0
    dampening: 0.0
    decoupled_weight_decay: False
    ema_decay: None
    l1: 0.0
    l1_proximal: False
    lr: 0.5
    max_grad_value: None
    max_norm: None
    maximize: False
    momentum: 0.0
    nesterov: False
    param_names: ['w']
    running_average: False
    weight_decay: 0.0
Parameter Group 1
    dampening: 0.0
    decoupled_weight_decay: False
    ema_decay: None
    l1: 0.0
    l1_proximal: False
    lr: 1.0
    max_grad_value: None
    max_norm: None
    maximize: False
    momentum: 0.0
    nesterov: False
    param_names: ['b']
    running_average: False
    weight_decay: 0.0
)"""


@every_class
def test_gradients_are_not_modified_nor_needed_afterwards(cls):
    grads = random_arrays([(4,), (2, 3)])
    before = bits(grads)
    optimizer = cls(random_arrays([(4,), (2, 3)], seed=1), maximize=True, **FULL[cls])
    optimizer.step(grads)
    assert bits(grads) == before


@pytest.mark.parametrize("make, option", [
    (SGD, {"momentum": 0.9}), (RMSProp, {"momentum": 0.9}), (RMSProp, {"centered": True}), (Adam, {"amsgrad": True}),
])
def test_a_state_saved_after_an_option_was_switched_on_loads(make, option):
    params, grads = [np.ones(3)], [np.full(3, 0.5)]
    optimizer = make(params)
    optimizer.step(grads)
    optimizer.param_groups[0].update(option)
    state = optimizer.state_dict()
    other = [params[0].copy()]
    twin = make(other)
    twin.load_state_dict(state)
    for _ in range(3):
        optimizer.step(grads)
        twin.step(grads)
    np.testing.assert_array_equal(other[0], params[0])


@pytest.mark.parametrize("backend", [native, reference], ids=["native", "reference"])
@pytest.mark.parametrize("spoil", [
    lambda param, grad: param.setflags(write=False),
    lambda param, grad: setattr(grad, "shape", (3, 1)),
], ids=["read-only", "shape"])
@pytest.mark.filterwarnings("ignore:.*shape:DeprecationWarning")
def test_the_same_arrays_are_checked_again_when_they_have_changed(backend, spoil):
    params, grads = [np.ones(3), np.ones(3)], [np.ones(3), np.ones(3)]
    optimizer = SGD([{"params": params[:1]}, {"params": params[1:]}], lr=0.1).set_backend(backend)
    optimizer.step(grads)
    spoil(params[1], grads[1])
    with pytest.raises(ValueError, match=r"^(params|grads)\[1\] must"):
        optimizer.step(grads)
    assert (params[0] == 0.9).all()
    assert [entry["step"] for entry in optimizer.state_dict()["state"].values()] == [1, 1]


def test_momentum_switched_off_before_the_first_step_and_on_later_starts_with_the_gradient():
    param, grad = np.zeros(1), np.ones(1)
    optimizer = SGD([param], lr=1.0, momentum=0.9, dampening=0.5)
    optimizer.param_groups[0]["momentum"] = 0.0
    optimizer.step([grad])
    optimizer.param_groups[0]["momentum"] = 0.9
    optimizer.step([grad])
    assert param[0] == -2.0


@every_backend
@pytest.mark.parametrize("options", [{}, {"max_norm": 1.0}, {"max_grad_norm": 1.0}], ids=str)
def test_gradients_are_freed_when_the_caller_drops_them(backend, options):
    params = [np.ones((2, 2)), np.ones(3)]
    optimizer = SGD([{"params": params[:1]}, {"params": params[1:]}], **options).set_backend(backend)
    grads = [np.ones_like(param) for param in params]
    for _ in range(2):
        optimizer.step(grads)
    alive = [weakref.ref(grad) for grad in grads]
    del grads
    assert [reference() for reference in alive] == [None, None]


@every_backend
def test_other_gradients_are_checked_also_where_freed_ones_were(backend):
    params = [np.ones(3), np.ones(3)]
    optimizer = SGD([{"params": params[:1]}, {"params": params[1:]}], lr=0.0).set_backend(backend)
    grads = [np.ones(3), np.ones(3)]
    optimizer.step(grads)
    del grads[1]
    for wrong in [params[1][:] for _ in range(100)]:  # one of them is likely to have the id of what was freed
        with pytest.raises(ValueError, match="must not share memory with"):
            optimizer.step([grads[0], wrong])


@pytest.mark.parametrize("backend", ["numpy", np, None])
def test_a_backend_must_be_a_module_of_kernels(backend):
    with pytest.raises(TypeError, match="a backend is a module of kernels"):
        Adam([np.ones(1)]).set_backend(backend)


@every_class
@every_backend
def test_gradients_are_scaled_down_to_the_largest_norm(cls, backend):
    """Over groups, names, dtypes and missing gradients: the step is that of the scaled gradients."""
    params, grads = random_arrays([(3,), (2, 2), ()]), random_arrays([(3,), (2, 2), ()], seed=1)
    params[1], grads[1] = params[1].astype(np.float64), grads[1].astype(np.float64)
    copies = [param.copy() for param in params]

    def groups(arrays):
        return [{"params": arrays[:1]}, {"params": arrays[1:], "lr": 0.05}]

    clipped = cls(groups(params), max_grad_norm=0.5, **FULL[cls]).set_backend(backend)
    plain = cls(groups(copies), **FULL[cls]).set_backend(backend)
    assert clipped.grad_norm is None and clipped.max_grad_norm == 0.5
    for chosen in (grads, [None, *grads[1:]], [np.asarray(grad * grad.dtype.type(0.01)) for grad in grads]):
        norm = np.sqrt(sum(np.sum(np.float64(grad) ** 2) for grad in chosen if grad is not None))
        before = bits([grad for grad in chosen if grad is not None])
        clipped.step(chosen)
        assert before == bits([grad for grad in chosen if grad is not None])
        # Sums of 8 squares, by two routes.
        np.testing.assert_allclose(clipped.grad_norm, norm, rtol=16 * np.finfo(np.float64).eps)
        factor = min(1, 0.5 / (clipped.grad_norm + 1e-6))
        plain.step([grad if grad is None else np.asarray(grad * grad.dtype.type(factor)) for grad in chosen])
        assert bits(params) == bits(copies)
    assert plain.grad_norm is None and clipped.grad_norm < 0.5


@every_class
@every_backend
def test_a_largest_norm_above_the_norm_changes_no_bit(cls, backend):
    params, copies, grads = random_arrays([(4,), (5,)]), random_arrays([(4,), (5,)]), random_arrays([(4,), (5,)], 1)
    for arrays, options in ((params, {"max_grad_norm": 100}), (copies, {})):
        cls(arrays, **options, **FULL[cls]).set_backend(backend).step(grads)
    assert bits(params) == bits(copies)


@every_class
@pytest.mark.parametrize("value, error", [
    (0, ValueError), (-1.0, ValueError), (np.nan, ValueError), (np.inf, ValueError), ("1", TypeError),
    (True, TypeError),
])
def test_wrong_largest_norms_are_refused(cls, value, error):
    with pytest.raises(error, match="^max_grad_norm must be "):
        cls([np.ones(3)], max_grad_norm=value)
    optimizer = cls([np.ones(3)], max_grad_norm=2)
    with pytest.raises(error, match="^max_grad_norm must be "):
        optimizer.max_grad_norm = value
    assert optimizer.max_grad_norm == 2.0
    optimizer.max_grad_norm = None
    optimizer.step([np.ones(3)])
    assert optimizer.grad_norm is None


@every_class
@every_backend
def test_wrong_gradients_under_a_largest_norm_are_refused_before_anything_is_modified(cls, backend):
    params = [np.ones(3), np.ones(2)]
    optimizer = cls(params, max_grad_norm=1.0).set_backend(backend)
    optimizer.step([np.ones(3), np.ones(2)])
    before = bits(params), state_bits(optimizer), optimizer.grad_norm
    for grad, error in ((np.ones(2, np.float32), TypeError), ([1.0, 1.0], TypeError), (np.ones(5), ValueError),
                        (np.ones(4)[::2], ValueError)):
        with pytest.raises(error, match=r"^grads\[1\] must "):
            optimizer.step([np.zeros(3), grad])
        assert (bits(params), state_bits(optimizer), optimizer.grad_norm) == before


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled], ids=["copy", "pickle"])
def test_the_largest_norm_is_copied_and_pickled(duplicate):
    assert duplicate(Adam([np.ones(3)], max_grad_norm=0.5)).max_grad_norm == 0.5


def test_repr_tells_of_clipping():
    optimizer = SGD([np.ones(3)], max_grad_norm=2, skip_nonfinite=True)
    assert "max_grad_norm: 2.0\nskip_nonfinite: True\n)" in repr(optimizer)
    optimizer.step([np.full(3, np.nan)])
    assert "skipped_steps: 1\n)" in repr(optimizer)


def test_the_state_of_another_optimizer_is_recognised():
    for mine, other in [(SGD, Adam), (Adam, RMSProp), (RMSProp, SGD)]:
        optimizer = mine([np.ones(3)])
        with pytest.raises(ValueError, match=f"is this the state of another optimizer than {mine.__name__}"):
            optimizer.load_state_dict(other([np.ones(3)]).state_dict())


@every_class
@every_backend
def test_a_group_without_parameters_may_be_the_only_one(cls, backend):
    optimizer = cls([{"params": []}]).set_backend(backend)
    assert optimizer.step([]) is True and optimizer.state_dict()["state"] == {}


@every_class
@every_backend
def test_an_optimizer_takes_its_own_earlier_state_back(cls, backend):
    param, grad = np.ones(3), np.full(3, 0.5)
    optimizer = cls([param], **FULL[cls]).set_backend(backend)
    optimizer.step([grad])
    saved, before, ends = optimizer.state_dict(), param.copy(), []
    for _ in range(2):
        optimizer.step([grad])
        optimizer.step([grad])
        ends.append((bits([param]), state_bits(optimizer)))
        param[...] = before
        optimizer.load_state_dict(saved)
    assert ends[0] == ends[1]


EVERYWHERE = [
    ({}, {"l1": 0.1}), ({"l1": 0.1}, {"l1_proximal": True}), ({}, {"max_grad_value": 0.1}), ({}, {"maximize": True}),
    ({}, {"max_norm": 0.5}), ({"weight_decay": 0.0}, {"weight_decay": 0.5}),
]
HEAVY = {"momentum": 0.9}


@pytest.mark.parametrize("cls, options, option", [
    *[(cls, options, option) for cls in CLASSES for options, option in EVERYWHERE],
    *[(cls, {"weight_decay": 0.5}, {"decoupled_weight_decay": True}) for cls in (RMSProp, Adam, Adagrad)],
    (SGD, {**HEAVY, "weight_decay": 0.5}, {"decoupled_weight_decay": True}), (SGD, {}, HEAVY),
    (SGD, HEAVY, {"dampening": 0.5}), (SGD, HEAVY, {"nesterov": True}),
    (SGD, HEAVY, {"running_average": True}), (RMSProp, {}, HEAVY), (RMSProp, HEAVY, {"nesterov": True}),
    (RMSProp, {}, {"alpha": 0.5}), (RMSProp, {}, {"centered": True}), (RMSProp, {}, {"eps": 0.5}),
    (Adam, {}, {"betas": (0.5, 0.999)}), (Adam, {}, {"betas": (0.9, 0.5)}), (Adam, {}, {"eps": 0.5}),
    (Adam, {"betas": (0.9, 0.5)}, {"amsgrad": True}), (Adagrad, {}, {"lr_decay": 0.5}), (Adagrad, {}, {"eps": 0.5}),
    (Adagrad, {}, {"initial_accumulator_value": 0.5}),
], ids=str)
def test_every_option_changes_the_step(cls, options, option):
    ends = []
    for chosen in (options, {**options, **option}):
        param = np.ones((2, 2))
        optimizer = cls([param], lr=0.01, **chosen)
        for scale in (1, 2, 0.5):
            optimizer.step([np.array([[0.5, 1], [-2, 3]]) * scale])
        ends.append(param.tobytes())
    assert ends[0] != ends[1]


@every_class
@every_backend
def test_the_average_is_that_of_limited_weights(cls, backend):
    param = np.full((2, 2), 3.0)
    optimizer = cls([param], lr=0.1, max_norm=1.0, ema_decay=0.75).set_backend(backend)
    optimizer.step([np.ones((2, 2))])
    # A norm of 1 in each row, up to the roundings of it and of the average.
    np.testing.assert_allclose(param, np.full((2, 2), np.sqrt(0.5)), rtol=8 * np.finfo(float).eps)
    average = optimizer.state_dict()["state"][0]["ema_param"]
    np.testing.assert_allclose(average, 0.75 * 3 + 0.25 * param, rtol=8 * np.finfo(float).eps)


@pytest.mark.parametrize("make", [SGD, RMSProp, Adagrad, Adam, AdamW])
def test_a_misspelt_option_is_named_with_the_class_and_its_options(make):
    with pytest.raises(TypeError, match=rf"^{make.__name__} has no option 'weigth_decay'; besides lr, .*weight_decay"):
        make([np.ones(3)], weigth_decay=0.1)


def test_the_state_of_another_number_of_parameters_is_refused():
    other = Adam([np.ones(2), np.ones(3)]).state_dict()
    with pytest.raises(ValueError, match="has the state of 2 parameters, here are 1"):
        Adam([np.ones(2)]).load_state_dict(other)
