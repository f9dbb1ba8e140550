import numpy as np
import pytest
from helpers.training import noisy, shown

from numfuse import optim
from numfuse.train import evaluate, fit, load_checkpoint


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
