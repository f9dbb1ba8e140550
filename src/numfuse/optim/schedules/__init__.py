"""Hyper-parameters as functions of the step: names, defaults and meanings are PyTorch's, without the LR at the end.

A schedule is called with the number of steps taken and with the hyper-parameter's base value, the one that it
was set to, and returns the value for the next step. It may be a learning rate's or any other number's;
`numfuse.optim.Scheduler` puts it into an optimizer.

>>> warm_up, decay = Linear(start_factor=0.25, total_iters=3), Exponential(gamma=0.5)
>>> schedule = Sequential([warm_up, decay], milestones=[4])
>>> [schedule(step, 1.0) for step in range(7)]
[0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.25]
"""

from .compose import Product, Sequential
from .cosine import CosineAnnealing, CosineAnnealingWarmRestarts, OneCycle, OneCycleMomentum
from .decay import Constant, Exponential, Lambda, Linear, MultiStep, Polynomial, Step
from .plateau import ReduceOnPlateau
from .schedule import Schedule

__all__ = [
    "Constant", "CosineAnnealing", "CosineAnnealingWarmRestarts", "Exponential", "Lambda", "Linear", "MultiStep",
    "OneCycle", "OneCycleMomentum", "Polynomial", "Product", "ReduceOnPlateau", "Schedule", "Sequential", "Step",
]
