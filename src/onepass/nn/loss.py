import numpy as np

from ..backend import UsesKernels
from .checks import c_dense, check_array, check_shape, dense

INT64 = np.dtype(np.int64)
INT64_MAX = np.iinfo(np.int64).max


class Loss(UsesKernels):
    """What the losses share: `forward` returns one number and keeps the gradient that comes with it.

    A loss defines `arrays(prediction, target)`, which refuses what does not suit it and returns the
    arrays as its kernel, the only one of `kernel_names`, wants them.
    """

    _kept = None
    _grad = None

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
        state = super().__getstate__()
        state.pop("_kept", None)
        state.pop("_grad", None)
        return state

    def forward(self, prediction, target):
        prediction, target = self.arrays(prediction, target)
        value, self._grad = self._run(prediction, target)
        self._kept = prediction, target
        return value

    def backward(self):
        """The gradient with respect to the prediction of the last forward: an array of the caller's own.

        May be called again, as long as that prediction and target have not been changed.
        """
        if self._kept is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward before it")
        grad, self._grad = self._grad, None
        return self._run(*self._kept)[1] if grad is None else grad

    def _run(self, prediction, target):
        kernel = getattr(self.kernels, self.kernel_names[0])
        return kernel(prediction, target, mean=self.reduction == "mean")


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

    kernel_names = ("cross_entropy",)

    def arrays(self, prediction, target):
        check_array("prediction", prediction)
        if prediction.ndim != 2:
            raise ValueError(f"prediction must have shape (N, C), was {prediction.shape}")
        if not isinstance(target, np.ndarray):
            raise TypeError(f"target must be a NumPy array, was {type(target).__name__}")
        if target.dtype.kind not in "iu":
            raise TypeError(f"target must be integer labels, was {target.dtype}; use .astype(np.int64)")
        check_shape("target", target, (len(prediction),))
        if target.dtype == np.uint64:
            target = np.minimum(target, np.uint64(INT64_MAX))  # the largest would become negative
        if target.dtype is not INT64:
            target = target.astype(INT64)
        return c_dense(prediction), c_dense(target)


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

    kernel_names = ("mse",)

    def arrays(self, prediction, target):
        return _pair(prediction, target)


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

    kernel_names = ("bce_with_logits",)

    def arrays(self, prediction, target):
        return _pair(prediction, target)


def _pair(prediction, target):
    """Both arrays without gaps, in the same memory order."""
    check_array("prediction", prediction)
    check_array("target", target, prediction.dtype)
    check_shape("target", target, prediction.shape)
    if prediction.strides == target.strides:
        return dense(prediction), dense(target)
    return c_dense(prediction), c_dense(target)
