"""Hyper-parameters as functions of the step: names, defaults and meanings are PyTorch's.

A schedule is called with the number of steps taken and with the hyper-parameter's base value, the one that it
was set to, and returns the value for the next step. It may be a learning rate's or any other number's;
`numfuse.optim.Scheduler` puts it into an optimizer.

>>> warm_up, decay = LinearLR(start_factor=0.25, total_iters=3), ExponentialLR(gamma=0.5)
>>> schedule = SequentialLR([warm_up, decay], milestones=[4])
>>> [schedule(step, 1.0) for step in range(7)]
[0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.25]
"""

from .compose import ChainedScheduler, SequentialLR
from .cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts, OneCycleLR, OneCycleMomentum
from .decay import ConstantLR, ExponentialLR, LambdaLR, LinearLR, MultiStepLR, PolynomialLR, StepLR
from .plateau import ReduceLROnPlateau
from .schedule import Schedule

__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "ExponentialLR", "LambdaLR",
    "LinearLR", "MultiStepLR", "OneCycleLR", "OneCycleMomentum", "PolynomialLR", "ReduceLROnPlateau", "Schedule",
    "SequentialLR", "StepLR",
]
