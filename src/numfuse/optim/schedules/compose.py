from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..checks import check_keys
from .schedule import Schedule, check_schedule, increasing


@dataclass(frozen=True)
class _Several(Schedule):
    schedules: Sequence[Schedule]

    def __post_init__(self):
        if not isinstance(self.schedules, (list, tuple)) or not self.schedules:
            raise TypeError(f"schedules must be a list of at least one schedule, was {self.schedules!r}")
        for i, schedule in enumerate(self.schedules):
            check_schedule(f"schedules[{i}]", schedule)
        object.__setattr__(self, "schedules", tuple(self.schedules))

    @property
    def needs_metric(self):
        return any(schedule.needs_metric for schedule in self.schedules)

    def state_dict(self):
        return {"schedules": [schedule.state_dict() for schedule in self.schedules]}

    def with_state(self, state, name="state"):
        check_keys(name, state, ("schedules",))
        states, n = state["schedules"], len(self.schedules)
        if not isinstance(states, list) or len(states) != n:
            raise ValueError(f"{name}['schedules'] must be a list of {n} states, was {states!r}")
        return replace(self, schedules=[
            schedule.with_state(states[i], f"{name}['schedules'][{i}]") for i, schedule in enumerate(self.schedules)
        ])


@dataclass(frozen=True)
class ChainedScheduler(_Several):
    """All at once: the value of each is the base of the next, so that their factors are multiplied."""

    def __call__(self, step, base):
        for schedule in self.schedules:
            base = schedule(step, base)
        return base

    def observe(self, step, metric):
        return replace(self, schedules=[schedule.observe(step, metric) for schedule in self.schedules])


@dataclass(frozen=True)
class SequentialLR(_Several):
    """One after the other: schedule number k from milestone number k on, where its own steps begin at 0.

    `milestones` are increasing numbers of steps, one fewer than the schedules. All have the same base.
    """

    milestones: Sequence[int]

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "milestones", increasing("milestones", self.milestones))
        if len(self.milestones) != len(self.schedules) - 1:
            raise ValueError(f"milestones must have length {len(self.schedules) - 1}, one fewer than schedules, "
                             f"was {len(self.milestones)}")

    def __call__(self, step, base):
        k, step = self._active(step)
        return self.schedules[k](step, base)

    def observe(self, step, metric):
        k, step = self._active(step)
        schedules = list(self.schedules)
        schedules[k] = schedules[k].observe(step, metric)
        return replace(self, schedules=schedules)

    def _active(self, step):
        k = bisect_right(self.milestones, step)
        return k, step - (self.milestones[k - 1] if k else 0)
