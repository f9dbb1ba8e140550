"""One pass over the training rows: batches, gradients of several added up, steps of the optimizer."""

import math
import time
from dataclasses import dataclass

import numpy as np

from .data import split_rows
from .model import error_sum, spread
from .nn.module import backward_parameters


@dataclass
class Epoch:
    """What an epoch has come to, so far or in the end."""

    number: int  # from 1
    batches: int
    batch: int = 0  # batches done
    loss: float = math.nan  # mean over the rows, each as its batch was trained on
    score: float = math.nan  # of the same outputs; see `evaluate`
    validation_loss: float = math.nan  # of the rows set aside, after the epoch
    validation_score: float = math.nan
    test_score: float = math.nan  # for a callback to fill in
    lr: float = math.nan  # the first group's learning rate in the last step
    skipped_steps: int = 0  # how often the optimizer refused gradients that were not finite
    seconds: float = 0.0  # spent in training, callbacks of a batch included


class Rows:
    """Inputs x, targets y and weights (None if all count alike) of some rows; `rows[numbers]` is those alone.

    ValueError for weights of another shape, or that are negative, not finite or all 0.
    """

    def __init__(self, x, y, weight=None):
        if len(x) != len(y):
            raise ValueError(f"x and y must have the same number of rows, had {len(x)} and {len(y)}")
        self.x, self.y, self.weight = x, y, None
        if weight is not None:
            weight = np.asarray(weight, x.dtype)
            if weight.shape != (len(y),):
                raise ValueError(f"sample_weight must have shape ({len(y)},), had {weight.shape}")
            if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
                raise ValueError("sample_weight must be finite, >= 0 and not all 0")
            used = np.flatnonzero(weight)
            if len(used) < len(weight):
                self.x, self.y, weight = x[used], y[used], weight[used]
            self.weight = weight

    def __len__(self):
        return len(self.y)

    def __getitem__(self, rows):
        part = Rows(self.x[rows], self.y[rows])
        part.weight = None if self.weight is None else self.weight[rows]
        return part

    def split(self, share, rng):
        """(kept, set aside), as `onepass.data.split_rows` chooses them by the targets' first column."""
        kept, aside = split_rows(self.y.reshape(len(self), -1)[:, 0], share, rng)
        return self[kept], self[aside]

    def total(self, rows=slice(None)):
        """The number of (these) rows, or the sum of their weights: what a mean is over."""
        return len(self.y[rows]) if self.weight is None else float(self.weight[rows].sum(dtype=np.float64))

    def loss_sum(self, loss, output):
        """The loss, summed over these rows; `loss.backward()` gives the gradient of what it returned itself."""
        value = loss.forward(output, self.y, *([] if self.weight is None else [self.weight]))
        return float(value) * (self.total() if _takes_mean(loss) else 1)


def _takes_mean(loss):
    return getattr(loss, "reduction", "mean") == "mean"


def _add_gradients(net, loss, rows, total, accumulate):
    """Forward and backward of some `Rows`, of those with `total` in all that one update shall be made of.

    With `accumulate` the gradients are added to those that are there. Returns the sum of the losses, and the output.
    """
    output = net.forward(rows.x)
    value = rows.loss_sum(loss, output)
    grad = loss.backward()
    share = rows.total() / total if _takes_mean(loss) else 1
    if share != 1:
        grad *= grad.dtype.type(share)
    backward_parameters(net, grad, accumulate)
    return value, output


def gradient_order(net, optimizer):
    """The place in `net.gradients()` of the gradient of each of the optimizer's parameters, in their order."""
    places = {id(param): i for i, param in enumerate(net.parameters())}
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for param in params:
        if id(param) not in places:
            raise ValueError(f"the optimizer has an array of shape {param.shape} that is no parameter of the net")
    return [places[id(param)] for param in params]


def train_epoch(net, loss, optimizer, order, rows, batches, epoch, *, accumulate, schedule, on_batch):
    """Train on the batches, arrays of numbers of `rows`, and fill in `epoch`; whether `on_batch` lets it finish."""
    start = time.perf_counter()
    net.train()
    seen, weight, losses, errors, variance = 0, 0.0, 0.0, 0.0, spread(rows.y)
    for first in range(0, len(batches), accumulate):
        together = batches[first : first + accumulate]
        schedule.before_step(epoch.number - 1 + first / len(batches))
        total = sum(rows.total(numbers) for numbers in together)
        for i, numbers in enumerate(together):
            batch = rows[numbers]
            value, output = _add_gradients(net, loss, batch, total, accumulate=i > 0)
            if i == len(together) - 1:
                gradients = net.gradients()
                epoch.lr = optimizer.param_groups[0]["lr"]
                epoch.skipped_steps += optimizer.step([gradients[k] for k in order]) is False
                schedule.after_step()
            seen, weight, losses = seen + len(batch), weight + batch.total(), losses + value
            errors += error_sum(output, batch.y)
            epoch.batch, epoch.loss, epoch.score = first + i + 1, losses / weight, 1 - errors / seen / variance
            epoch.seconds = time.perf_counter() - start
            if on_batch and on_batch(epoch):
                return False
    epoch.seconds = time.perf_counter() - start
    return True
