"""Moving averages of parameters, swapped in for evaluation."""

import contextlib
import copy
import pickle
import sys

import numpy as np
import pytest

from helpers.optimizer_checks import bits
from helpers.optimizers import every_backend, every_class
from numfuse import native, nn
from numfuse.optim import SGD, state


def stepped(cls=SGD, backend=native, **options):
    """Two groups of two dtypes, the second without an average, after three steps."""
    params = {"a": np.ones(3, np.float32), "b": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "c": np.ones(())}
    groups = [{"params": {"a": params["a"], "b": params["b"]}, "ema_decay": 0.75}, {"params": {"c": params["c"]}}]
    optimizer = cls(groups, lr=0.5, **options).set_backend(backend)
    for _ in range(3):
        optimizer.step({name: np.full_like(param, 0.25) for name, param in params.items()})
    return optimizer, params


@every_class
@every_backend
def test_parameters_are_their_averages_inside_and_themselves_afterwards(cls, backend):
    optimizer, params = stepped(cls, backend)
    before, saved = {name: param.copy("K") for name, param in params.items()}, pickle.dumps(optimizer.state_dict())
    averages = [entry.get("ema_param") for entry in optimizer.state_dict()["state"].values()]
    with optimizer.averaged():
        assert bits([params["a"], params["b"], params["c"]]) == bits([*averages[:2], before["c"]])
        assert (params["a"] != before["a"]).all() and (params["b"] != before["b"]).all()
    assert bits(params.values()) == bits(before.values()) and pickle.dumps(optimizer.state_dict()) == saved
    assert optimizer.step({"a": np.ones(3, np.float32)})


def test_what_is_written_inside_becomes_the_average():
    optimizer, params = stepped()
    with optimizer.averaged():
        params["a"][...] = 7
    assert optimizer.state_dict()["state"][0]["ema_param"].tolist() == [7, 7, 7] and (params["a"] < 1).all()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_parameters_come_back_whatever_happens(error):
    optimizer, params = stepped()
    before = bits(params.values())
    with pytest.raises(error):
        with optimizer.averaged():
            raise error
    assert bits(params.values()) == before
    optimizer.state_dict()


def interrupted(k, run):
    """Whether `run` came to bytecode number k of the swap, or of the `with` around it: KeyboardInterrupt there."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if frame.f_code.co_filename not in (state.__file__, contextlib.__file__):
            return None
        frame.f_trace_opcodes = True
        count += event == "opcode"
        if count == k:
            raise KeyboardInterrupt  # Python traces no more after that
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return count >= k


@pytest.mark.parametrize("first", [None, KeyboardInterrupt], ids=["once", "twice"])
def test_an_interrupt_anywhere_leaves_everything_as_it_was(first):
    optimizer, params = stepped()
    before, saved = bits(params.values()), pickle.dumps(optimizer.state_dict())

    def run():
        with optimizer.averaged():
            if first:
                raise first

    k = 1
    while interrupted(k, run):
        assert bits(params.values()) == before, k
        assert pickle.dumps(optimizer.state_dict()) == saved, k
        k += 1
    assert k > 200


def enter(optimizer):
    with optimizer.averaged():
        pass


@pytest.mark.parametrize("use", [
    lambda optimizer: optimizer.step([None] * 3), lambda optimizer: optimizer.state_dict(), enter, copy.deepcopy,
    pickle.dumps,
], ids=["step", "state_dict", "averaged", "copy", "pickle"])
def test_an_optimizer_is_not_used_inside(use):
    optimizer, params = stepped()
    before, saved = bits(params.values()), optimizer.state_dict()
    with optimizer.averaged():
        inside = bits(params.values())
        with pytest.raises(RuntimeError, match="^the parameters are their averages"):
            use(optimizer)
        with pytest.raises(RuntimeError, match="^the parameters are their averages"):
            optimizer.load_state_dict(saved)
        assert bits(params.values()) == inside
    assert bits(params.values()) == before
    use(optimizer)


def test_without_averages_there_is_nothing_to_swap():
    for optimizer in (SGD([np.ones(3)]), SGD([{"params": []}, {"params": [np.ones(2)]}])):
        with pytest.raises(ValueError, match="^averaged needs a group with ema_decay"):
            with optimizer.averaged():
                pass


def test_averages_that_are_switched_off_are_not_swapped_in():
    optimizer, params = stepped()
    optimizer.param_groups[0]["ema_decay"] = None
    with pytest.raises(ValueError, match="^averaged needs a group with ema_decay"):
        with optimizer.averaged():
            pass


def test_parameters_that_cannot_be_written_are_refused_before_any_is():
    optimizer, params = stepped()
    before = bits(params.values())
    params["b"].flags.writeable = False
    with pytest.raises(ValueError, match=r"^params\['b'\] must be writable"):
        with optimizer.averaged():
            pass
    assert bits(params.values()) == before
    params["b"].flags.writeable = True
    optimizer.param_groups[0]["params"][1] = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"^params\['b'\] must be contiguous"):
        with optimizer.averaged():
            pass


def test_a_net_is_evaluated_with_averages():
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    optimizer = SGD(net.parameters(), lr=0.5, ema_decay=0.5)
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    first = [param.copy() for param in net.parameters()]
    net.backward(np.ones_like(net.forward(x)))
    optimizer.step(net.gradients())
    mean = nn.Sequential(nn.Linear(3, 2, rng=0))
    for param, before, after in zip(mean.parameters(), first, net.parameters()):
        param[...] = (before + after) / 2
    with optimizer.averaged():
        # Two roundings of numbers below 32: after + (before - after) / 2.
        np.testing.assert_allclose(net(x), mean(x), rtol=0, atol=11 * 4 * 32 * np.finfo(np.float32).eps)
        assert not np.allclose(net(x), 0)
