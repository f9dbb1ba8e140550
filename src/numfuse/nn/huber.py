from ..checks import number
from .loss import Loss, pair, weights_of_rows


class HuberLoss(Loss):
    """The squared error where it is small, and the absolute error where it is large (Huber 1964).

    With d = prediction - target::

        value = average of  d^2 / 2  where |d| <= delta,  else  delta (|d| - delta / 2)
        grad  = d clipped to [-delta, delta] / size

    reduction : "mean" over all elements, or "sum"
    delta : above 0

    prediction, target, sample_weight, and what `forward` and `backward` return, are as for `MSELoss`.

    >>> import numpy as np
    >>> loss = HuberLoss(delta=2.0)
    >>> loss.forward(np.array([1.0, 10.0]), np.array([0.0, 0.0]))
    9.25
    >>> loss.backward()
    array([0.5, 1. ])
    """

    kernel_names = ("huber",)
    option_names = ("delta",)

    def __init__(self, reduction="mean", delta=1.0):
        super().__init__(reduction)
        self.delta = number("delta", delta, positive=True)

    def arrays(self, prediction, target, sample_weight=None):
        return *pair(prediction, target, sample_weight is not None), weights_of_rows(sample_weight, prediction)
