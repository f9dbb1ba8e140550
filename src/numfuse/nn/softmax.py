from .checks import c_dense, check_array, check_gradient
from .module import Module


class Softmax(Module, leaf=True):
    """y[c] = exp(x[c]) / sum_k exp(x[k]) along the last axis.

    Before `CrossEntropyLoss` it has no place: that takes the logits, x, themselves.

    x : float32 or float64 array of shape (..., C). A row that holds NaN or infinity, or -infinity only, becomes NaN.
    dim : -1; ValueError for anything else. Another axis can be brought there by np.moveaxis. ::

        grad_x[c] = y[c] (grad_y[c] - sum_k grad_y[k] y[k])

    >>> import numpy as np
    >>> softmax = Softmax()
    >>> softmax(np.array([[1000.0, 1000.0], [0.0, -1000.0]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    >>> softmax.backward(np.array([[1.0, 0.0], [1.0, 0.0]]))
    array([[ 0.25, -0.25],
           [ 0.  , -0.  ]])
    """

    kernel_names = "softmax_forward", "softmax_backward"

    def __init__(self, dim=-1):
        if dim != -1:
            raise ValueError("dim must be -1, the last axis, which for (N, C) arrays is axis 1; bring another one "
                             f"there by np.moveaxis(x, dim, -1); was {dim!r}")
        self.dim = -1

    def forward(self, x):
        check_array("x", x)
        if x.ndim == 0:
            raise ValueError("x must have shape (..., C), was ()")
        y = self.kernels.softmax_forward(c_dense(x))
        self.save_for_backward(y)
        return y

    def backward(self, grad_y, accumulate=False):
        y = self.saved()
        check_gradient(grad_y, y.shape, y.dtype)
        return self.kernels.softmax_backward(c_dense(grad_y), y)

    def extra_repr(self):
        return f"dim={self.dim}"
