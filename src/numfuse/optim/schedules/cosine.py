import math
from dataclasses import dataclass

from ...checks import integer, number
from ..checks import check_choice
from .schedule import Schedule


@dataclass(frozen=True)
class CosineAnnealingLR(Schedule):
    """Half a cosine from base to eta_min over T_max steps, and back over the next (Loshchilov and Hutter 2017)::

        eta_min + (base - eta_min) * (1 + cos(pi * step / T_max)) / 2
    """

    T_max: int
    eta_min: float = 0.0

    def __post_init__(self):
        integer("T_max", self.T_max, 1)
        number("eta_min", self.eta_min)

    def __call__(self, step, base):
        return _anneal("cos", base, self.eta_min, step / self.T_max)


@dataclass(frozen=True)
class CosineAnnealingWarmRestarts(Schedule):
    """Half a cosine from base to eta_min over T_0 steps, then anew over T_0 * T_mult, and so on (SGDR)."""

    T_0: int
    T_mult: int = 1
    eta_min: float = 0.0

    def __post_init__(self):
        integer("T_0", self.T_0, 1)
        integer("T_mult", self.T_mult, 1)
        number("eta_min", self.eta_min)

    def __call__(self, step, base):
        period, step = self.T_0, step % self.T_0 if self.T_mult == 1 else step
        while step >= period:
            step, period = step - period, period * self.T_mult
        return _anneal("cos", base, self.eta_min, step / period)


@dataclass(frozen=True)
class OneCycleLR(Schedule):
    """The learning rate of the 1cycle policy (Smith and Topin 2018), up and down over `total_steps` steps.

    From max_lr / div_factor up to max_lr during the share `pct_start` of the steps, then down to
    max_lr / (div_factor * final_div_factor), where it stays; with `three_phase`, down to where it began in as
    many steps as up, and in the rest of them to the end. `max_lr` of None is the base value, for groups
    whose learning rates differ; another takes its place.
    """

    max_lr: float | None
    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self):
        if self.max_lr is not None:
            number("max_lr", self.max_lr)
        number("div_factor", self.div_factor, positive=True)
        number("final_div_factor", self.final_div_factor, positive=True)
        _check_cycle(self)

    def __call__(self, step, base):
        high = base if self.max_lr is None else self.max_lr
        low = high / self.div_factor
        return _cycle(self, step, low, high, low / self.final_div_factor)


@dataclass(frozen=True)
class OneCycleMomentum(Schedule):
    """The momentum that goes with `OneCycleLR`: from max_momentum to base_momentum while it rises, and back."""

    total_steps: int
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    three_phase: bool = False

    def __post_init__(self):
        number("base_momentum", self.base_momentum)
        number("max_momentum", self.max_momentum)
        _check_cycle(self)

    def __call__(self, step, base):
        return _cycle(self, step, self.max_momentum, self.base_momentum, self.max_momentum)


def _check_cycle(schedule):
    integer("total_steps", schedule.total_steps, 1)
    number("pct_start", schedule.pct_start, high=0.5 if schedule.three_phase else 1)
    check_choice("anneal_strategy", schedule.anneal_strategy, "cos", "linear")


def _cycle(schedule, step, start, turn, end):
    """The value on the way from `start` to `turn` and, of three phases by way of `start` again, to `end`."""
    rise = schedule.pct_start * schedule.total_steps
    phases = [(rise - 1, start, turn), (schedule.total_steps - 1, turn, end)]
    if schedule.three_phase:
        phases[1:] = [(2 * rise - 2, turn, start), (schedule.total_steps - 1, start, end)]
    first = 0.0
    for last, here, there in phases:
        if step <= last:
            share = (step - first) / (last - first) if last > first else 0.0
            return _anneal(schedule.anneal_strategy, here, there, share)
        first = last
    return end


def _anneal(strategy, start, end, share):
    """From `start` to `end` as `share` goes from 0 to 1, along half a cosine or a line."""
    if strategy == "cos":
        return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
    return start + (end - start) * share
