import math

import numpy as np
import pytest
from helpers.training import Recorder, labels

from numfuse import nn, optim
from numfuse.train import fit


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
