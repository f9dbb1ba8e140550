import math
from dataclasses import dataclass, replace

from ..checks import integer, number, real
from .checks import check_keys
from .optimizer import Optimizer
from .schedules.schedule import Schedule, check_schedule


class Scheduler:
    """Sets options of an optimizer by schedules, now and after every `step`.

    optimizer : its `param_groups` hold the base values, each its own, from which the schedules start
    schedules : one for each option to set, by its name, of `numfuse.optim.schedules`: lr=StepLR(30). All
        groups take it; or it is a list with one for each group, None for a group that stays as it is. For a
        pair it is a pair, such as betas=(OneCycleMomentum(100), None), None for what stays as it is.
        Every number in the groups may be scheduled, and the optimizer's `max_grad_norm`.

    A value depends on the base, the number of steps and the metrics only: what else is written into
    `param_groups` under these names is overwritten. Every value is checked before any is set.

    >>> import numpy as np
    >>> from numfuse import optim
    >>> from numfuse.optim.schedules import ExponentialLR, LinearLR
    >>> optimizer = optim.SGD([np.ones(3)], lr=0.8, momentum=0.5)
    >>> scheduler = Scheduler(optimizer, lr=ExponentialLR(gamma=0.5), momentum=LinearLR(1.0, 1.5, total_iters=2))
    >>> for _ in range(4):
    ...     _ = optimizer.step([np.ones(3)])
    ...     print(optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"])
    ...     scheduler.step()
    0.8 0.5
    0.4 0.625
    0.2 0.75
    0.1 0.75
    """

    def __init__(self, optimizer, /, **schedules):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be an Optimizer, was {type(optimizer).__name__}")
        if not schedules:
            raise TypeError("a Scheduler needs at least one schedule, such as lr=schedules.StepLR(30)")
        self.optimizer = optimizer
        self._groups = len(optimizer.param_groups)
        targets = [target for name, wanted in schedules.items() for target in self._targets_of(name, wanted)]
        self._set(0, targets)

    @property
    def steps(self):
        """How often `step` was called."""
        return self._steps

    @property
    def needs_metric(self):
        """Whether `step` must be given a metric."""
        return any(target.schedule.needs_metric for target in self._targets)

    def step(self, metric=None):
        """Count a step, and set the options for the next one.

        metric : a number, which `ReduceLROnPlateau` needs; other schedules pay no heed to it
        """
        metric = None if metric is None else real("metric", metric)
        targets = [replace(target, schedule=target.schedule.observe(self._steps, metric)) for target in self._targets]
        self._set(self._steps + 1, targets)

    def state_dict(self):
        """Plain numbers, lists and dicts, which JSON can hold::

            {"step": 7, "schedules": [{"option": "lr", "group": 0, "base": 0.1, "state": {}}, ...]}

        The schedules themselves are no part of it, only what they have learnt from metrics.
        """
        return {"step": self._steps, "schedules": [target.state_dict() for target in self._targets]}

    def load_state_dict(self, state_dict):
        """Take over what `state_dict` returned, here or in another process, and set the options by it."""
        check_keys("state_dict", state_dict, ("step", "schedules"))
        step, states = integer("state_dict['step']", state_dict["step"], 0), state_dict["schedules"]
        if not isinstance(states, list) or len(states) != len(self._targets):
            raise ValueError(f"state_dict['schedules'] must be a list of {len(self._targets)} schedules, "
                             f"was {states!r}")
        named = [(f"state_dict['schedules'][{i}]", state) for i, state in enumerate(states)]
        self._set(step, [target.with_state(state, name) for target, (name, state) in zip(self._targets, named)])

    def _targets_of(self, name, wanted):
        values = self._values(name)
        if not isinstance(wanted, list):
            wanted = [wanted] * len(values)
        if len(wanted) != len(values):
            raise ValueError(f"{name} must be a schedule or a list of {len(values)}, one for each parameter group, "
                             f"was a list of {len(wanted)}")
        for group, (value, schedule) in enumerate(zip(values, wanted)):
            group = None if name == "max_grad_norm" else group
            if isinstance(value, tuple) and schedule is not None:
                if not isinstance(schedule, tuple) or len(schedule) != len(value):
                    raise TypeError(f"{name} must have a tuple of {len(value)} schedules or None, was {schedule!r}")
                parts = enumerate(zip(schedule, value))
                yield from (_Target(name, k, group, part, base) for k, (part, base) in parts if part is not None)
            elif schedule is not None:
                yield _Target(name, None, group, schedule, value)

    def _values(self, name):
        """The option in each group, or that of the optimizer as a whole."""
        if name == "max_grad_norm":
            return [self.optimizer.max_grad_norm]
        if name not in self.optimizer.defaults:
            numbers = (key for key, value in self.optimizer.defaults.items() if not isinstance(value, bool))
            valid = ", ".join(map(repr, (*numbers, "max_grad_norm")))
            raise ValueError(f"{type(self.optimizer).__name__} has no option {name!r} to schedule; valid are {valid}")
        return [group[name] for group in self.optimizer.param_groups]

    def _set(self, step, targets):
        groups = self.optimizer.param_groups
        if len(groups) != self._groups:
            raise ValueError(f"the optimizer must keep its {self._groups} parameter groups, had {len(groups)}: "
                             "make a new Scheduler")
        changed = [dict(group) for group in groups]
        whole = {"max_grad_norm": self.optimizer.max_grad_norm}
        for target in targets:
            target.put_into(whole if target.group is None else changed[target.group], step)
        for group in changed:
            self.optimizer._check_options(group)
        self.optimizer.max_grad_norm = whole["max_grad_norm"]  # raises if wrong; nothing has changed so far
        for target in targets:
            if target.group is not None:
                groups[target.group][target.option] = changed[target.group][target.option]
        self._steps, self._targets = step, targets


@dataclass(frozen=True)
class _Target:
    """One number that a schedule sets."""

    option: str
    component: int | None  # of a tuple
    group: int | None  # its position; None for the optimizer as a whole
    schedule: Schedule
    base: float

    def __post_init__(self):
        check_schedule(self.name, self.schedule)
        object.__setattr__(self, "base", real(f"{self.name} that has a schedule", self.base))

    @property
    def name(self):
        return self.option if self.component is None else f"{self.option}[{self.component}]"

    def put_into(self, options, step):
        try:
            value = self.schedule(step, self.base)
        except OverflowError:
            value = math.inf
        if self.component is not None:
            value = (*options[self.option][: self.component], value, *options[self.option][self.component + 1 :])
        options[self.option] = value

    def state_dict(self):
        return {"option": self.name, "group": self.group, "base": self.base, "state": self.schedule.state_dict()}

    def with_state(self, state, name):
        check_keys(name, state, ("option", "group", "base", "state"))
        for key, mine in (("option", self.name), ("group", self.group)):
            if state[key] != mine:
                raise ValueError(f"{name}[{key!r}] must be {mine!r}, was {state[key]!r}")
        base = number(f"{name}['base']", state["base"])
        return replace(self, base=base, schedule=self.schedule.with_state(state["state"], f"{name}['state']"))
