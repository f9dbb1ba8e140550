"""What optimizers do with parameters, gradients, groups and backends."""

import pickle
import weakref

import numpy as np
import pytest

from helpers.optimizer_checks import bits, named_optimizer, random_arrays, state_bits
from helpers.optimizers import CLASSES, FULL, every_backend, every_class
from numfuse import native, optim, reference
from numfuse.optim import SGD, Adam, Optimizer


def test_every_optimizer_stands_in_the_list():
    public = [getattr(optim, name) for name in optim.__all__]
    classes = {value for value in public if isinstance(value, type) and issubclass(value, Optimizer)} - {Optimizer}
    missing = {cls.__name__ for cls in classes} - {cls.__name__ for cls in CLASSES}
    assert not missing, f"add {missing} to OPTIMIZERS in tests/helpers/optimizers.py"


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
        for name, grad, error, pattern in [
            (last, good.astype(np.float64), TypeError, rf"grads\['{last}'\] must be float32"),
            (last, 1.0, TypeError, rf"grads\['{last}'\].*float"),
            (last, np.ones(2, np.float32), ValueError, rf"grads\['{last}'\].*shape"),
            ("b", np.ma.masked_equal(np.ones((2, 2), np.float32), 1), TypeError, r"grads\['b'\].*use .filled\(0\)"),
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


@every_backend
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
def test_a_group_without_parameters_may_be_the_only_one(cls, backend):
    optimizer = cls([{"params": []}]).set_backend(backend)
    assert optimizer.step([]) is True and optimizer.state_dict()["state"] == {}
