from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...checks import integer, number
from .schedule import Schedule, increasing


@dataclass(frozen=True)
class LambdaLR(Schedule):
    """base * lr_lambda(step)"""

    lr_lambda: Callable[[int], float]

    def __post_init__(self):
        if not callable(self.lr_lambda):
            raise TypeError(f"lr_lambda must be a function of the step, was {self.lr_lambda!r}")

    def __call__(self, step, base):
        return base * self.lr_lambda(step)


@dataclass(frozen=True)
class ConstantLR(Schedule):
    """base * factor for `total_iters` steps, then base."""

    factor: float = 1 / 3
    total_iters: int = 5

    def __post_init__(self):
        number("factor", self.factor)
        integer("total_iters", self.total_iters, 1)

    def __call__(self, step, base):
        return base * self.factor if step < self.total_iters else base


@dataclass(frozen=True)
class StepLR(Schedule):
    """base * gamma^k after k * step_size steps."""

    step_size: int
    gamma: float = 0.1

    def __post_init__(self):
        integer("step_size", self.step_size, 1)
        number("gamma", self.gamma)

    def __call__(self, step, base):
        return base * self.gamma ** (step // self.step_size)


@dataclass(frozen=True)
class MultiStepLR(Schedule):
    """base * gamma^k from milestone number k on. Milestones are increasing numbers of steps."""

    milestones: Sequence[int]
    gamma: float = 0.1

    def __post_init__(self):
        object.__setattr__(self, "milestones", increasing("milestones", self.milestones))
        number("gamma", self.gamma)

    def __call__(self, step, base):
        return base * self.gamma ** bisect_right(self.milestones, step)


@dataclass(frozen=True)
class ExponentialLR(Schedule):
    """base * gamma^step"""

    gamma: float

    def __post_init__(self):
        number("gamma", self.gamma)

    def __call__(self, step, base):
        return base * self.gamma**step


@dataclass(frozen=True)
class LinearLR(Schedule):
    """base * start_factor to base * end_factor on a line over `total_iters` steps; warm-up, as it stands."""

    start_factor: float = 1 / 3
    end_factor: float = 1.0
    total_iters: int = 5

    def __post_init__(self):
        number("start_factor", self.start_factor)
        number("end_factor", self.end_factor)
        integer("total_iters", self.total_iters, 1)

    def __call__(self, step, base):
        share = min(step / self.total_iters, 1.0)
        return base * (self.start_factor + (self.end_factor - self.start_factor) * share)


@dataclass(frozen=True)
class PolynomialLR(Schedule):
    """base * (1 - step / total_iters)^power, then 0."""

    total_iters: int = 5
    power: float = 1.0

    def __post_init__(self):
        integer("total_iters", self.total_iters, 1)
        number("power", self.power)

    def __call__(self, step, base):
        return base * (1 - min(step / self.total_iters, 1.0)) ** self.power
