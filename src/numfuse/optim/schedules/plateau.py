import math
from dataclasses import dataclass, replace

from ...checks import integer, number, real
from ..checks import check_choice, check_keys
from .schedule import Schedule


@dataclass(frozen=True)
class ReduceLROnPlateau(Schedule):
    """Times `factor` whenever the metric has not become better for more than `patience` steps in a row.

    mode : "min" or "max": which metric is better
    threshold : what counts as better: in mode "min" less than best * (1 - threshold), or than
        best - threshold if `threshold_mode` is "abs" and not "rel"; in mode "max" more, with a +
    cooldown : steps after a reduction in which bad ones are not counted
    min_lr : the value does not fall below it
    eps : a change smaller than this is not made

    Metrics come with `Scheduler.step(metric)`; one of NaN is not better. The last four are its memory.
    """

    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8
    best: float | None = None
    num_bad_epochs: int = 0
    cooldown_counter: int = 0
    reductions: int = 0
    needs_metric = True

    def __post_init__(self):
        check_choice("mode", self.mode, "min", "max")
        number("factor", self.factor, below=1)
        check_choice("threshold_mode", self.threshold_mode, "rel", "abs")
        for name in "threshold", "min_lr", "eps":
            number(name, getattr(self, name))
        for name in "patience", "cooldown", "num_bad_epochs", "cooldown_counter", "reductions":
            integer(name, getattr(self, name), 0)
        if self.best is not None:
            real("best", self.best)

    def __call__(self, step, base):
        for _ in range(self.reductions):
            reduced = max(base * self.factor, self.min_lr)
            if not base - reduced > self.eps:
                break
            base = reduced
        return base

    def observe(self, step, metric):
        if metric is None:
            raise ValueError("metric must be given to a scheduler with ReduceLROnPlateau, was None")
        better = self._is_better(metric)
        cooling = self.cooldown_counter > 0
        bad = 0 if better or cooling else self.num_bad_epochs + 1
        reduce = bad > self.patience
        return replace(
            self,
            best=metric if better else self.best,
            num_bad_epochs=0 if reduce else bad,
            cooldown_counter=self.cooldown if reduce else self.cooldown_counter - cooling,
            reductions=self.reductions + reduce,
        )

    def _is_better(self, metric):
        sign = 1 if self.mode == "min" else -1
        if self.best is None:
            return sign * metric < math.inf
        best = sign * self.best
        limit = best * (1 - sign * self.threshold) if self.threshold_mode == "rel" else best - self.threshold
        return sign * metric < limit

    def state_dict(self):
        return {name: getattr(self, name) for name in ("best", "num_bad_epochs", "cooldown_counter", "reductions")}

    def with_state(self, state, name="state"):
        check_keys(name, state, self.state_dict())
        return replace(self, **state)
