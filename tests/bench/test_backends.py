import copy
import pickle
import types

import numpy as np
import pytest
from helpers.training import problem, same_state

from numfuse import native, optim, reference
from numfuse.bench import textbook
from numfuse.bench.backends import compare_backends


def test_compare_backends_trains_copies_on_the_same_numbers():
    *training, rng = problem()
    before = training[0].state_dict()
    seconds, losses, batches, epochs = compare_backends(
        *training, batch_size=16, rng=rng, backends=[reference, reference, native], min_seconds=0.1)
    assert batches == 13 and epochs > 0 and all(value > 0 for value in seconds)
    assert losses[0] == losses[1]
    # All kernels but batch norm's sums give the same bits; some steps let those differ a little.
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)
    assert same_state(before, training[0].state_dict())
    assert training[0].kernels is native and training[2].kernels is native


@pytest.mark.parametrize("make, step", [
    (optim.SGD, "sgd_step"), (optim.RMSProp, "rmsprop_step"), (optim.AdamW, "adam_step"),
])
def test_every_kernel_of_a_training_step_is_the_compared_backends(make, step):
    net, loss, _, x, y, rng = problem()
    called = []

    def spy(name, backend):
        def call(*args, **options):
            called.append((name, backend))
            return getattr(reference, name)(*args, **options)

        return call

    backends = [types.ModuleType("first"), types.ModuleType("second")]
    for backend in backends:
        vars(backend).update({name: spy(name, backend) for name in reference.__all__})
    compare_backends(net, loss, make(net.parameters(), lr=0.01), x, y, batch_size=100, rng=rng,
                     backends=backends, min_seconds=0.0)
    kernels = ["batch_norm_relu_dropout_forward", "bias_forward", "bias_backward"]
    layers = [*kernels, "batch_norm_relu_dropout_backward"]
    assert called == [(name, backend) for backend in backends for name in [*layers, step] * 2]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("make", [optim.SGD, optim.RMSProp, optim.Adam, optim.AdamW])
def test_textbook_numpy_trains_alike(task, make):
    net, loss, _, x, y, rng = problem(task, dropout=0.0)
    optimizer = make(net.parameters(), lr=0.01, weight_decay=0.1)
    losses = compare_backends(net, loss, optimizer, x, y, batch_size=32, rng=rng,
                              backends=[reference, textbook], min_seconds=0.0)[1]
    # float32 in another order, through seven steps, which may turn a few of the ReLUs near 0.
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and losses[1] != losses[0]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_stay_with_textbook_numpy(duplicate):
    net, _, optimizer, *_ = problem()
    net, optimizer = duplicate((net.set_backend(textbook), optimizer.set_backend(textbook)))
    assert all(module.kernels is textbook for module in (net, *net, optimizer))


def test_textbook_dropout_drops_the_same_in_both_directions():
    x = np.ones((100, 100), np.float32)
    y, mask = textbook.dropout_forward(x, p=0.2, seed=0, offset=0, inverted=True)
    np.testing.assert_array_equal(textbook.dropout_backward(x, mask, p=0.2), y)
    assert y.dtype == np.float32 and set(np.unique(y)) == {0, np.float32(1.25)}
    assert not np.array_equal(y, textbook.dropout_forward(x, p=0.2, seed=0, offset=0, inverted=True)[0])


def test_compare_backends_stops_when_time_is_up():
    *training, rng = problem()
    _, losses, batches, epochs = compare_backends(
        *training, batch_size=8, rng=rng, backends=[reference], min_seconds=0.0, max_seconds=1e-9)
    assert (batches, epochs) == (10, 1) and np.isfinite(losses).all()
