"""The training of one net in several libraries: that all learn, begin anew with each seed, and what is made of it."""

import math
import os
import signal
from dataclasses import replace

import numpy as np
import pytest

from numfuse.bench import learn, peers
from numfuse.bench.learn import LearnerError, LearnerProcess, Task, common_accuracy, summary

BACKENDS = ["jax", "tensorflow", "torch"]


def make_task(classes=3, rows=400, hidden=(16,), lr=1e-2):
    """Two features that tell the classes apart, and a rest of a batch."""
    rng = np.random.default_rng(0)
    y = np.arange(rows + 100) % classes
    angle = 2 * np.pi * y / classes
    x = (np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0, 0.6, (len(y), 2))).astype(np.float32)
    return Task("made up", x[:rows], y[:rows], x[rows:], y[rows:], classes, hidden, 64, lr)


def make_row(**accuracies):
    """A row with runs of these accuracies, whose epochs take 1, 2, 3, ... seconds."""
    runs = {library: [{"seed": i, "seconds": [1.0 + j for j in range(len(run))], "accuracy": run}
                      for i, run in enumerate(runs)] for library, runs in accuracies.items()}
    return {"data": "made up", "threads": 1, "test_rows": 100, "accuracy": None, "runs": runs, "failed": {}}


def skip_without(library):
    if library != learn.OURS and (missing := peers.missing(library)):
        pytest.skip(f"{missing} is not installed")
    if library == "keras" and all(map(peers.missing, BACKENDS)):
        pytest.skip(f"Keras needs one of {', '.join(BACKENDS)}")


@pytest.mark.parametrize("library", [learn.OURS, *learn.PEERS])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_library_learns_and_begins_anew_with_each_seed(library, classes):
    skip_without(library)
    with LearnerProcess(library, 1, make_task(classes)) as process:
        assert process.versions
        first, again, other = (list(process.train(seed, 8)) for seed in (0, 0, 1))
    assert len(first) == 8 and all(seconds > 0 for seconds, _ in first)
    assert first[-1][1] > 0.7
    accuracies = [[accuracy for _, accuracy in run] for run in (first, again, other)]
    assert accuracies[0] == accuracies[1] != accuracies[2]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Keras on JAX, with NumPy 2.4
def test_keras_forgets_what_it_learned_while_it_compiled():
    skip_without("keras")
    task = make_task(classes=50)
    tame, wild = (peers.load("keras").learner(replace(task, lr=lr), seed=0)[1](task.x_test) for lr in (1e-30, 1.0))
    np.testing.assert_array_equal(tame, wild)


def test_training_ends_when_the_accuracy_is_reached():
    with LearnerProcess(learn.OURS, 1, make_task()) as process:
        accuracies = [accuracy for _, accuracy in process.train(0, 8)]
        wanted = sorted(accuracies)[3]
        stopped = [accuracy for _, accuracy in process.train(0, 8, wanted)]
    end = next(i for i, accuracy in enumerate(accuracies, 1) if accuracy >= wanted)
    assert end < 8 and stopped == accuracies[:end]


def test_what_is_thrown_away_has_the_batches_of_the_real_rows():
    task = make_task(rows=400)
    few = task.thrown_away()
    assert len(few.x_train) == len(few.y_train) == 2 * 64 + 400 % 64
    assert few.x_train.dtype == np.float32 and set(few.y_train) == {0, 1, 2}
    assert len(make_task(rows=80).thrown_away().x_train) == 80


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_process_that_dies_costs_its_library_alone(monkeypatch):
    train, task = LearnerProcess.train, make_task()

    def die(self, seed, epochs, accuracy):
        if self.is_victim and seed == 1:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.join()
        return train(self, seed, epochs, accuracy)

    start = LearnerProcess.__init__

    def note(self, library, threads, task):
        self.is_victim = library == "victim"
        start(self, learn.OURS, threads, task)

    monkeypatch.setattr(LearnerProcess, "__init__", note)
    monkeypatch.setattr(LearnerProcess, "train", die)
    row, started = make_row(), []
    learn.measure(row, task, ["victim", learn.OURS], {}, seeds=3, epochs=2, on_start=started.append,
                  on_epoch=lambda library: None)
    assert started == ["victim", learn.OURS]
    assert {library: len(runs) for library, runs in row["runs"].items()} == {"victim": 1, learn.OURS: 3}
    assert list(row["failed"]) == ["victim"] and "killed" in row["failed"]["victim"]


def test_an_error_of_a_library_is_told():
    with pytest.raises(LearnerError, match="ModuleNotFoundError.*nosuchlibrary"):
        LearnerProcess("nosuchlibrary", 1, make_task())


def test_the_common_accuracy_is_one_standard_error_below_the_lowest_best():
    row = make_row(numfuse=[[0.5, 0.9, 0.8], [0.95]], torch=[[0.92]])
    assert common_accuracy(row) == 0.87  # 0.9 - sqrt(0.9 * 0.1 / 100)
    row["test_rows"] = 10**6
    assert common_accuracy(row) == 0.899
    assert common_accuracy(make_row(numfuse=[[0.0]])) == 0
    assert common_accuracy(make_row()) is None


def test_seconds_are_summed_until_the_accuracy_is_first_reached():
    row = make_row(numfuse=[[0.5, 0.9, 0.8], [0.9, 0.7, 0.7], [0.1, 0.2, 0.3]]) | {"accuracy": 0.9}
    found = summary(row, "numfuse")
    assert found["seconds"] == [3.0, 1.0, math.inf] and found["epochs"] == [2, 1, math.inf]
    assert (found["epoch_seconds"], found["best"]) == (2.0, 0.9)
    assert summary(row, "torch") is None
