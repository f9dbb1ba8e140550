import math

import numpy as np
import pytest
from helpers.training import labels, noisy, problem, shown

from numfuse import nn, optim
from numfuse.optim import schedules
from numfuse.train import fit


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


def test_decay_ends_near_zero_and_sets_the_rate_back():
    net, loss, optimizer, x, y, rng = problem(rows=64)
    rates = []
    fit(net, loss, optimizer, x, y, epochs=2, batch_size=32, rng=rng,
        on_batch=lambda epoch: rates.append(optimizer.param_groups[0]["lr"]))
    assert rates == [0.03, 0.03 * 0.75, 0.03 * 0.5, 0.03 * 0.25]
    assert optimizer.param_groups[0]["lr"] == 0.03


def test_constant_rate():
    net, loss, optimizer, x, y, rng = problem(rows=64)
    rates = []
    fit(net, loss, optimizer, x, y, epochs=2, batch_size=32, rng=rng, schedule="constant",
        on_batch=lambda epoch: rates.append(optimizer.param_groups[0]["lr"]))
    assert rates == [0.03] * 4


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
    (lambda optimizer: optim.Scheduler(
        optimizer, lr=schedules.SequentialLR([STEP, schedules.ChainedScheduler([PLATEAU])], [1])),
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
