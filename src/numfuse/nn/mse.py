from .loss import Loss, pair, weights_of_rows


class MSELoss(Loss):
    """The mean squared error over all elements: average((prediction - target)^2).

    reduction : "mean" over all elements, or "sum"

    prediction, target : float32 or float64 arrays of one shape and dtype; shapes that would have to
    broadcast, such as (N, 1) and (N,), raise; sample_weight : (N,) numbers >= 0 of any type, one for all
    elements of a row prediction[n], or None: each 1. The mean is that of the elements, weighted:
    sum(w (prediction - target)^2) / sum(w), and what weighs 0 counts for nothing, even NaN.
    `forward` returns a Python float, `backward` the gradient 2 w (prediction - target) / sum(w).
    An empty batch has mean NaN, as in PyTorch; weights that sum to 0 have no mean and raise ValueError.

    >>> import numpy as np
    >>> loss = MSELoss()
    >>> loss.forward(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    2.0
    >>> loss.backward()
    array([ 0., -2.])
    >>> loss.forward(np.array([1.0, 2.0]), np.array([1.0, 4.0]), sample_weight=np.array([1.0, 3.0]))
    3.0
    """

    kernel_names = ("mse",)

    def arrays(self, prediction, target, sample_weight=None):
        return *pair(prediction, target, sample_weight is not None), weights_of_rows(sample_weight, prediction)
