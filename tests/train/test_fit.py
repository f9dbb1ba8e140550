import math

import numpy as np
import pytest
from helpers.training import labels, noisy, problem, recorded, same_state, shown

from numfuse import nn, optim
from numfuse.train import evaluate, fit, mlp


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_fit_learns(task):
    net, loss, optimizer, x, y, rng = problem(task, dropout=0.0)
    before = evaluate(net, x, y)
    history = fit(net, loss, optimizer, x, y, epochs=20, batch_size=32, rng=rng)
    assert [epoch.number for epoch in history] == list(range(1, 21))
    assert all(epoch.batch == epoch.batches == 7 and epoch.seconds > 0 for epoch in history)
    assert history[-1].loss < history[0].loss / 2
    assert evaluate(net, x, y) > max(before, 0.9)


def test_equal_seeds_give_equal_nets():
    states = []
    for seed in (0, 0, 1):
        *training, rng = problem(seed=seed)
        fit(*training, epochs=2, batch_size=32, rng=rng)
        states.append(training[0].state_dict())
    assert same_state(states[0], states[1]) and not same_state(states[0], states[2])


def test_a_single_remaining_row_does_not_stop_batch_norm():
    net, loss, optimizer, x, y, rng = problem(rows=65)
    assert len(fit(net, loss, optimizer, x, y, epochs=1, batch_size=32, rng=rng)) == 1


def test_the_order_of_an_epoch_depends_on_seed_and_number_alone():
    both, _ = recorded(epochs=2, batch_size=10, rng=3)
    assert sorted(sum(both[:4], [])) == sorted(sum(both[4:], [])) == list(range(40))
    assert both[:4] != both[4:]
    assert recorded(epochs=1, batch_size=10, rng=3)[0] == both[:4]
    assert recorded(epochs=2, batch_size=20, rng=np.int64(3))[0] == [both[i] + both[i + 1] for i in (0, 2, 4, 6)]
    assert recorded(epochs=1, batch_size=10, rng=4)[0] != both[:4]


@pytest.mark.parametrize("make", [lambda: 5, lambda: np.random.default_rng(5)])
def test_seeds_and_generators(make):
    assert recorded(epochs=1, batch_size=10, rng=make())[0] == recorded(epochs=1, batch_size=10, rng=make())[0]


def test_without_a_seed_every_training_is_another():
    assert recorded(epochs=1, batch_size=10)[0] != recorded(epochs=1, batch_size=10)[0]


@pytest.mark.parametrize("share, rows", [(0.25, 10), (0.5, 20), (0.1, 4)])
def test_a_share_of_each_label_is_validated_and_never_trained_on(share, rows):
    seen, history = recorded(epochs=3, batch_size=8, rng=0, validation=share)
    trained = set(sum(seen, []))
    assert len(trained) == 40 - rows and len(sum(seen, [])) == 3 * (40 - rows)
    held_out = sorted(set(range(40)) - trained)
    assert len([i for i in held_out if i % 4 == 0]) in (rows // 4, -(-rows // 4))
    x, y = labels()
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    for epoch in history:  # the rate was 0: the net has not changed
        assert epoch.validation_score == evaluate(net, x[held_out], y[held_out])
        assert epoch.validation_loss == nn.CrossEntropyLoss().forward(net.forward(x[held_out]), y[held_out])
    other, _ = recorded(epochs=1, batch_size=8, rng=1, validation=share)
    assert set(sum(other, [])) != trained


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_validation_rows_of_ones_own(reduction):
    x, y = labels()
    other = labels(30, seed=1)
    net = mlp(3, 2, [4], dropout=0.5, rng=0)
    loss = nn.CrossEntropyLoss(reduction=reduction)
    (epoch,) = fit(net, loss, optim.Adam(net.parameters()), x, y, epochs=1, batch_size=8, rng=0, validation=other)
    assert epoch.validation_score == evaluate(net, *other)
    assert epoch.validation_loss == nn.CrossEntropyLoss().forward(net.eval().forward(other[0]), other[1])


def test_without_validation_there_is_none():
    _, (epoch,) = recorded(epochs=1, batch_size=8, rng=0)
    assert math.isnan(epoch.validation_loss) and math.isnan(epoch.validation_score)


def test_ctrl_c_ends_training_with_the_net_so_far():
    *training, rng = problem()

    def interrupt(epoch):
        if (epoch.number, epoch.batch) == (2, 3):
            raise KeyboardInterrupt

    history = fit(*training, epochs=5, batch_size=32, rng=rng, on_batch=interrupt)
    assert [epoch.number for epoch in history] == [1]
    assert training[2].param_groups[0]["lr"] == 0.03


@pytest.mark.parametrize("disturb", ["evaluate", "eval"])
def test_callbacks_may_evaluate_the_net(disturb):
    """After which a backward would be that of the last training forward before."""
    nets = []
    for on_batch in (None, lambda epoch: evaluate(net, x, y) < 0 if disturb == "evaluate" else net.eval() is None):
        net, loss, optimizer, x, y, _ = problem()
        fit(net, loss, optimizer, x, y, epochs=2, batch_size=50, rng=0, on_batch=on_batch)
        nets.append(net)
    assert same_state(*[net.state_dict() for net in nets])


@pytest.mark.parametrize("where", ["on_batch", "on_epoch"])
@pytest.mark.parametrize("how", ["true", "interrupt"])
def test_callbacks_end_training(where, how):
    calls = []

    def callback(epoch):
        calls.append((epoch.number, epoch.batch))
        if calls[-1] >= (3, 2):
            if how == "interrupt":
                raise KeyboardInterrupt
            return True

    net, optimizer, arguments = noisy(patience=1000, **{where: callback})
    history = fit(**arguments, epochs=9)
    assert history.stop_reason == ("callback" if how == "true" else "interrupt")
    assert calls[-1] == ((3, 2) if where == "on_batch" else (3, 3))
    assert [epoch.number for epoch in history] == ([1, 2] if where == "on_batch" else [1, 2, 3])
    assert history.best in (1, 2, 3) and optimizer.param_groups[0]["lr"] == 0.02


def test_other_errors_come_through():
    def callback(epoch):
        raise RuntimeError("of the callback")

    _, optimizer, arguments = noisy(on_batch=callback)
    with pytest.raises(RuntimeError, match="of the callback"):
        fit(**arguments, epochs=9)
    assert optimizer.param_groups[0]["lr"] == 0.02


def test_groups_by_name_in_another_order_and_frozen_layers():
    x, y = labels()
    nets = [mlp(3, 2, [4], rng=0) for _ in range(2)]
    named = nets[0].named_parameters()
    frozen = named.pop("0.weight").copy()
    optimizers = [
        optim.SGD([{"params": {name: named[name] for name in reversed(named) if name.endswith("bias")}},
                   {"params": {name: named[name] for name in named if name.endswith("weight")}}], lr=0.1),
        optim.SGD([{"params": nets[1].parameters()[:1], "lr": 0.0}, {"params": nets[1].parameters()[1:]}], lr=0.1),
    ]
    for net, optimizer in zip(nets, optimizers):
        fit(net, nn.CrossEntropyLoss(), optimizer, x, y, epochs=2, batch_size=8, rng=0)
    assert shown(nets[0]) == shown(nets[1])
    np.testing.assert_array_equal(nets[0][0].weight, frozen)


def test_an_optimizer_of_another_net():
    net, other = mlp(3, 2, [4], rng=0), mlp(3, 2, [4], rng=0)
    with pytest.raises(ValueError, match="no parameter of the net"):
        fit(net, nn.CrossEntropyLoss(), optim.SGD(other.parameters()), *labels(), epochs=1, batch_size=8)


def test_no_epochs():
    net, optimizer, arguments = noisy(patience=3)
    before = shown(net)
    history = fit(**arguments, epochs=0)
    assert history == [] and history.stop_reason == "" and history.best is None
    assert shown(net) == before and optimizer.param_groups[0]["lr"] == 0.02


@pytest.mark.parametrize("options, error, fault", [
    ({"epochs": -1}, ValueError, "epochs must be at least 0, was -1"),
    ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
    ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    ({"accumulate": 0}, ValueError, "accumulate must be at least 1"),
    ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1"),
    ({"patience": 0}, ValueError, "patience must be at least 1"),
    ({"patience": 3, "validation": None}, ValueError, "patience must come with validation, was 3 without"),
    ({"patience": 3, "min_delta": -1}, ValueError, "min_delta must be >= 0, was -1"),
    ({"patience": 3, "monitor": "accuracy"}, ValueError, 'monitor must be "loss" or "score", was \'accuracy\''),
    ({"min_delta": -1}, ValueError, "min_delta must be >= 0, was -1"),
    ({"monitor": "accuracy"}, ValueError, "monitor must be"),
    ({"on_batch": 3}, TypeError, "on_batch must be a function of the epoch, was 3"),
    ({"on_epoch": "print"}, TypeError, "on_epoch must be a function of the epoch, was 'print'"),
    ({"schedule": "step"}, ValueError, "schedule must be linear, cosine, constant or a Scheduler, was 'step'"),
    ({"schedule_every": "batch"}, ValueError, 'schedule_every must be "step" or "epoch", was \'batch\''),
    ({"rng": -1}, ValueError, "rng must be at least 0, was -1"),
    ({"resume": True}, ValueError, "resume must come with a checkpoint"),
    ({"validation": 1.0}, ValueError, "validation must be"),
    ({"validation": 0}, ValueError, "validation must be"),
    ({"validation": -0.1}, ValueError, "validation must be"),
    ({"validation": 1e-3}, ValueError, "share of 60 rows"),
    ({"validation": (1, 2, 3, 4)}, ValueError, "validation must be a share, .* had 4 items"),
    ({"validation": (np.zeros((3, 5)), np.zeros(4))}, ValueError, "same number of rows, had 3 and 4"),
    ({"validation": "0.1"}, TypeError, "validation must be a number"),
    ({"sample_weight": np.ones(59)}, ValueError, r"sample_weight must have shape \(60,\), had \(59,\)"),
    ({"sample_weight": np.ones((60, 1))}, ValueError, "sample_weight must have shape"),
    ({"sample_weight": np.zeros(60)}, ValueError, "sample_weight must be finite, >= 0 and not all 0"),
    ({"sample_weight": np.r_[np.ones(59), -1]}, ValueError, "sample_weight must be finite"),
    ({"sample_weight": np.r_[np.ones(59), np.nan]}, ValueError, "sample_weight must be finite"),
    ({"sample_weight": np.r_[np.ones(59), np.inf]}, ValueError, "sample_weight must be finite"),
    ({"x": np.zeros((0, 5), np.float32), "y": np.zeros(0, int)}, ValueError, "x must have at least one row, had shape"),
    ({"x": [[1.0]]}, TypeError, r"x must be a NumPy array, \(rows, ...\), was \[\[1.0\]\]"),
    ({"y": np.array(3)}, TypeError, "y must be a NumPy array"),
    ({"x": np.zeros((60, 5))}, TypeError, "x and y must suit the net and the loss: x must be float32"),
    ({"x": np.zeros((60, 4), np.float32)}, ValueError, "x and y must suit the net and the loss: x must have shape"),
    ({"y": np.zeros((60, 2))}, TypeError, "x and y must suit the net and the loss: target must be integer labels"),
    ({"validation": None, "y": 2 * np.eye(60, dtype=int)[7]}, ValueError, "x and y must suit .* labels from 0 to 1"),
    ({"validation": None, "y": -np.eye(60, dtype=int)[7]}, ValueError, "x and y must suit .* labels from 0 to 1"),
    *(({"validation": (x, y)}, error, fault) for x, y, error, fault in [
        (np.zeros((2, 5)), np.zeros(2, int), TypeError, "validation must suit the net and the loss: x must be float32"),
        (np.zeros((2, 4), np.float32), np.zeros(2, int), ValueError, "validation must suit the net and the loss: x"),
        (np.zeros((3, 5), np.float32), np.array([0, 2, 0]), ValueError, "validation must suit .* label"),
        (np.zeros((0, 5), np.float32), np.zeros(0, int), ValueError, r"validation\[0\] must have at least one row"),
        (np.zeros((2, 5), np.float32), [0, 1], TypeError, r"validation\[1\] must be a NumPy array, .* was \[0, 1\]"),
    ]),
    ({"validation": (np.zeros((2, 5), np.float32), np.zeros(2, int), np.zeros(2))}, ValueError,
     r"validation\[2\] must be finite, >= 0 and not all 0"),
    ({"y": np.zeros(59)}, ValueError, "x and y must have the same number of rows, had 60 and 59"),
])
def test_bad_arguments_change_nothing(options, error, fault):
    net, optimizer, arguments = noisy()
    before = shown(net), str(optimizer.state_dict())
    with pytest.raises(error, match=fault):
        fit(**{**arguments, "epochs": 2, **options})
    assert (shown(net), str(optimizer.state_dict())) == before
