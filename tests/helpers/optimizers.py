"""The one list of optimizers and their kernels; whatever holds for each of them is tested by walking it."""

import math
from dataclasses import dataclass
from typing import Callable

import numpy as np
import pytest

from helpers.cases import PLAIN
from numfuse import native, optim, reference


@dataclass(frozen=True)
class Step:
    """The kernel of an optimizer.

    kernel : its name in a backend
    states : the lists that it updates, without those of averages, which every step has
    options : its own, with which all lists are in use and every state decays by 0.97 a step at least
    update : (options, state, gradient, lr, step count) -> (the learning rate of this step, what is subtracted), its
        formula for one number in double precision, whose state is a dict that is empty at first
    plain : its own options with which it needs nothing but `plain_states`; those that `update` knows
    may_miss : the lists that may be None with all options in use
    lasting : the lists that zero gradients leave as they are
    bounded : whether infinite gradients give finite parameters
    """

    kernel: str
    states: tuple
    options: dict
    update: Callable
    plain: dict
    plain_states: tuple
    may_miss: tuple = ()
    lasting: tuple = ()
    bounded: bool = False

    @property
    def lists(self):
        """All that it updates besides the parameters."""
        return [*self.states, "ema_params"]

    def arguments(self, shapes=((5,), (2, 3), (3, 1, 2), ()), dtype=np.float32, **changes):
        """A good call with all lists and options in use."""
        rng = np.random.default_rng(0)
        params, grads = ([np.asarray(rng.standard_normal(shape), dtype) for shape in shapes] for _ in range(2))
        states = {name: [np.zeros_like(param) for param in params] for name in self.lists}
        common = {**PLAIN, "lr": 0.1, "weight_decay": 0.01, "ema_decay": 0.97}
        steps = np.zeros(len(params), dtype=np.int64)
        return {"params": params, "grads": grads, **states, "steps": steps, **common, **self.options, **changes}


@dataclass(frozen=True)
class Entry:
    """An optimizer, its options with which every kind of state is in use, and its kernel."""

    cls: type
    options: dict
    step: Step


def sgd_update(own, state, g, lr, t):
    return lr, lr * g


def rmsprop_update(own, state, g, lr, t):
    state["s"] = own["alpha"] * state.get("s", 0.0) + (1 - own["alpha"]) * g * g
    return lr, lr * g / (math.sqrt(state["s"]) + own["eps"])


def adam_update(own, state, g, lr, t):
    state["m"] = own["beta1"] * state.get("m", 0.0) + (1 - own["beta1"]) * g
    state["v"] = own["beta2"] * state.get("v", 0.0) + (1 - own["beta2"]) * g * g
    root = math.sqrt(state["v"] / (1 - own["beta2"] ** t))
    return lr, lr * state["m"] / (1 - own["beta1"] ** t) / (root + own["eps"])


def adagrad_update(own, state, g, lr, t):
    lr = lr / (1 + (t - 1) * own["lr_decay"])
    state["s"] = state.get("s", 0.0) + g * g
    return lr, lr * g / (math.sqrt(state["s"]) + own["eps"])


def lion_update(own, state, g, lr, t):
    direction = own["beta1"] * state.get("m", 0.0) + (1 - own["beta1"]) * g
    state["m"] = own["beta2"] * state.get("m", 0.0) + (1 - own["beta2"]) * g
    return lr, lr * float(np.sign(direction))


adam_step = Step(
    "adam_step", ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"), {"beta1": 0.97, "beta2": 0.97, "eps": 1e-8},
    adam_update, {"beta1": 0.9, "beta2": 0.99, "eps": 0.1}, ("exp_avgs", "exp_avg_sqs"),
    may_miss=("max_exp_avg_sqs",), lasting=("max_exp_avg_sqs",))

OPTIMIZERS = [
    Entry(optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "ema_decay": 0.5}, Step(
        "sgd_step", ("momentum_buffers",),
        {"momentum": 0.97, "dampening": 0.1, "running_average": False, "nesterov": False},
        sgd_update, {"momentum": 0.0, "dampening": 0.0, "running_average": False, "nesterov": False}, ())),
    Entry(optim.RMSProp, {"lr": 0.1, "momentum": 0.9, "centered": True, "weight_decay": 0.01, "ema_decay": 0.5}, Step(
        "rmsprop_step", ("square_avgs", "grad_avgs", "momentum_buffers"),
        {"alpha": 0.97, "eps": 1e-8, "momentum": 0.97, "nesterov": False},
        rmsprop_update, {"alpha": 0.9, "eps": 0.1, "momentum": 0.0, "nesterov": False}, ("square_avgs",),
        may_miss=("grad_avgs",))),
    Entry(optim.Adam, {"lr": 0.1, "amsgrad": True, "weight_decay": 0.01}, adam_step),
    Entry(optim.AdamW, {"lr": 0.1, "amsgrad": True, "ema_decay": 0.5}, adam_step),
    Entry(optim.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 1.0, "ema_decay": 0.5}, Step(
        "adagrad_step", ("sums",), {"lr_decay": 0.1, "eps": 1e-8},
        adagrad_update, {"lr_decay": 0.5, "eps": 0.1}, ("sums",), lasting=("sums",))),
    Entry(optim.Lion, {"lr": 0.1, "weight_decay": 0.01, "ema_decay": 0.5}, Step(
        "lion_step", ("exp_avgs",), {"beta1": 0.97, "beta2": 0.97},
        lion_update, {"beta1": 0.9, "beta2": 0.8}, ("exp_avgs",), bounded=True)),
]
CLASSES = [entry.cls for entry in OPTIMIZERS]
FULL = {entry.cls: entry.options for entry in OPTIMIZERS}
STEPS = {entry.step.kernel: entry.step for entry in OPTIMIZERS}

every_class = pytest.mark.parametrize("cls", CLASSES)
every_backend = pytest.mark.parametrize("backend", [native, reference], ids=["native", "reference"])
every_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
