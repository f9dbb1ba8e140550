import math
from dataclasses import asdict

import numpy as np
import pytest

from numfuse import nn, optim
from numfuse.data import batch_rows
from numfuse.data.rows import Rows
from numfuse.optim import schedules
from numfuse.train import Epoch, evaluate, fit, load_checkpoint, mlp


class Recorder(nn.Sequential):
    """A net that notes the first column of what it is trained on: the numbers of the rows."""

    def __init__(self, *layers):
        super().__init__(*layers)
        self.seen = []

    def forward(self, x):
        if self.training:
            self.seen.append(x[:, 0].astype(int).tolist())
        return super().forward(x)


def labels(n=40, seed=0):
    """Rows whose first column is their number, and labels of which one in four is 1."""
    x = np.random.default_rng(seed).standard_normal((n, 3), dtype=np.float32)
    x[:, 0] = np.arange(n)
    return x, (np.arange(n) % 4 == 0).astype(np.int64)


def recorded(n=40, lr=0.0, **options):
    """What a Recorder sees in a training, as a list of batches, and the history."""
    net = Recorder(nn.Linear(3, 2, rng=0))
    history = fit(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=lr), *labels(n), **options)
    return net.seen, history


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


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 100])
def test_accumulated_batches_are_one_big_batch(reduction, weighted, accumulate):
    """Plain SGD on float64, 22 rows in batches of 4 and, at last, 2: the parameters are those of the big batches."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 3)), rng.standard_normal((22, 2))
    weight = rng.random(22) if weighted else None
    params = []
    for options in ({"batch_size": 4, "accumulate": accumulate}, {"batch_size": 4 * accumulate}):
        net = nn.Sequential(nn.Linear(3, 4, dtype=np.float64, rng=0), nn.Tanh(),
                            nn.Linear(4, 2, dtype=np.float64, rng=0))
        optimizer = optim.SGD(net.parameters(), lr=0.1 if reduction == "mean" else 0.01)
        history = fit(net, nn.MSELoss(reduction), optimizer, x, y, sample_weight=weight, epochs=3, rng=0,
                      schedule="constant", **options)
        params.append([*net.parameters(), np.array([epoch.loss for epoch in history])])
    for mine, other in zip(*params):
        # Sums of 22 numbers of order 1 in another order, in 3 to 18 steps.
        np.testing.assert_allclose(mine, other, rtol=0, atol=18 * 22 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("weighted", [False, True])
def test_accumulated_batches_weigh_their_classes(weighted):
    """As above; and what has no weight is left out."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 3)), np.arange(30) % 3
    weight = 1 + rng.random(30) if weighted else None
    seen = []
    for options in ({"batch_size": 4, "accumulate": 3}, {"batch_size": 12}):
        net = nn.Sequential(nn.Linear(3, 3, dtype=np.float64, rng=0))
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        history = fit(net, nn.CrossEntropyLoss(weight=[0.5, 0, 3]), optimizer, x, y, sample_weight=weight, epochs=3,
                      rng=0, validation=(x, y), **options)
        losses = [(epoch.loss, epoch.validation_loss) for epoch in history]
        seen.append([*net.parameters(), np.array(losses)])
    for mine, other in zip(*seen):
        np.testing.assert_allclose(mine, other, rtol=0, atol=18 * 22 * np.finfo(np.float64).eps)
    expected = nn.CrossEntropyLoss(weight=[0.5, 0, 3]).forward(net(x), y)
    # A weighted mean of 30 numbers, of which 10 are 0, and of 20.
    assert losses[-1][1] == pytest.approx(expected, rel=30 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_of_classes_without_weight_count_as_in_the_loss(label_smoothing, weighted):
    """One batch in float64: a step of `fit` is that of the loss itself, whose smoothed labels have every row."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 4)), np.arange(20) % 3
    weight = np.arange(20) % 4 / 2 if weighted else None
    loss = nn.CrossEntropyLoss(weight=[0, 1, 2], label_smoothing=label_smoothing)
    params = []
    for whole in (True, False):
        net = nn.Sequential(nn.Linear(4, 3, dtype=np.float64, rng=0))
        optimizer = optim.SGD(net.parameters(), lr=0.5)
        if whole:
            expected = loss.forward(net(x), y, weight)
            net.backward(loss.backward())
            optimizer.step(net.gradients())
        else:
            (epoch,) = fit(net, loss, optimizer, x, y, sample_weight=weight, epochs=1, batch_size=20, rng=0)
        params.append(net.parameters())
    # Sums of 20 numbers of order 1 in another order.
    assert epoch.loss == pytest.approx(expected, rel=20 * np.finfo(np.float64).eps)
    for mine, other in zip(*params):
        np.testing.assert_allclose(mine, other, rtol=0, atol=20 * np.finfo(np.float64).eps)


def test_classes_without_any_weight():
    x, y = labels()
    net = nn.Sequential(nn.Linear(3, 3, rng=0))
    with pytest.raises(ValueError, match="weights of the classes that there are must not all be 0"):
        fit(net, nn.CrossEntropyLoss(weight=[0, 0, 1]), optim.SGD(net.parameters()), x, y, epochs=1, batch_size=8)


def test_held_out_rows_without_any_weight():
    x, y = labels()
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    loss = nn.CrossEntropyLoss("sum", weight=[0, 1], label_smoothing=0.1)
    with pytest.raises(ValueError, match="validation must suit .*: their weights must not all be 0"):
        fit(net, loss, optim.SGD(net.parameters()), x, (x[:, 0] == 0).astype(int), epochs=1, batch_size=8, rng=3,
            validation=0.2)


def test_a_weight_in_the_middle_is_enough_to_begin():
    """First and last row, least and greatest label: all weigh 0."""
    x, _ = labels(9)
    net = nn.Sequential(nn.Linear(3, 3, rng=0))
    loss = nn.CrossEntropyLoss(weight=[0, 1, 0], label_smoothing=0.1)
    fit(net, loss, optim.SGD(net.parameters()), x, np.arange(9) // 3, epochs=1, batch_size=9, rng=0)


def test_a_sum_over_a_batch_without_any_weight():
    """Smoothed labels have a loss even so; it has no mean yet."""
    x, y = labels()
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    loss, means = nn.CrossEntropyLoss("sum", weight=[0, 1], label_smoothing=0.1), []
    fit(net, loss, optim.SGD(net.parameters(), lr=0.0), x, y, epochs=1, batch_size=2, rng=0,
        on_batch=lambda epoch: means.append(epoch.loss))
    assert math.isnan(means[0]) and means[-1] == pytest.approx(loss(net(x), y) / y.sum(), rel=2**-20)


def test_accumulation_in_float32_sets_off_no_batch():
    """Equal batches of a power of two: the gradients are scaled exactly."""
    steps = []

    class Counted(optim.SGD):
        def step(self, grads):
            steps.append([grad.copy() for grad in grads])
            return super().step(grads)

    x, y = labels(32)
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    optimizer = Counted(net.parameters(), lr=0.0)
    fit(net, nn.CrossEntropyLoss(), optimizer, x, y, epochs=1, batch_size=8, accumulate=2, rng=0)
    assert len(steps) == 2
    loss = nn.CrossEntropyLoss(reduction="sum")
    loss.forward(net.forward(x), y)
    net.backward(loss.backward())
    for first, second, whole in zip(*steps, net.gradients()):
        # Means over 16 rows of numbers up to 32; float32 sums of 32 terms.
        np.testing.assert_allclose((first + second) * 16, whole, rtol=0, atol=32 * 32 * 32 * 2**-24)


def test_weights_enter_the_loss_and_rows_of_weight_0_nothing():
    x, y = labels()
    y = y[:, None].astype(np.float32)
    weight = np.arange(40) % 3 / 2
    net = Recorder(nn.Linear(3, 1, rng=0))
    (epoch,) = fit(net, nn.MSELoss(), optim.SGD(net.parameters(), lr=0.0), x, y, sample_weight=weight,
                   epochs=1, batch_size=7, rng=0)
    assert set(sum(net.seen, [])) == set(np.flatnonzero(weight))
    errors = np.square(net.eval()(x) - y)[:, 0]
    # float32 losses up to 1e3, weighted in float64 sums of few terms.
    assert epoch.loss == pytest.approx(np.average(errors, weights=weight), rel=2**-20)


def test_weights_follow_their_rows_into_validation():
    x, y = labels()
    y = y[:, None].astype(np.float32)
    weight = 1.0 + np.arange(40)
    net = Recorder(nn.Linear(3, 1, rng=0))
    optimizer = optim.SGD(net.parameters(), lr=0.0)
    (epoch,) = fit(net, nn.MSELoss(), optimizer, x, y, sample_weight=weight, epochs=1, batch_size=7, rng=0,
                   validation=0.2)
    rows = sorted(set(range(40)) - set(sum(net.seen, [])))
    errors = np.square(net.eval()(x) - y)[:, 0]
    assert epoch.validation_loss == pytest.approx(np.average(errors[rows], weights=weight[rows]), rel=2**-20)
    (epoch,) = fit(net, nn.MSELoss(), optimizer, x, y, epochs=1, batch_size=7, rng=0,
                   validation=(x, y, weight))
    assert epoch.validation_loss == pytest.approx(np.average(errors, weights=weight), rel=2**-20)


def noisy(seed=0, **options):
    """Labels of pure noise: the validation loss soon rises. Net, optimizer and the arguments of `fit`."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((60, 5), dtype=np.float32), rng.integers(2, size=60)
    net = mlp(5, 2, [16], dropout=0.2, rng=seed)
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    return net, optimizer, {"net": net, "loss": nn.CrossEntropyLoss(), "optimizer": optimizer, "x": x, "y": y,
                            "batch_size": 16, "rng": seed, "validation": 0.3, **options}


def shown(net):
    with np.printoptions(floatmode="unique", threshold=10**6):
        return str(net.state_dict())


@pytest.mark.parametrize("monitor", ["loss", "score"])
@pytest.mark.parametrize("seed", range(3))
def test_early_stopping_restores_the_best_epoch(monitor, seed):
    states = []
    net, _, arguments = noisy(seed, monitor=monitor, patience=4, on_epoch=lambda epoch: states.append(shown(net)))
    history = fit(**arguments, epochs=100)
    values = [epoch.validation_score if monitor == "score" else -epoch.validation_loss for epoch in history]
    best = int(np.argmax(values))  # the first of equals
    assert history.stop_reason == "patience" and len(history) == best + 1 + 4
    assert history.best == best + 1 and shown(net) == states[best] != states[-1]


def test_averages_are_validated_and_restored_with_the_parameters_they_are_of():
    states, scores = [], []

    def averages():
        return str([state["ema_param"] for state in optimizer.state_dict()["state"].values()])

    def look(epoch):
        states.append((shown(net), averages()))
        with optimizer.averaged():
            scores.append(evaluate(net, *arguments["validation"]))

    net, _, arguments = noisy(monitor="score", patience=5, on_epoch=look)
    optimizer = arguments["optimizer"] = optim.SGD(net.parameters(), lr=0.5, ema_decay=0.5)
    arguments["validation"] = arguments["x"][:20], arguments["y"][:20]
    history = fit(**arguments, epochs=100)
    assert [epoch.validation_score for epoch in history] == scores and len(set(scores)) > 1
    assert (shown(net), averages()) == states[int(np.argmax(scores))] != states[-1]


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_the_best_epoch_is_kept_once_and_with_averages_twice(tmp_path, ema_decay):
    net, _, arguments = noisy(patience=5, checkpoint=tmp_path / "c.npz")
    arguments["optimizer"] = optim.SGD(net.parameters(), lr=0.01, ema_decay=ema_decay)
    fit(**arguments, epochs=1)
    best = load_checkpoint(tmp_path / "c.npz")["best"]
    kept = [value for value in best.values() if isinstance(value, dict)]
    assert [list(state) for state in kept] == [list(net.state_dict())] * (1 if ema_decay is None else 2)


def test_small_improvements_do_not_count():
    *_, arguments = noisy(patience=3, min_delta=1e9)
    history = fit(**arguments, epochs=100)
    assert (history.stop_reason, history.best, len(history)) == ("patience", 1, 4)


def test_the_best_epoch_is_restored_when_all_are_done():
    states = []
    net, _, arguments = noisy(patience=1000, on_epoch=lambda epoch: states.append(shown(net)))
    history = fit(**arguments, epochs=12)
    best = int(np.argmin([epoch.validation_loss for epoch in history]))
    assert history.stop_reason == "" and len(history) == 12 and best < 11
    assert history.best == best + 1 and shown(net) == states[best]


def test_without_patience_the_net_stays_as_it_is():
    states = []
    net, _, arguments = noisy(on_epoch=lambda epoch: states.append(shown(net)))
    history = fit(**arguments, epochs=12)
    assert history.best is None and shown(net) == states[-1]


def test_a_validation_loss_of_nan_is_never_best():
    net, _, arguments = noisy(patience=2)
    arguments["validation"] = np.full((4, 5), np.nan, np.float32), np.array([0, 1, 0, 1])
    history = fit(**arguments, epochs=9)
    assert (history.stop_reason, history.best, len(history)) == ("patience", None, 2)


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


def rates(schedule, **options):
    """The learning rate before each of 3 epochs' 2 steps, and what the history and the optimizer say."""
    seen = []

    class Watched(optim.SGD):
        def step(self, grads):
            seen.append(self.param_groups[0]["lr"])
            return super().step(grads)

    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    optimizer = Watched(net.parameters(), lr=0.5)
    schedule = schedule(optimizer) if callable(schedule) else schedule
    x, y = labels(32)
    history = fit(net, nn.CrossEntropyLoss(), optimizer, x, y, epochs=3, batch_size=8, accumulate=2, rng=0,
                  schedule=schedule, **options)
    assert [epoch.lr for epoch in history] == seen[1::2]
    return seen, optimizer.param_groups[0]["lr"]


def test_named_schedules():
    thirds = [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]
    for name, share in (("linear", lambda t: 1 - t), ("cosine", lambda t: (1 + math.cos(math.pi * t)) / 2),
                        ("constant", lambda t: 1)):
        seen, after = rates(name)
        assert seen == pytest.approx([0.5 * share(t) for t in thirds], rel=1e-12) and after == 0.5


def test_a_scheduler_steps_with_the_optimizer_or_once_an_epoch():
    def halved(optimizer):
        return optim.Scheduler(optimizer, lr=schedules.ExponentialLR(gamma=0.5))

    assert rates(halved) == ([0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625], 0.0078125)
    assert rates(halved, schedule_every="epoch") == ([0.5, 0.5, 0.25, 0.25, 0.125, 0.125], 0.0625)


@pytest.mark.parametrize("validation", [None, 0.25])
def test_a_scheduler_may_go_by_the_loss(validation):
    metrics = []

    class Watching(optim.Scheduler):
        def step(self, metric=None):
            metrics.append(metric)
            super().step(metric)

    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    optimizer = optim.SGD(net.parameters(), lr=1e-3)
    scheduler = Watching(optimizer, lr=schedules.ReduceLROnPlateau(patience=0))
    history = fit(net, nn.CrossEntropyLoss(), optimizer, *labels(), epochs=4, batch_size=8, rng=0,
                  validation=validation, schedule=scheduler, schedule_every="epoch")
    assert metrics == [epoch.validation_loss if validation else epoch.loss for epoch in history]


STEP, PLATEAU = schedules.StepLR(3), schedules.ReduceLROnPlateau()


@pytest.mark.parametrize("schedule, every, error, fault", [
    (lambda optimizer: STEP, "step", TypeError, r"schedule must be linear, .* or a Scheduler, was StepLR\("),
    (lambda optimizer: None, "step", TypeError, "schedule must be linear, .* or a Scheduler, was None"),
    (lambda optimizer: ["linear"], "step", TypeError, "schedule must be linear"),
    (lambda optimizer: optim.Scheduler(optim.SGD([np.ones(2)]), lr=STEP), "step", ValueError, "another's"),
    (lambda optimizer: optim.Scheduler(optimizer, lr=PLATEAU), "step", ValueError, 'schedule_every must be "epoch"'),
    (lambda optimizer: optim.Scheduler(optimizer, lr=schedules.SequentialLR([STEP, schedules.ChainedScheduler([PLATEAU])], [1])),
     "step", ValueError, 'must be "epoch" for a Scheduler that needs a metric'),
    (lambda optimizer: "cosine", "epoch", ValueError, "schedule_every must be \"step\" for schedule 'cosine', was"),
])
def test_schedules_that_do_not_suit_change_nothing(schedule, every, error, fault):
    net, optimizer, arguments = noisy()
    schedule = schedule(optimizer)
    before = shown(net), str(optimizer.state_dict())
    with pytest.raises(error, match=fault):
        fit(**arguments, epochs=2, schedule=schedule, schedule_every=every)
    assert (shown(net), str(optimizer.state_dict())) == before


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


def test_skipped_steps_are_counted():
    class Skipping(optim.SGD):
        calls = 0

        def step(self, grads):
            self.calls += 1
            return self.calls % 3 > 0 and super().step(grads)

    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    history = fit(net, nn.CrossEntropyLoss(), Skipping(net.parameters()), *labels(), epochs=2, batch_size=10, rng=0)
    assert [epoch.skipped_steps for epoch in history] == [1, 1]


def test_steps_with_gradients_that_are_not_finite_are_skipped():
    x, y = labels()
    x[7, 1] = np.inf
    net = nn.Sequential(nn.Linear(3, 2, rng=0))
    optimizer = optim.Adam(net.parameters(), skip_nonfinite=True)
    with np.errstate(invalid="ignore"):
        history = fit(net, nn.CrossEntropyLoss(), optimizer, x, y, epochs=3, batch_size=10, rng=0)
    assert [epoch.skipped_steps for epoch in history] == [1, 1, 1] and optimizer.skipped_steps == 3
    assert all(np.isfinite(param).all() for param in net.parameters())


@pytest.mark.parametrize("option", [{"skip_nonfinite": True}, {"max_grad_norm": 1e9}])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_skipped_step_leaves_nothing_of_its_batches(option, accumulate):
    """Equal to the bit to a training on the rows of the other steps, in batch norm, dropout and the mean loss."""
    x, y = labels()
    bad = x.copy()
    bad[7, 1] = np.inf
    spoilt, seen = [], []

    class Watched(nn.Sequential):
        def forward(self, x):
            spoilt.append(not np.isfinite(x).all())
            return super().forward(x)

    net = Watched(*mlp(3, 2, [4], dropout=0.5, rng=0))
    optimizer = optim.SGD(net.parameters(), lr=0.1, **option)
    with np.errstate(invalid="ignore"):
        (epoch,) = fit(net, nn.CrossEntropyLoss(), optimizer, bad, y, epochs=1, batch_size=5, accumulate=accumulate,
                       rng=0, schedule="constant", on_batch=lambda epoch: seen.append(epoch.loss))
    assert epoch.skipped_steps == 1 and epoch.batch == 8 and seen[-1] == epoch.loss
    spoilt = spoilt[-8:]

    other = mlp(3, 2, [4], dropout=0.5, rng=0)
    optimizer, loss, values, hits = optim.SGD(other.parameters(), lr=0.1), nn.CrossEntropyLoss(), [], 0
    batches = batch_rows(40, 5, np.random.default_rng([0, 1]))
    for step in range(0, 8, accumulate):
        if any(spoilt[step : step + accumulate]):
            continue
        for i in range(accumulate):
            rows = batches[step + i]
            output = other(x[rows])
            values.append(5 * loss.forward(output, y[rows]))
            hits += np.count_nonzero(output.argmax(axis=1) == y[rows])
            other.backward(loss.backward() * np.float32(1 / accumulate), accumulate=i > 0)
        optimizer.step(other.gradients())
    assert len(values) == 8 - accumulate and shown(net) == shown(other)
    assert epoch.loss == pytest.approx(sum(values) / len(values) / 5, rel=16 * np.finfo(np.float64).eps)
    assert epoch.score == pytest.approx(hits / len(values) / 5, rel=16 * np.finfo(np.float64).eps)


def test_an_epoch_of_skipped_steps_has_no_loss():
    x, y = labels()
    net = mlp(3, 2, [4], rng=0)
    before = shown(net)
    with np.errstate(invalid="ignore"):
        (epoch,) = fit(net, nn.CrossEntropyLoss(), optim.Adam(net.parameters(), skip_nonfinite=True), x * np.nan, y,
                       epochs=1, batch_size=10, rng=0)
    assert shown(net) == before and epoch.skipped_steps == 4
    assert math.isnan(epoch.loss) and math.isnan(epoch.score)


def test_no_epochs():
    net, optimizer, arguments = noisy(patience=3)
    before = shown(net)
    history = fit(**arguments, epochs=0)
    assert history == [] and history.stop_reason == "" and history.best is None
    assert shown(net) == before and optimizer.param_groups[0]["lr"] == 0.02


def test_an_epoch_is_plain_numbers():
    _, (epoch,) = recorded(epochs=1, batch_size=8, rng=0, validation=0.2)
    assert {name: type(value) for name, value in asdict(epoch).items()} == Epoch.__annotations__


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


def test_rows_of_quantities_are_split_by_their_first_column():
    y = np.random.default_rng(0).standard_normal((100, 2))
    kept, aside = Rows(None, np.arange(100.0)[:, None], y).split(0.1, np.random.default_rng(0))
    assert (len(kept), len(aside)) == (90, 10)
    # One of every ten in sorted order.
    order = np.argsort(np.argsort(y[:, 0]))[aside.x[:, 0].astype(int)]
    assert sorted(order // 10) == list(range(10))
