"""Training with several backends, timed in turns."""

import copy
import time

import numpy as np

from ..data import batch_rows
from ..train import train_batch


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
    rng, runs = np.random.default_rng(rng), []
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
