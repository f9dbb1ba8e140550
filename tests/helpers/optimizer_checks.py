"""Checks for tests of optimizers."""

import pickle

import numpy as np
import pytest

from helpers.optimizers import FULL


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


def pickled(value):
    return pickle.loads(pickle.dumps(value))


def assert_option_is_refused(cls, options, error, pattern):
    """At construction, in a new group and at the step, before anything is modified."""
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


def assert_option_changes_the_step(cls, options, option):
    """Gradients change their signs, so that it is seen of steps that are made of signs, too."""
    ends = []
    for chosen in (options, {**options, **option}):
        param = np.ones((2, 2))
        optimizer = cls([param], lr=0.01, **chosen)
        for scale in (1, -0.05, 0.5):
            optimizer.step([np.array([[0.5, 1], [-2, 3]]) * scale])
        ends.append(param.tobytes())
    assert ends[0] != ends[1]


def state_after_switching(cls, backend, option):
    """The state after one step without an option and one with it, for which there must be more of it."""
    param, grad = np.ones(3), np.full(3, 0.25)
    optimizer = cls([param], lr=0.1).set_backend(backend)
    optimizer.step([grad])
    optimizer.param_groups[0].update(option)
    optimizer.step([grad])
    state = optimizer.state_dict()["state"][0]
    assert np.isfinite(param).all() and len(state) > len(cls([param]).state_dict()["state"][0])
    return state
