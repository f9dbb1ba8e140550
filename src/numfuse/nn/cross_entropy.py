import numpy as np

from ..checks import number
from .checks import c_dense, check_array, check_shape
from .loss import Loss, of_type, own_weights, weights_of_rows


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
        self.weight = None if weight is None else own_weights("weight", weight)
        if self.weight is not None and not self.weight.any():
            raise ValueError("weight must not sum to 0")
        self.label_smoothing = number("label_smoothing", label_smoothing, high=1)

    def arrays(self, prediction, target, sample_weight=None):
        check_array("prediction", prediction)
        if prediction.ndim != 2:
            raise ValueError(f"prediction must have shape (N, C), was {prediction.shape}")
        if not isinstance(target, np.ndarray):
            raise TypeError(f"target must be a NumPy array, was {type(target).__name__}")
        if target.dtype.kind not in "iu":
            raise TypeError(f"target must be integer labels, was {target.dtype}; use .astype(np.int64)")
        check_shape("target", target, (len(prediction),))
        weight = of_type(self.weight, prediction.dtype)
        return c_dense(prediction), target, weight, weights_of_rows(sample_weight, prediction)
