import numpy as np

from .checks import check_array, check_shape
from .module import Module


class Activation(Module):
    """A function of each element alone, whose derivative is a function of its result, which it keeps."""

    def forward(self, x):
        check_array("x", x)
        y = np.asarray(self.function(x))  # of a 0-d array NumPy makes a scalar
        self.keep(y)
        return y

    def backward(self, grad_y, accumulate=False):
        y = self.kept()
        check_array("grad_y", grad_y, y.dtype)
        check_shape("grad_y", grad_y, y.shape)
        return np.asarray(self.gradient(grad_y, y))


class ReLU(Activation):
    """y = max(x, 0) (Nair and Hinton 2010). NaN stays NaN; the derivative at 0 is 0.

    x : float32 or float64 array of any shape.

    >>> import numpy as np
    >>> relu = ReLU()
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    >>> relu.backward(np.array([5.0, 5.0, 5.0]))
    array([0., 0., 5.])
    """

    @staticmethod
    def function(x):
        return np.maximum(x, x.dtype.type(0))

    @staticmethod
    def gradient(grad_y, y):
        return np.where(y <= 0, y.dtype.type(0), grad_y)


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)), with derivative y (1 - y).

    x : float32 or float64 array of any shape.

    >>> import numpy as np
    >>> sigmoid = Sigmoid()
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    >>> sigmoid.backward(np.array([1.0, 1.0, 1.0]))
    array([0.  , 0.25, 0.  ])
    """

    @staticmethod
    def function(x):
        return sigmoid(x)

    @staticmethod
    def gradient(grad_y, y):
        return grad_y * (y * (y.dtype.type(1) - y))


class Tanh(Activation):
    """y = tanh(x), with derivative 1 - y^2.

    x : float32 or float64 array of any shape.

    >>> import numpy as np
    >>> tanh = Tanh()
    >>> tanh(np.array([-1000.0, 0.0, 1000.0]))
    array([-1.,  0.,  1.])
    >>> tanh.backward(np.array([1.0, 1.0, 1.0]))
    array([0., 1., 0.])
    """

    @staticmethod
    def function(x):
        return np.tanh(x)

    @staticmethod
    def gradient(grad_y, y):
        return grad_y * (y.dtype.type(1) - y * y)


def sigmoid(x):
    """1 / (1 + exp(-x)), where exp sees no positive number and so cannot overflow."""
    one = x.dtype.type(1)
    with np.errstate(under="ignore"):
        small = np.exp(-np.abs(x))
        return np.where(x < 0, small, one) / (one + small)
