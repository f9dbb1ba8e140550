import numpy as np

from ..backend import BackendMixin
from .checks import c_dense, check_array, check_shape, dense


class Loss(BackendMixin):
    """What the losses share: `forward` returns one number and keeps the gradient that comes with it.

    `forward(..., gradient=False)` computes the number alone, for evaluation; `backward` then raises RuntimeError.

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

    def __call__(self, prediction, target, sample_weight=None, **options):
        return self.forward(prediction, target, sample_weight, **options)

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

    def forward(self, prediction, target, sample_weight=None, gradient=True):
        arrays = self.arrays(prediction, target, sample_weight)
        value, self._grad = self._run(arrays, gradient)
        self._saved = arrays if gradient else ()
        return value

    def backward(self):
        """The gradient with respect to the prediction of the last forward: an array of the caller's own.

        May be called again, as long as the arrays given to that forward have not been changed.
        """
        if not self._saved:
            alone = "" if self._saved is None else ", but the last one had gradient=False"
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward before it{alone}")
        grad, self._grad = self._grad, None
        return self._run(self._saved)[1] if grad is None else grad

    def _run(self, arrays, gradient=True):
        kernel = getattr(self.kernels, self.kernel_names[0])
        options = {name: getattr(self, name) for name in self.option_names}
        if not gradient:
            options["gradient"] = False
        return kernel(*arrays, mean=self.reduction == "mean", **options)


def pair(prediction, target, in_c_order):
    """Both arrays without gaps, in the same memory order."""
    check_array("prediction", prediction)
    check_array("target", target, prediction.dtype)
    check_shape("target", target, prediction.shape)
    if prediction.strides == target.strides and not in_c_order:
        return dense(prediction), dense(target)
    return c_dense(prediction), c_dense(target)


def own_weights(name, weight):
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


def of_type(weight, dtype):
    if weight is None:
        return None
    with np.errstate(over="ignore"):  # the kernels refuse infinity
        return weight.astype(dtype, copy=False)


def weights_of_rows(weight, prediction):
    """One weight a row of prediction, in its dtype."""
    if weight is None:
        return None
    if not isinstance(weight, np.ndarray):
        raise TypeError(f"sample_weight must be a NumPy array, was {type(weight).__name__}")
    if weight.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight must be real numbers, was {weight.dtype}")
    check_shape("sample_weight", weight, prediction.shape[:1])
    return c_dense(of_type(weight, prediction.dtype))
