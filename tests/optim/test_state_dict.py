"""The state of optimizers: dicts of it, copies, pickles."""

import copy
import pickle

import numpy as np
import pytest

from helpers.optimizer_checks import bits, named_optimizer, pickled, state_bits
from helpers.optimizers import FULL, every_backend, every_class
from numfuse import native
from numfuse.optim import SGD, Adam, RMSProp


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


def test_the_state_of_another_optimizer_is_recognised():
    for mine, other in [(SGD, Adam), (Adam, RMSProp), (RMSProp, SGD)]:
        optimizer = mine([np.ones(3)])
        with pytest.raises(ValueError, match=f"is this the state of another optimizer than {mine.__name__}"):
            optimizer.load_state_dict(other([np.ones(3)]).state_dict())


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


def test_the_state_of_another_number_of_parameters_is_refused():
    other = Adam([np.ones(2), np.ones(3)]).state_dict()
    with pytest.raises(ValueError, match="has the state of 2 parameters, here are 1"):
        Adam([np.ones(2)]).load_state_dict(other)
