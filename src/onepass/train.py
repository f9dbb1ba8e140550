"""Training: the network, the loop, its score, a comparison of backends, and a saved model."""

import copy
import json
import math
import time
from dataclasses import dataclass

import numpy as np

from . import nn
from .data import batch_rows
from .files import replacing
from .nn.module import backward_parameters
from .readers import BROKEN_NPZ
from .scaling import SCALERS, Scaler


def mlp(inputs, outputs, hidden, *, batch_norm=True, dropout=0.0, rng=None):
    """A multilayer perceptron: Linear, BatchNorm1d, ReLU and Dropout for each of `hidden`, then Linear.

    >>> [type(layer).__name__ for layer in mlp(8, 1, [16], dropout=0.2)]
    ['Linear', 'BatchNorm1d', 'ReLU', 'Dropout', 'Linear']
    """
    layers = []
    for width in hidden:
        layers.append(nn.Linear(inputs, width, bias=not batch_norm, rng=rng))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(nn.ReLU())
        if dropout:
            layers.append(nn.Dropout(dropout, rng=rng))
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs, rng=rng))


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
    spread = _spread(y)
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
                errors += _error_sum(output, y[rows])
                epoch.batch, epoch.loss, epoch.score = i + 1, losses / seen, 1 - errors / seen / spread
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


def predict(net, x, batch_size=1024):
    """The net's outputs in evaluation mode, (rows, outputs)."""
    net.eval()
    return np.concatenate([net.forward(x[i : i + batch_size]) for i in range(0, max(len(x), 1), batch_size)])


def evaluate(net, x, y):
    """Accuracy for integer labels y (rows,); R^2 for float targets y (rows, outputs).

    R^2 = 1 - mean((output - y)^2) / var(y), which shifting and scaling the target does not change: it
    may be computed on standardised targets.
    """
    return float(1 - _error_sum(predict(net, x), y) / len(y) / _spread(y))


def _error_sum(output, y):
    if y.dtype.kind in "iu":
        return np.count_nonzero(output.argmax(axis=1) != y)
    return float(np.square(output - y).sum(dtype=np.float64))


def _spread(y):
    if y.dtype.kind in "iu":
        return 1.0
    return float(np.square(y - y.mean(axis=0)).sum(dtype=np.float64)) / len(y) or math.nan


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


@dataclass
class Model:
    """A net and what it takes to use it on inputs as they are in the data.

    architecture : the arguments of `mlp`, all but rng
    inputs : the scaler of the inputs, fitted: a `Standardize` or `MinMax`
    targets : that of the target; None for classification
    classes, features : names, as in `Dataset`
    """

    net: nn.Sequential
    architecture: dict
    inputs: Scaler
    targets: Scaler | None
    classes: list[str] | None
    features: list[str] | None

    def predict(self, x):
        """The class names, or the values on the target's own scale, of the rows of x.

        ValueError for x of another shape, or with NaN or infinity.
        """
        x = np.asarray(x)
        if x.ndim < 2 or math.prod(x.shape[1:]) != self.architecture["inputs"]:
            raise ValueError(f"x must have shape (rows, {self.architecture['inputs']}), had {x.shape}")
        output = predict(self.net, self.inputs.transform(x))
        if self.classes is not None:
            return np.array(self.classes)[output.argmax(axis=1)]
        return self.targets.inverse_transform(output)[:, 0]

    def save(self, path):
        """Write an `.npz` file without pickled objects. A failed save leaves an older file as it was."""
        arrays = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        scalers = {}
        for part, scaler in (("inputs", self.inputs), ("targets", self.targets)):
            if scaler is not None:
                scalers[part] = [_kind(scaler), scaler.options()]
                arrays |= {f"{part}.{name}": value for name, value in scaler.state_dict().items()}
        about = {"architecture": self.architecture, "scalers": scalers, "classes": self.classes,
                 "features": self.features}
        with replacing(path) as file:
            np.savez(file, about=np.array(json.dumps(about)), **arrays)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote. ValueError for any other file."""
        with open(path, "rb") as file:
            try:
                with np.load(file, allow_pickle=False) as arrays:
                    return cls._restore(dict(arrays))
            except (TypeError, AttributeError, *BROKEN_NPZ) as error:
                raise ValueError(f"{path} is not a model that onepass saved") from error

    @classmethod
    def _restore(cls, arrays):
        about = json.loads(str(arrays.pop("about")))
        parts = {"net": {}, "inputs": {}, "targets": {}}
        for name, value in arrays.items():
            part, _, key = name.partition(".")
            parts[part][key] = value
        net = mlp(**about["architecture"])
        net.load_state_dict(parts["net"])
        scalers = {"inputs": None, "targets": None}
        for part, (kind, options) in about.pop("scalers").items():
            scalers[part] = SCALERS[kind](**options)
            scalers[part].load_state_dict(parts[part])
        return cls(net, **scalers, **about)


def _kind(scaler):
    return next(kind for kind, made in SCALERS.items() if type(scaler) is made)
