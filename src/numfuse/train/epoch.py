"""One pass over the training rows: batches, gradients of several added up, steps of the optimizer."""

import math
import time
from dataclasses import dataclass

import numpy as np

from ..nn.module import backward_parameters
from .model import error_sum, predict, spread, value_alone


@dataclass
class Epoch:
    """The results of an epoch, so far or in the end."""

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


def check_rows(net, loss, rows, name):
    """TypeError or ValueError if net or loss refuse a few of the rows, called `name`; nothing is modified.

    The least and the greatest label are among them, and a row that has a weight if any has.
    """
    part = rows.extremes()
    try:
        if not part.total():
            raise ValueError("their weights must not all be 0")
        with np.errstate(all="ignore"):
            output = predict(net, part.x)
            part.loss_sum(loss, output, **value_alone(loss))
            error_sum(output, part.y)
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name} must suit the net and the loss: {error}") from error


def train_batch(net, loss, optimizer, x, y):
    """One step of training: forward, backward, update. Returns the loss and the net's output."""
    output = net.forward(x)
    value = float(loss.forward(output, y))
    backward_parameters(net, loss.backward())
    optimizer.step(net.gradients())
    return value, output


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
