import numpy as np

from .. import checks
from ..backend import BackendMixin
from .checks import c_dense, check_array, check_shape, dense

INT64 = np.dtype(np.int64)
INT64_MAX = np.iinfo(np.int64).max


class Loss(BackendMixin):
    """What the losses share: `forward` returns one number and keeps the gradient that comes with it.

    A loss defines `arrays(prediction, target, sample_weight)`, which refuses what does not suit it and
    returns the arrays as its kernel, the only one of `kernel_names`, wants them, and names in
    `option_names` the attributes that the kernel takes by keyword.
    """

    option_names = ()
    _saved = None
    _grad = None

    def __init__(self, reduction="mean"):
        if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
            raise ValueError(f'reduction must be "mean" or "sum", was {reduction!r}')
        self.reduction = reduction

    def __call__(self, prediction, target, sample_weight=None):
        return self.forward(prediction, target, sample_weight)

    def __repr__(self):
        shown = {name: value for name, value in vars(self).items() if name[0] != "_" and name != "kernels"}
        settings = [f"{name}={value!r}" for name, value in shown.items() if value is not None]
        return f"{type(self).__name__}({', '.join(settings)})"

    def __getstate__(self):
        # As with layers, what a backward would need is neither pickled nor copied.
        state = super().__getstate__()
        state.pop("_saved", None)
        state.pop("_grad", None)
        return state

    def forward(self, prediction, target, sample_weight=None):
        arrays = self.arrays(prediction, target, sample_weight)
        value, self._grad = self._run(arrays)
        self._saved = arrays
        return value

    def backward(self):
        """The gradient with respect to the prediction of the last forward: an array of the caller's own.

        May be called again, as long as the arrays given to that forward have not been changed.
        """
        if self._saved is None:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward before it")
        grad, self._grad = self._grad, None
        return self._run(self._saved)[1] if grad is None else grad

    def _run(self, arrays):
        kernel = getattr(self.kernels, self.kernel_names[0])
        options = {name: getattr(self, name) for name in self.option_names}
        return kernel(*arrays, mean=self.reduction == "mean", **options)


class CrossEntropyLoss(Loss):
    """The cross-entropy of softmax(prediction) with integer labels.

    With t the label of row n, v `weight`, w `sample_weight`, s `label_smoothing` and C classes::

        l[n, c] = log(sum_k exp(prediction[n, k])) - prediction[n, c]
        value   = sum over n of  w[n] ((1 - s) v[t] l[n, t] + s / C sum_c v[c] l[n, c])  /  sum of w[n] v[t]

    and without any of these the average of l[n, t], whose gradient is (softmax(prediction) - onehot(target)) / N.

    reduction : "mean", or "sum", which does not divide
    weight : weights of the classes, C numbers >= 0; None weighs each 1
    label_smoothing : from 0 to 1, how much of the target is spread evenly over all classes (Szegedy et al.
        2016, "Rethinking the Inception architecture for computer vision", section 7)

    prediction : (N, C) float32 or float64, logits; target : (N,) integers from 0 to C - 1;
    sample_weight : (N,) numbers >= 0 of any type, one a row, or None: each 1. A row of weight 0 counts for
    nothing, whatever it holds, even NaN: what PyTorch does by `ignore_index`, with any label in range.
    `forward` returns a Python float, `backward` the gradient in prediction's shape and dtype. An empty
    batch has mean NaN, as in PyTorch; weights of a batch that sum to 0 have no mean and raise ValueError.
    All weights and meanings but those of `sample_weight` are PyTorch's.

    >>> import numpy as np
    >>> loss = CrossEntropyLoss()
    >>> round(loss.forward(np.zeros((2, 4)), np.array([0, 3])), 6)
    1.386294
    >>> loss.backward()
    array([[-0.375,  0.125,  0.125,  0.125], [ 0.125,  0.125,  0.125, -0.375]])
    >>> _ = loss.forward(np.zeros((2, 4)), np.array([0, 3]), sample_weight=np.array([1, 0]))
    >>> loss.backward()
    array([[-0.75,  0.25,  0.25,  0.25], [ 0.  ,  0.  ,  0.  ,  0.  ]])
    >>> loss = CrossEntropyLoss(weight=[1, 3], label_smoothing=0.5)
    >>> round(loss.forward(np.zeros((2, 2)), np.array([0, 1])), 6)
    0.693147
    >>> loss.backward()
    array([[ 0.  ,  0.  ], [ 0.25, -0.25]])
    """

    kernel_names = ("cross_entropy",)
    option_names = ("label_smoothing",)

    def __init__(self, reduction="mean", *, weight=None, label_smoothing=0.0):
        super().__init__(reduction)
        self.weight = None if weight is None else _own_weights("weight", weight)
        if self.weight is not None and not self.weight.any():
            raise ValueError("weight must not sum to 0")
        self.label_smoothing = checks.number("label_smoothing", label_smoothing, high=1)

    def arrays(self, prediction, target, sample_weight=None):
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
        weight = _of_type(self.weight, prediction.dtype)
        return c_dense(prediction), c_dense(target), weight, _sample_weight(sample_weight, prediction)


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
        return *_pair(prediction, target, sample_weight is not None), _sample_weight(sample_weight, prediction)


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
        self.delta = checks.number("delta", delta, positive=True)

    def arrays(self, prediction, target, sample_weight=None):
        return *_pair(prediction, target, sample_weight is not None), _sample_weight(sample_weight, prediction)


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
        self.pos_weight = None if pos_weight is None else _own_weights("pos_weight", np.atleast_1d(pos_weight))

    def arrays(self, prediction, target, sample_weight=None):
        weighted = self.pos_weight is not None or sample_weight is not None
        prediction, target = _pair(prediction, target, weighted)
        weight = _of_type(self.pos_weight, prediction.dtype)
        return prediction, target, weight, _sample_weight(sample_weight, prediction)


def _pair(prediction, target, in_c_order):
    """Both arrays without gaps, in the same memory order."""
    check_array("prediction", prediction)
    check_array("target", target, prediction.dtype)
    check_shape("target", target, prediction.shape)
    if prediction.strides == target.strides and not in_c_order:
        return dense(prediction), dense(target)
    return c_dense(prediction), c_dense(target)


def _own_weights(name, weight):
    """A copy as an array of one axis of finite numbers >= 0."""
    try:
        array = np.array(weight, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be numbers, was {weight!r}") from None
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis, one weight a class, had shape {array.shape}")
    wrong = np.flatnonzero(~((array >= 0) & (array < np.inf)))
    if wrong.size:
        raise ValueError(f"{name} must be finite and >= 0; {name}[{wrong[0]}] is {array[wrong[0]]}")
    return array


def _of_type(weight, dtype):
    with np.errstate(over="ignore"):  # the kernels refuse infinity
        return None if weight is None else weight.astype(dtype, copy=False)


def _sample_weight(weight, prediction):
    """One weight a row of prediction, in its dtype."""
    if weight is None:
        return None
    if not isinstance(weight, np.ndarray):
        raise TypeError(f"sample_weight must be a NumPy array, was {type(weight).__name__}")
    if weight.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight must be real numbers, was {weight.dtype}")
    check_shape("sample_weight", weight, prediction.shape[:1])
    return c_dense(_of_type(weight, prediction.dtype))
