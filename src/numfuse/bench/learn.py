"""Seconds to train the same net on the same data to the same accuracy, in each library as its users train.

A run is a dict: `machine`, `versions`, `command`, `left_out`, `options`, and `rows`. A row is a data set with a
number of threads; its `runs` hold for each library, and each `seed`, the `seconds` and the `accuracy` on the test rows
of every epoch, and `failed` says why a library has none.
"""

import contextlib
import math
import multiprocessing
import signal
import statistics
import time
import traceback
from dataclasses import dataclass, replace

import numpy as np

from .. import __version__, native, nn, optim
from ..train import fit, mlp, predict
from . import peers
from .worker import THREADS, environment

FORMAT = 1
OURS = "numfuse"
PEERS = ["torch", "sklearn", "keras"]  # modules of `peers` that have a `learner`
LR, EPS = 1e-3, 1e-8  # of Adam


@dataclass(frozen=True)
class Task:
    """A net to train: Linear and ReLU for each of `hidden`, then Linear; softmax cross-entropy; Adam.

    x_train, x_test : float32 (rows, features), scaled
    y_train, y_test : int64 labels 0 .. classes - 1
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int
    hidden: tuple
    batch: int
    lr: float = LR
    eps: float = EPS

    def thrown_away(self):
        """The same with few random training rows, whose batches have the sizes of the real ones."""
        rng = np.random.default_rng(0)
        rows = min(len(self.x_train), 2 * self.batch + len(self.x_train) % self.batch)
        x = rng.standard_normal((rows, self.x_train.shape[1]), dtype=np.float32)
        return replace(self, x_train=x, y_train=np.arange(rows) % self.classes)


def learner(task, seed):
    """(epoch, predict) of numfuse: functions that train for an epoch, and that give the labels of rows.

    Modules of `peers` have this function as well.
    """
    rng = np.random.default_rng(seed)
    net = mlp(task.x_train.shape[1], task.classes, task.hidden, batch_norm=False, rng=rng)
    loss, optimizer = nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=task.lr, eps=task.eps)

    def epoch():
        fit(net, loss, optimizer, task.x_train, task.y_train, epochs=1, batch_size=task.batch, rng=rng,
            schedule="constant")

    return epoch, lambda x: predict(net, x).argmax(axis=1)


class LearnerProcess:
    """A process of its own that trains with one library and a number of threads; a context manager that ends it.

    versions : of the library
    """

    def __init__(self, library, threads, task):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, library, threads, task), daemon=True)
        with environment({**dict.fromkeys(THREADS, str(threads)), "CUDA_VISIBLE_DEVICES": ""}):
            self._process.start()
        theirs.close()
        self.versions = self._receive()

    def train(self, seed, epochs, accuracy=None):
        """Yield (seconds, accuracy) of each epoch, until `accuracy` is reached if it is not None."""
        with contextlib.suppress(OSError):  # of a process that died: receiving says so
            self._connection.send((seed, epochs, accuracy))
        while (epoch := self._receive()) is not None:
            yield epoch

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _receive(self):
        try:
            answer, error = self._connection.recv()
        except (EOFError, OSError):
            raise LearnerError("its process was killed: out of memory?") from None
        if error:
            raise LearnerError(error)
        return answer


class LearnerError(Exception):
    """A library cannot train; the message says why."""


def measure(row, task, libraries, versions, *, seeds, epochs, on_start, on_epoch):
    """Fill the `runs` and `failed` of a row, seed by seed, and `versions`.

    The libraries take turns, the first of a seed being another for each. A run ends early when it reaches the row's
    `accuracy`, if that is not None. `on_start` and `on_epoch` are called with the name of the library.
    """
    with contextlib.ExitStack() as stack:
        processes = {}
        for library in libraries:
            on_start(library)
            try:
                processes[library] = stack.enter_context(LearnerProcess(library, row["threads"], task))
                versions.update(processes[library].versions)
            except LearnerError as error:
                row["failed"][library] = str(error)
        for seed in range(seeds):
            first = seed % len(libraries)
            for library in libraries[first:] + libraries[:first]:
                if library in row["failed"]:
                    continue
                run = {"seed": seed, "seconds": [], "accuracy": []}
                try:
                    for seconds, reached in processes[library].train(seed, epochs, row["accuracy"]):
                        run["seconds"].append(float(f"{seconds:.4g}"))
                        run["accuracy"].append(reached)
                        on_epoch(library)
                except LearnerError as error:
                    row["failed"][library] = str(error)
                else:
                    row["runs"].setdefault(library, []).append(run)


def common_accuracy(row):
    """The accuracy that all runs of a row reach, rounded down to 0.1 %; None if there is no run.

    It is the lowest of their best ones, less the standard error of an accuracy on so many test rows: to wait for the
    best epoch of the least lucky run would be to measure its luck.
    """
    bests = [max(run["accuracy"]) for runs in row["runs"].values() for run in runs]
    if not bests:
        return None
    low = min(bests)
    return max(0, math.floor(1000 * (low - math.sqrt(low * (1 - low) / row["test_rows"])))) / 1000


def summary(row, library):
    """What the runs of a library come to, or None if there are none.

    seconds, epochs : until the row's `accuracy` was first reached, a list with a number for each seed, math.inf for
        a run that did not reach it
    epoch_seconds : the median of all epochs; best : the median of the best accuracies
    """
    runs = row["runs"].get(library)
    if not runs:
        return None
    epochs = [next((i for i, value in enumerate(run["accuracy"], 1) if value >= row["accuracy"]), math.inf)
              for run in runs]
    return {
        "seconds": [sum(run["seconds"][:n]) if n < math.inf else n for run, n in zip(runs, epochs)],
        "epochs": epochs,
        "epoch_seconds": statistics.median(value for run in runs for value in run["seconds"]),
        "best": statistics.median(max(run["accuracy"]) for run in runs),
    }


def _serve(connection, library, threads, task):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, which then stops this process
    try:
        make, versions = _load(library, threads)
        with np.errstate(all="ignore"):
            epoch, predict = make(task.thrown_away(), 0)
            epoch()
            predict(task.x_test)
            connection.send((versions, None))  # from here on this process waits while others train
            while True:
                seed, *limits = connection.recv()
                for answer in _epochs(make(task, seed), task, *limits):
                    connection.send((answer, None))
                connection.send((None, None))
    except (EOFError, OSError):
        pass
    except Exception as error:
        connection.send((None, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


def _load(library, threads):
    native.set_num_threads(threads)
    if library == OURS:
        return learner, {OURS: __version__, "numpy": np.__version__}
    peer = peers.load(library)
    peer.configure(threads)
    return peer.learner, peer.versions()


def _epochs(functions, task, epochs, accuracy):
    epoch, predict = functions
    for _ in range(epochs):
        start = time.perf_counter()
        epoch()
        seconds = time.perf_counter() - start
        reached = float(np.mean(predict(task.x_test) == task.y_test))
        yield seconds, reached
        if accuracy is not None and reached >= accuracy:
            break
