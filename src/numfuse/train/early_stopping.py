"""Validation after an epoch, and the best epoch so far."""

import contextlib
import math

from ..checks import integer, number
from .model import error_sum, predict, spread, value_alone


def has_averages(optimizer):
    return any(group.get("ema_decay") is not None for group in optimizer.param_groups)


def averages(optimizer):
    """A context in which the parameters are their moving averages, if the optimizer keeps such."""
    return optimizer.averaged() if has_averages(optimizer) else contextlib.nullcontext()


def validate(net, loss, optimizer, rows):
    """Mean loss and score of some `Rows` in evaluation mode."""
    with averages(optimizer):
        output = predict(net, rows.x)
    value = rows.loss_sum(loss, output, **value_alone(loss))
    return value / rows.total(), 1 - error_sum(output, rows.y) / len(rows) / spread(rows.y)


class EarlyStopping:
    """The state of the net after its best epoch; says when `patience` epochs have passed without a better one.

    patience : None for the checks of the other arguments alone
    monitor : "loss" or "score" of validation; an epoch is better if it is so by more than min_delta
    """

    def __init__(self, net, optimizer, patience, min_delta, monitor):
        if monitor not in ("loss", "score"):
            raise ValueError(f'monitor must be "loss" or "score", was {monitor!r}')
        self.net, self.optimizer, self.monitor = net, optimizer, monitor
        self.patience = None if patience is None else integer("patience", patience, 1)
        self.min_delta = number("min_delta", min_delta)
        self.best = None  # of the best epoch: number, value, parameters and buffers; the same with averages, if any

    def update(self, epoch):
        value = epoch.validation_score if self.monitor == "score" else -epoch.validation_loss
        if not math.isnan(value) and (self.best is None or value > self.best["value"] + self.min_delta):
            self.best = {"number": epoch.number, "value": value, "net": self.net.state_dict(), "averaged": None}
            if has_averages(self.optimizer):
                with self.optimizer.averaged():
                    self.best["averaged"] = self.net.state_dict()

    def stop_reason(self, epochs):
        """Why training ends after this many epochs: "patience", or "" if it does not."""
        waited = epochs - (self.best["number"] if self.best else 0)
        return "patience" if waited >= self.patience else ""

    def restore(self):
        """Set net and averages back to the best epoch; returns its number, None if there was none."""
        if self.best is None:
            return None
        if self.best["averaged"] is not None:
            with self.optimizer.averaged():
                self.net.load_state_dict(self.best["averaged"])
        self.net.load_state_dict(self.best["net"])
        return self.best["number"]
