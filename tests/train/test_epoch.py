import math
from dataclasses import asdict

import numpy as np
import pytest
from helpers.training import labels, problem, recorded, shown

from numfuse import nn, optim
from numfuse.data import batch_rows
from numfuse.train import Epoch, evaluate, fit, mlp


def test_epoch_reports_the_mean_over_rows():
    net, _, _, x, y, rng = problem(rows=50, dropout=0.0)
    net = nn.Sequential(nn.Linear(4, 2, rng=0))  # no batch statistics: outputs do not depend on the batch
    still = optim.SGD(net.parameters(), lr=0.0)
    loss = nn.CrossEntropyLoss()
    (epoch,) = fit(net, loss, still, x, y, epochs=1, batch_size=32, rng=rng)
    # float32 losses, averaged in another order: a few units in the last of 24 bits.
    assert epoch.loss == pytest.approx(loss.forward(net.forward(x), y), rel=2**-20)
    assert epoch.score == evaluate(net, x, y)


def test_an_epoch_is_plain_numbers():
    _, (epoch,) = recorded(epochs=1, batch_size=8, rng=0, validation=0.2)
    assert {name: type(value) for name, value in asdict(epoch).items()} == Epoch.__annotations__


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
