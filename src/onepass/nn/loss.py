import numpy as np

from .activation import sigmoid
from .checks import check_array, check_shape


class Loss:
    """What the losses share: a loss returns one number and remembers what its gradient needs."""

    _kept = None

    def __init__(self, reduction="mean"):
        if reduction not in ("mean", "sum"):
            raise ValueError(f'reduction must be "mean" or "sum", was {reduction!r}')
        self.reduction = reduction

    def __call__(self, prediction, target):
        return self.forward(prediction, target)

    def __repr__(self):
        return f"{type(self).__name__}(reduction={self.reduction!r})"

    def __getstate__(self):
        # As with layers, what a backward would need is neither pickled nor copied.
        return {name: value for name, value in vars(self).items() if name != "_kept"}

    def kept(self):
        if self._kept is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward before it")
        return self._kept

    def reduce(self, values):
        """The sum or mean of `values`, taken in float64, as a Python float; the mean of nothing is NaN."""
        total = float(values.sum(dtype=np.float64))
        if self.reduction == "sum":
            return total
        return total / values.size if values.size else float("nan")

    def share(self, dtype, count, of=1):
        """`of`, or its share in a mean over `count` values, as a number of `dtype`."""
        return dtype.type(of if self.reduction == "sum" else of / max(count, 1))


class CrossEntropyLoss(Loss):
    """The cross-entropy of softmax(prediction) with integer labels.

    ::

        value  = average over n of  log(sum_c exp(prediction[n, c])) - prediction[n, target[n]]
        grad   = (softmax(prediction) - onehot(target)) / N

    reduction : "mean" over the batch, or "sum"

    prediction : (N, C) float32 or float64, logits; target : (N,) integers from 0 to C - 1.
    `forward` returns a Python float, `backward` the gradient in prediction's shape and dtype.
    An empty batch has mean NaN, as in PyTorch.

    >>> import numpy as np
    >>> loss = CrossEntropyLoss()
    >>> round(loss.forward(np.zeros((2, 4)), np.array([0, 3])), 6)
    1.386294
    >>> loss.backward()
    array([[-0.375,  0.125,  0.125,  0.125], [ 0.125,  0.125,  0.125, -0.375]])
    """

    def forward(self, prediction, target):
        check_array("prediction", prediction)
        if prediction.ndim != 2:
            raise ValueError(f"prediction must have shape (N, C), was {prediction.shape}")
        _check_labels(target, *prediction.shape)
        rows = np.arange(len(target))
        with np.errstate(all="ignore"):  # infinite logits and overflow show in the value
            shifted = prediction - prediction.max(axis=1, keepdims=True)
            chosen = shifted[rows, target]
            softmax = np.exp(shifted, out=shifted)
            total = softmax.sum(axis=1, keepdims=True)
            softmax /= total
            value = self.reduce(np.log(total[:, 0]) - chosen)
        self._kept = softmax, rows, target
        return value

    def backward(self):
        softmax, rows, target = self.kept()
        one = softmax.dtype.type(1)
        grad = softmax.copy()
        with np.errstate(under="ignore"):
            grad[rows, target] -= one
            grad *= self.share(softmax.dtype, len(rows))
        return grad


class MSELoss(Loss):
    """The mean squared error over all elements: average((prediction - target)^2).

    reduction : "mean" over all elements, or "sum"

    prediction, target : float32 or float64 arrays of one shape and dtype; shapes that would have to
    broadcast, such as (N, 1) and (N,), raise. `forward` returns a Python float, `backward` the
    gradient 2 (prediction - target) / size. An empty batch has mean NaN, as in PyTorch.

    >>> import numpy as np
    >>> loss = MSELoss()
    >>> loss.forward(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    2.0
    >>> loss.backward()
    array([ 0., -2.])
    """

    def forward(self, prediction, target):
        _check_pair(prediction, target)
        with np.errstate(all="ignore"):
            difference = prediction - target
            value = self.reduce(np.square(difference, dtype=np.float64))
        self._kept = difference
        return value

    def backward(self):
        difference = self.kept()
        with np.errstate(all="ignore"):
            return difference * self.share(difference.dtype, difference.size, of=2)


class BCEWithLogitsLoss(Loss):
    """The binary cross-entropy of sigmoid(prediction) with target.

    With x = prediction and t = target::

        value = average((1 - t) max(x, 0) + t max(-x, 0) + log(1 + exp(-|x|)))
        grad  = (sigmoid(x) - t) / size

    reduction : "mean" over all elements, or "sum"

    prediction, target : float32 or float64 arrays of one shape and dtype, target from 0 to 1.
    `forward` returns a Python float. An empty batch has mean NaN, as in PyTorch.

    >>> import numpy as np
    >>> loss = BCEWithLogitsLoss()
    >>> round(loss.forward(np.array([0.0, 1000.0]), np.array([1.0, 1.0])), 6)
    0.346574
    >>> loss.backward()
    array([-0.25,  0.  ])
    """

    def forward(self, prediction, target):
        _check_pair(prediction, target)
        outside = (target < 0) | (target > 1)
        if outside.any():
            raise ValueError(f"target must be from 0 to 1, was {target[outside][0]}")
        x = prediction
        with np.errstate(all="ignore"):
            # Where the target agrees with an infinite x, nothing is lost, rather than 0 times infinity.
            share = np.where(x > 0, 1 - target, target)
            linear = np.where(share == 0, share, share * np.abs(x))
            value = self.reduce(linear + np.log1p(np.exp(-np.abs(x))))
        self._kept = x, target
        return value

    def backward(self):
        x, target = self.kept()
        with np.errstate(under="ignore"):
            return (sigmoid(x) - target) * self.share(x.dtype, x.size)


def _check_pair(prediction, target):
    check_array("prediction", prediction)
    check_array("target", target, prediction.dtype)
    check_shape("target", target, prediction.shape)


def _check_labels(target, rows, classes):
    if not isinstance(target, np.ndarray):
        raise TypeError(f"target must be a NumPy array, was {type(target).__name__}")
    if target.dtype.kind not in "iu":
        raise TypeError(
            f"target must be integer labels, was {target.dtype}; use .astype(np.int64)"
        )
    check_shape("target", target, (rows,))
    wrong = np.flatnonzero((target < 0) | (target >= classes))
    if wrong.size:
        i = wrong[0]
        raise ValueError(f"target must be labels from 0 to {classes - 1}; target[{i}] is {target[i]}")
