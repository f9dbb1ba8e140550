import numpy as np

from .loss import Loss, of_type, own_weights, pair, weights_of_rows


class BCEWithLogitsLoss(Loss):
    """The binary cross-entropy of sigmoid(prediction) with target.

    With x = prediction, t = target, p `pos_weight` and m = 1 + (p - 1) t::

        value = average((1 - t) max(x, 0) + p t max(-x, 0) + m log(1 + exp(-|x|)))
        grad  = (sigmoid(x) m - p t) / size

    which is the average of  -p t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)).

    reduction : "mean" over all elements, or "sum"
    pos_weight : how much the positive targets weigh: a number >= 0, or one for each place in the last
        axis, the classes; None weighs them 1. As in PyTorch, the mean divides by the number of elements

    prediction, target : float32 or float64 arrays of one shape and dtype, target from 0 to 1.
    sample_weight, and what `forward` and `backward` return, are as for `MSELoss`.

    >>> import numpy as np
    >>> loss = BCEWithLogitsLoss()
    >>> round(loss.forward(np.array([0.0, 1000.0]), np.array([1.0, 1.0])), 6)
    0.346574
    >>> loss.backward()
    array([-0.25,  0.  ])
    >>> loss = BCEWithLogitsLoss(pos_weight=3)
    >>> round(loss.forward(np.zeros(2), np.array([1.0, 0.0])), 6)
    1.386294
    """

    kernel_names = ("bce_with_logits",)

    def __init__(self, reduction="mean", *, pos_weight=None):
        super().__init__(reduction)
        self.pos_weight = None if pos_weight is None else own_weights("pos_weight", np.atleast_1d(pos_weight))

    def arrays(self, prediction, target, sample_weight=None):
        weighted = self.pos_weight is not None or sample_weight is not None
        prediction, target = pair(prediction, target, weighted)
        weight = of_type(self.pos_weight, prediction.dtype)
        return prediction, target, weight, weights_of_rows(sample_weight, prediction)
