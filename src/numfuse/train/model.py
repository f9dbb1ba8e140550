"""The network, what it predicts and how well, and the model that is saved."""

import json
import math
from dataclasses import dataclass

import numpy as np

from .. import nn
from ..data.batches import batch_stops
from ..data.scaling import SCALERS, Scaler
from ..files import BROKEN_NPZ, replacing
from ..nn.loss import Loss
from ..nn.module import modes_restored, takes


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


def predict(net, x, batch_size=1024):
    """The net's outputs in evaluation mode, (rows, outputs).

    A remainder of one row joins the batch before it, as in training. Every module's mode is afterwards as before,
    whatever happens: threads may share a net that is in evaluation mode already.
    """
    with modes_restored(net):
        net.eval()
        return np.concatenate([net.forward(part) for part in np.split(x, batch_stops(len(x), batch_size))])


def evaluate(net, x, y):
    """Accuracy for integer labels y (rows,); R^2 for float targets y (rows, outputs).

    R^2 = 1 - mean((output - y)^2) / var(y), which shifting and scaling the target does not change: it
    may be computed on standardised targets.
    """
    return float(1 - error_sum(predict(net, x), y) / len(y) / spread(y))


def value_alone(loss):
    """The keywords by which a loss computes its value without a gradient; a user's own loss may have none."""
    return {"gradient": False} if isinstance(loss, Loss) and takes(type(loss).forward, "gradient") else {}


def error_sum(output, y):
    if y.dtype.kind in "iu":
        return float(np.count_nonzero(output.argmax(axis=1) != y))
    return float(np.square(output - y).sum(dtype=np.float64))


def spread(y):
    if y.dtype.kind in "iu":
        return 1.0
    return float(np.square(y - y.mean(axis=0)).sum(dtype=np.float64)) / len(y) or math.nan


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
        """Read what `save` wrote; the net is in evaluation mode. ValueError for any other file."""
        with open(path, "rb") as file:
            try:
                with np.load(file, allow_pickle=False) as arrays:
                    return cls._restore(dict(arrays))
            except (TypeError, AttributeError, *BROKEN_NPZ) as error:
                raise ValueError(f"{path} is not a model that numfuse saved") from error

    @classmethod
    def _restore(cls, arrays):
        about = json.loads(str(arrays.pop("about")))
        parts = {"net": {}, "inputs": {}, "targets": {}}
        for name, value in arrays.items():
            part, _, key = name.partition(".")
            parts[part][key] = value
        net = mlp(**about["architecture"])
        net.load_state_dict(parts["net"])
        net.eval()
        scalers = {"inputs": None, "targets": None}
        for part, (kind, options) in about.pop("scalers").items():
            scalers[part] = SCALERS[kind](**options)
            scalers[part].load_state_dict(parts[part])
        return cls(net, **scalers, **about)


def _kind(scaler):
    return next(kind for kind, made in SCALERS.items() if type(scaler) is made)
