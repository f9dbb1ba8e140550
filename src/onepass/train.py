"""Training: the loop, and a comparison of backends."""

import copy
import math
import time
from dataclasses import dataclass

import numpy as np

from .checkpoint import load_checkpoint, save_checkpoint
from .data import batch_rows
from .model import Model, error_sum, evaluate, mlp, predict, spread
from .nn.module import backward_parameters

__all__ = ["Epoch", "Model", "compare_backends", "evaluate", "fit", "load_checkpoint", "mlp", "predict",
           "save_checkpoint", "train_batch"]


@dataclass
class Epoch:
    """What an epoch has come to, so far or in the end."""

    number: int  # from 1
    batches: int
    batch: int = 0  # batches done
    loss: float = math.nan  # mean over the rows, each as its batch was trained on
    score: float = math.nan  # of the same outputs; see `evaluate`
    seconds: float = 0.0  # spent in training, callbacks of a batch included
    test_score: float = math.nan  # for a callback to fill in


def fit(net, loss, optimizer, x, y, *, epochs, batch_size, rng, decay=True, on_batch=None, on_epoch=None):
    """Train `net` in place and return a list of `Epoch`, one for each that was completed.

    x : float32 array (rows, features)
    y : integer labels (rows,), or float32 targets (rows, outputs)
    rng : numpy.random.Generator that shuffles the rows anew in each epoch
    decay : let every learning rate fall linearly, from what it is to 0 at the end of training; it is
        set back afterwards
    on_batch, on_epoch : called with the current `Epoch` after each batch, each epoch

    KeyboardInterrupt (Ctrl-C) ends training early and leaves the net as it then is.
    """
    history = []
    rates = [group["lr"] for group in optimizer.param_groups]
    variance = spread(y)
    try:
        for number in range(1, epochs + 1):
            net.train()
            start = time.perf_counter()
            order = batch_rows(len(x), batch_size, rng)
            epoch = Epoch(number, len(order))
            seen, losses, errors = 0, 0.0, 0.0
            for i, rows in enumerate(order):
                if decay:
                    left = 1 - (number - 1 + i / len(order)) / epochs
                    for group, rate in zip(optimizer.param_groups, rates):
                        group["lr"] = rate * left
                value, output = train_batch(net, loss, optimizer, x[rows], y[rows])
                seen += len(rows)
                losses += value * len(rows)
                errors += error_sum(output, y[rows])
                epoch.batch, epoch.loss, epoch.score = i + 1, losses / seen, 1 - errors / seen / variance
                epoch.seconds = time.perf_counter() - start
                if on_batch:
                    on_batch(epoch)
            epoch.seconds = time.perf_counter() - start
            history.append(epoch)
            if on_epoch:
                on_epoch(epoch)
    except KeyboardInterrupt:
        pass
    finally:
        for group, rate in zip(optimizer.param_groups, rates):
            group["lr"] = rate
    return history


def train_batch(net, loss, optimizer, x, y):
    """One step of training: forward, backward, update. Returns the loss and the net's output."""
    output = net.forward(x)
    value = float(loss.forward(output, y))
    backward_parameters(net, loss.backward())
    optimizer.step(net.gradients())
    return value, output


def compare_backends(
    net, loss, optimizer, x, y, *, batch_size, rng, backends, min_seconds=2.0, max_seconds=20.0
):
    """Time an epoch of training with each of `backends` (modules), on copies of net and optimizer.

    All run the same code on the same batches. They take turns, ten batches each, so that whatever
    else keeps the machine busy meets all alike. Short epochs are repeated, for `min_seconds` in all; an
    epoch is cut short once one backend has used `max_seconds`.

    Returns (seconds, losses, batches, epochs): for each backend the median time of an epoch, and the
    mean loss over all; the number of batches in what was timed as an epoch, and how many such there were.
    """
    runs = []
    for backend in backends:
        copies = copy.deepcopy((net, loss, optimizer))
        copies[0].set_backend(backend).train()
        copies[2].set_backend(backend)
        runs.append(copies)
    losses, seen = [0.0] * len(runs), 0
    epochs = []
    while not epochs or np.sum(epochs) < min_seconds:
        order = batch_rows(len(x), batch_size, rng)
        seconds, done = [0.0] * len(runs), 0
        while done < len(order) and max(seconds) < max_seconds:
            turn = order[done : done + 10]
            for i, copies in enumerate(runs):
                start = time.perf_counter()
                for rows in turn:
                    losses[i] += train_batch(*copies, x[rows], y[rows])[0] * len(rows)
                seconds[i] += time.perf_counter() - start
            done += len(turn)
            seen += sum(len(rows) for rows in turn)
        epochs.append(seconds)
    return np.median(epochs, axis=0), [total / seen for total in losses], done, len(epochs)
