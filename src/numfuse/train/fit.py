"""The training loop, its schedules and its history."""

import os
from dataclasses import asdict

import numpy as np

from ..checks import integer, number
from ..data.batches import batch_rows, batch_stops
from ..data.rows import Rows
from ..optim import Scheduler, schedules
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .early_stopping import EarlyStopping, validate
from .epoch import Epoch, check_rows, gradient_order, train_epoch

SCHEDULES = {  # by the number of steps
    "linear": lambda steps: schedules.LinearLR(1.0, 0.0, total_iters=steps),
    "cosine": schedules.CosineAnnealingLR,
    "constant": lambda steps: schedules.ConstantLR(1.0),
}


class History(list):
    """The completed epochs, a list of `Epoch`; why training stopped; and the epoch that the net was restored to.

    stop_reason : "" when all epochs were done, else "patience", "callback" or "interrupt"
    best : with `patience`, the number of the epoch that the net was set back to; else None
    """

    stop_reason = ""
    best = None


def fit(net, loss, optimizer, x, y, *, epochs, batch_size, rng=None, sample_weight=None, validation=None,
        patience=None, min_delta=0.0, monitor="loss", accumulate=1, schedule="linear", schedule_every="step",
        on_batch=None, on_epoch=None, checkpoint=None, checkpoint_every=1, resume=False):
    """Train `net` in place and return its `History`, an `Epoch` for each that was completed.

    x : float array (rows, ...), as the net takes it
    y : integer labels (rows,), or float targets (rows, outputs)
    rng : seed, numpy.random.Generator to draw one from, or None for a fresh one. The order of the rows in an epoch
        depends on the seed and the epoch's number alone.
    sample_weight : numbers >= 0 (rows,), handed to the loss; rows that weigh 0, be it by the weight that the loss
        gives their class (unless it smooths labels), take no part at all
    validation : rows that are not trained on but evaluated after each epoch: (x, y), (x, y, sample_weight), or
        a share of the rows to set aside, which the seed chooses (see `numfuse.data.split_rows`)
    patience : stop when this many epochs in a row have not been better in validation than the best before by more
        than `min_delta`; however training ended, the net (parameters and buffers) is then set back to its best epoch
    monitor : what decides which is best: "loss" or "score"
    accumulate : add up the gradients of this many batches for each step of the optimizer, weighted by rows (by their
        weights if they have such), so that the step is that of their rows together but for batch norm's
        statistics; the last step of an epoch has what remains
    schedule : "linear": every learning rate falls from what it is to 0 at the end of training; "cosine": the same as
        half a cosine (Loshchilov and Hutter 2017); "constant"; they leave the optimizer's rates as they found
        them. Or an `numfuse.optim.Scheduler` of the optimizer, whose `step()` is called
    schedule_every : when that is: "step", after each of the optimizer's; or "epoch", where `step(metric)` gets the
        loss of validation, or of training if there is none
    on_batch, on_epoch : called with the current `Epoch` after each batch, each epoch; a true result ends training.
        The history has completed epochs only.
    checkpoint : a path that gets all it takes to go on: at the start, after each `checkpoint_every` epochs, and after
        the last; see `save_checkpoint`. FileExistsError if it is there before: another run shall not be lost
    resume : go on from `checkpoint`. With the arguments of the run that wrote it, the net gets the same bits as if
        that had not been interrupted; the seed, the learning rates to fall from and the history are the file's.
        FileNotFoundError if there is none, ValueError if it is broken or another net's, and nothing is modified.

    A step that the optimizer skips, see its `skip_nonfinite` and `max_grad_norm`, leaves nothing of its batches: the
    net's buffers (running statistics, dropout's masks) are set back, and the epoch's loss and score are without them.

    TypeError or ValueError names what is wrong before anything is modified, or written: a few rows, among them the
    least and the greatest label, go through net and loss in evaluation mode first.

    Where parameters have a moving average (`ema_decay`), validation takes that. An optimizer may have some of
    the net's parameters only, in any groups. KeyboardInterrupt (Ctrl-C) ends training early and leaves the net as
    it then is, or with `patience` as its best epoch.

    >>> from numfuse import nn, optim
    >>> x = np.random.default_rng(0).standard_normal((100, 3), dtype=np.float32)
    >>> net = nn.Sequential(nn.Linear(3, 2, rng=0))
    >>> history = fit(net, nn.CrossEntropyLoss(), optim.Adam(net.parameters(), lr=0.1), x, (x[:, 0] > 0).astype(int),
    ...               epochs=50, batch_size=20, rng=0, validation=0.2, patience=5, monitor="score")
    >>> history.best <= len(history), round(history[history.best - 1].validation_score, 1)
    (True, 1.0)
    """
    epochs, batch_size = integer("epochs", epochs, 0), integer("batch_size", batch_size, 1)
    accumulate = integer("accumulate", accumulate, 1)
    checkpoint_every = integer("checkpoint_every", checkpoint_every, 1)
    if resume and checkpoint is None:
        raise ValueError("resume must come with a checkpoint, was True without")
    if checkpoint is not None and not resume and os.path.exists(checkpoint):
        raise FileExistsError(f"checkpoint {checkpoint} exists: resume=True goes on from it; remove it to begin anew")
    if patience is not None and validation is None:
        raise ValueError(f"patience must come with validation, was {patience!r} without")
    for name, callback in (("on_batch", on_batch), ("on_epoch", on_epoch)):
        if callback is not None and not callable(callback):
            raise TypeError(f"{name} must be a function of the epoch, was {callback!r}")
    stopping = EarlyStopping(net, optimizer, patience, min_delta, monitor)
    if patience is None:
        stopping = None
    order = gradient_order(net, optimizer)
    history, seed, rates, best = History(), _seed(rng), [group["lr"] for group in optimizer.param_groups], None
    if resume:
        history, seed, rates, best = _read(checkpoint)
    rows, held_out = _split(loss, Rows(loss, x, y, sample_weight), validation, seed)
    steps = -(-(len(batch_stops(len(rows), batch_size)) + 1) // accumulate)
    schedule = _Schedule(optimizer, schedule, schedule_every, rates, epochs * steps)
    parts = {"net": net, "optimizer": optimizer, "scheduler": schedule.scheduler}
    check_rows(net, loss, rows, "x and y")
    if held_out is not None:
        check_rows(net, loss, held_out, "validation")
    if resume:
        load_checkpoint(checkpoint, **parts)
    if stopping:
        stopping.best = best
        history.stop_reason = stopping.stop_reason(len(history))

    def save():
        about = {"history": [asdict(epoch) for epoch in history], "seed": seed, "rates": rates,
                 "best": stopping.best if stopping else None}
        save_checkpoint(checkpoint, **parts, about=about)

    def is_due(number):
        return number % checkpoint_every == 0 or number == epochs

    try:
        if checkpoint is not None and not resume:
            save()
        while len(history) < epochs and not history.stop_reason:
            order_rng = np.random.default_rng([seed, len(history) + 1])
            batches = batch_rows(len(rows), batch_size, order_rng)
            epoch = Epoch(len(history) + 1, len(batches))
            if not train_epoch(net, loss, optimizer, order, rows, batches, epoch,
                               accumulate=accumulate, schedule=schedule, on_batch=on_batch):
                history.stop_reason = "callback"
                break
            if held_out is not None:
                epoch.validation_loss, epoch.validation_score = validate(net, loss, optimizer, held_out)
            schedule.after_epoch(epoch.loss if held_out is None else epoch.validation_loss)
            history.append(epoch)
            if stopping:
                stopping.update(epoch)
                history.stop_reason = stopping.stop_reason(len(history))
            if on_epoch and on_epoch(epoch):
                history.stop_reason = "callback"
            if checkpoint is not None and (is_due(epoch.number) or history.stop_reason):
                save()
    except KeyboardInterrupt:
        history.stop_reason = "interrupt"
    finally:
        schedule.close()
    if stopping:
        history.best = stopping.restore()
    return history


class _Schedule:
    """The learning rates of a run: a name in SCHEDULES, or a scheduler with its own `step`."""

    def __init__(self, optimizer, schedule, every, rates, steps):
        named = isinstance(schedule, str)
        fault = f"schedule must be {', '.join(SCHEDULES)} or a Scheduler, was {schedule!r}"
        if not named and not isinstance(schedule, Scheduler):
            raise TypeError(fault)
        if named and schedule not in SCHEDULES:
            raise ValueError(fault)
        if every not in ("step", "epoch"):
            raise ValueError(f'schedule_every must be "step" or "epoch", was {every!r}')
        if named and every == "epoch":
            raise ValueError(f'schedule_every must be "step" for schedule {schedule!r}, was "epoch"')
        if not named and schedule.optimizer is not optimizer:
            raise ValueError("schedule must be a Scheduler of the optimizer that is to train, was another's")
        if not named and every == "step" and schedule.needs_metric:
            raise ValueError('schedule_every must be "epoch" for a Scheduler that needs a metric, was "step"')
        self.optimizer, self.every, self.rates = optimizer, every, rates
        self.scheduler, self.rate = (None, SCHEDULES[schedule](max(steps, 1))) if named else (schedule, None)

    def before_step(self, step):
        """Set the rates for the step that comes after `step` others."""
        if self.rate:
            self._set([self.rate(step, rate) for rate in self.rates])

    def after_step(self):
        if self.scheduler is not None and self.every == "step":
            self.scheduler.step()

    def after_epoch(self, metric):
        if self.scheduler is not None and self.every == "epoch":
            self.scheduler.step(metric)

    def close(self):
        if self.rate:
            self._set(self.rates)

    def _set(self, rates):
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate


def _read(path):
    """The part of a checkpoint that `fit` wrote about its run: history, seed, learning rates, best epoch."""
    about = load_checkpoint(path)
    try:
        return History(Epoch(**row) for row in about["history"]), about["seed"], about["rates"], about["best"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is a checkpoint, but not one of fit") from error


def _split(loss, rows, validation, seed):
    """The rows to train on, and those to validate with or None."""
    if validation is None:
        return rows, None
    if isinstance(validation, (tuple, list)):
        if len(validation) not in (2, 3):
            raise ValueError("validation must be a share, (x, y) or (x, y, sample_weight), "
                             f"had {len(validation)} items")
        return rows, Rows(loss, *validation, names=("validation[0]", "validation[1]", "validation[2]"))
    share = number("validation", validation, below=1, positive=True)
    return rows.split(share, np.random.default_rng([seed, 0]))


def _seed(rng):
    """A seed from a seed, a Generator or None."""
    if isinstance(rng, (int, np.integer)):
        return integer("rng", rng, 0)
    return int(np.random.default_rng(rng).integers(2**63))
