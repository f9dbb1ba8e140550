import math
import operator

from .checks import check_array, check_gradient
from .module import Module


class Flatten(Module, leaf=True):
    """Merge the axes from `start_dim` on into one; a view of x where its memory order allows.

    start_dim : first axis to merge; counts from the end if negative.

    x : float32 or float64 array.

    >>> import numpy as np
    >>> Flatten()(np.zeros((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, start_dim=1):
        self.start_dim = operator.index(start_dim)

    def forward(self, x):
        check_array("x", x)
        if not -x.ndim <= self.start_dim < x.ndim:
            raise ValueError(f"x must have an axis {self.start_dim}, the start_dim, had shape {x.shape}")
        shape = *x.shape[: self.start_dim], math.prod(x.shape[self.start_dim :])
        self.save_for_backward(x.shape, shape, x.dtype)
        return x.reshape(shape)

    def backward(self, grad_y, accumulate=False):
        x_shape, y_shape, dtype = self.saved()
        check_gradient(grad_y, y_shape, dtype)
        return grad_y.reshape(x_shape)

    def extra_repr(self):
        return f"start_dim={self.start_dim}"
