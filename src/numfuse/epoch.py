"""One pass over the training rows: batches, gradients of several added up, steps of the optimizer."""

import math
import time
from dataclasses import dataclass

import numpy as np

from .data import split_rows
from .model import error_sum, predict, spread
from .nn.module import backward_parameters


@dataclass
class Epoch:
    """What an epoch has come to, so far or in the end."""

    number: int  # from 1
    batches: int
    batch: int = 0  # batches done
    loss: float = math.nan  # mean over the rows trained on, each in its batch; no rows of skipped steps
    score: float = math.nan  # of the same outputs; see `evaluate`
    validation_loss: float = math.nan  # of the rows set aside, after the epoch
    validation_score: float = math.nan
    test_score: float = math.nan  # for a callback to fill in
    lr: float = math.nan  # the first group's learning rate in the last step
    skipped_steps: int = 0  # how often the optimizer refused gradients that were not finite
    seconds: float = 0.0  # spent in training, callbacks of a batch included


class Rows:
    """Inputs x, targets y and sample weights (or None) of rows to be trained on; `rows[numbers]` is some of them.

    loss : its `reduction` and `weight` of the classes, if it has such, say what a mean is over
    names : what errors call x, y and the weights

    Rows that weigh 0 are left out, but for those of a class that weighs 0 where labels are smoothed. TypeError or
    ValueError for what are not arrays of as many rows, at least one, and for weights of another shape, or that
    are negative, not finite or all 0.
    """

    def __init__(self, loss, x, y, weight=None, names=("x", "y", "sample_weight")):
        for name, array in zip(names, (x, y)):
            if not isinstance(array, np.ndarray) or array.ndim == 0:
                raise TypeError(f"{name} must be a NumPy array, (rows, ...), was {array!r:.40}")
            if not len(array):
                raise ValueError(f"{name} must have at least one row, had shape {array.shape}")
        if len(x) != len(y):
            raise ValueError(f"{names[0]} and {names[1]} must have the same number of rows, had {len(x)} and {len(y)}")
        self.takes_mean = getattr(loss, "reduction", "mean") == "mean"
        self.x, self.y, self.weight, self.share = x, y, None, None
        if weight is not None:
            self.weight = self.share = np.asarray(weight, np.float64)
            if self.weight.shape != (len(y),):
                raise ValueError(f"{names[2]} must have shape ({len(y)},), had {self.weight.shape}")
            if not (np.isfinite(self.weight).all() and (self.weight >= 0).all() and self.weight.any()):
                raise ValueError(f"{names[2]} must be finite, >= 0 and not all 0")
        classes = getattr(loss, "weight", None)
        if classes is not None and y.ndim == 1 and y.dtype.kind in "iu" and 0 <= y.min() and y.max() < len(classes):
            self.share = classes[y] * (1.0 if weight is None else self.weight)
            if not self.share.any():
                raise ValueError("the weights of the classes that there are must not all be 0")
        # A smoothed label of a class without weight still pulls towards the other classes.
        needed = self.weight if getattr(loss, "label_smoothing", 0) else self.share
        if needed is not None and not needed.all():
            vars(self).update(vars(self[np.flatnonzero(needed)]))

    def __len__(self):
        return len(self.y)

    def __getitem__(self, rows):
        part = object.__new__(Rows)  # which does not check again
        part.x, part.y, part.takes_mean = self.x[rows], self.y[rows], self.takes_mean
        part.weight = None if self.weight is None else self.weight[rows]
        part.share = None if self.share is None else self.share[rows]
        return part

    def check(self, net, loss, name):
        """TypeError or ValueError if net or loss refuse a few of these rows, called `name`; nothing is modified.

        The least and the greatest label are among them, and a row that has a weight if any has.
        """
        some = {0, len(self) - 1}
        if self.y.ndim == 1:
            some |= {self.y.argmin(), self.y.argmax()}
        if self.share is not None:
            some.add(self.share.argmax())
        part = self[sorted(some)]
        try:
            if not part.total():
                raise ValueError("their weights must not all be 0")
            with np.errstate(all="ignore"):
                output = predict(net, part.x)
                part.loss_sum(loss, output)
                error_sum(output, part.y)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name} must suit the net and the loss: {error}") from error

    def split(self, share, rng):
        """(kept, set aside), as `numfuse.data.split_rows` chooses them by the targets' first column."""
        kept, aside = split_rows(self.y.reshape(len(self), -1)[:, 0], share, rng)
        return self[kept], self[aside]

    def total(self, rows=slice(None)):
        """What the mean over (these) rows divides by: their number, or the sum of their weights."""
        return len(self.y[rows]) if self.share is None else float(self.share[rows].sum(dtype=np.float64))

    def loss_sum(self, loss, output):
        """The loss, summed over these rows; `loss.backward()` gives the gradient of what it returned itself."""
        value = loss.forward(output, self.y, *([] if self.weight is None else [self.weight]))
        return float(value) * (self.total() if self.takes_mean else 1)


def _add_gradients(net, loss, rows, total, accumulate):
    """Forward and backward of some `Rows`, of those with `total` in all that one update shall be made of.

    With `accumulate` the gradients are added to those that are there. Returns the sum of the losses, and the output.
    """
    output = net.forward(rows.x)
    value = rows.loss_sum(loss, output)
    grad = loss.backward()
    share = rows.total() / total if rows.takes_mean else 1
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
    sums, variance = [0, 0.0, 0.0, 0.0], spread(rows.y)  # of rows, their weights, losses, errors
    may_skip = optimizer.skip_nonfinite or optimizer.max_grad_norm is not None
    steps = [batches[i : i + accumulate] for i in range(0, len(batches), accumulate)]
    for step, together in enumerate(steps):
        schedule.before_step((epoch.number - 1) * len(steps) + step)
        sums_before = sums
        buffers = [(buffer, buffer.copy()) for buffer in net.named_buffers().values()] if may_skip else []
        total = sum(rows.total(numbers) for numbers in together)
        for i, numbers in enumerate(together):
            batch = rows[numbers]
            net.train()  # which a callback may have ended
            value, output = _add_gradients(net, loss, batch, total, accumulate=i > 0)
            sums = [a + b for a, b in zip(sums, (len(batch), batch.total(), value, error_sum(output, batch.y)))]
            if i == len(together) - 1:
                gradients = net.gradients()
                epoch.lr = optimizer.param_groups[0]["lr"]
                if optimizer.step([gradients[k] for k in order]) is False:
                    epoch.skipped_steps += 1
                    sums = sums_before
                    for buffer, before in buffers:
                        buffer[...] = before
                schedule.after_step()
            seen, weight, losses, errors = sums
            epoch.loss = losses / weight if weight else math.nan
            epoch.score = 1 - errors / seen / variance if seen else math.nan
            epoch.batch += 1
            epoch.seconds = time.perf_counter() - start
            if on_batch and on_batch(epoch):
                return False
    epoch.seconds = time.perf_counter() - start
    return True
