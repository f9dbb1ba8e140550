from .checks import check_array, dense
from .masked import Masked, checked_gradient
from .module import Module


class ReLU(Masked, leaf=True):
    """y = max(x, 0) (Nair and Hinton 2010). NaN stays NaN, -0 becomes 0; the derivative at 0 is 0.

    x : float32 or float64 array of any shape.

    >>> import numpy as np
    >>> relu = ReLU()
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    >>> relu.backward(np.array([5.0, 5.0, 5.0]))
    array([0., 0., 5.])
    """

    def forward(self, x):
        check_array("x", x)
        y, mask = self.kernels.bias_relu_dropout_forward(dense(x), None, relu=True, p=0.0, seed=0, offset=0)
        self.keep_mask(mask, 0.0, y)
        return y


class SmoothActivation(Module):
    """A function of each element alone, whose derivative is a function of its result, which it keeps."""

    def forward(self, x):
        check_array("x", x)
        y = self.kernels.activation_forward(dense(x), None, function=self.function_name)
        self.keep(y)
        return y

    def backward(self, grad_y, accumulate=False):
        y = self.kept()
        grad_y = checked_gradient(grad_y, y.shape, y.strides, y.dtype)
        return self.kernels.activation_backward(grad_y, y, function=self.function_name, grad_bias=None)


class Sigmoid(SmoothActivation, leaf=True):
    """y = 1 / (1 + exp(-x)), with derivative y (1 - y).

    x : float32 or float64 array of any shape.

    >>> import numpy as np
    >>> sigmoid = Sigmoid()
    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    >>> sigmoid.backward(np.array([1.0, 1.0, 1.0]))
    array([0.  , 0.25, 0.  ])
    """

    function_name = "sigmoid"


class Tanh(SmoothActivation, leaf=True):
    """y = tanh(x), with derivative 1 - y^2.

    x : float32 or float64 array of any shape.

    >>> import numpy as np
    >>> tanh = Tanh()
    >>> tanh(np.array([-1000.0, 0.0, 1000.0]))
    array([-1.,  0.,  1.])
    >>> tanh.backward(np.array([1.0, 1.0, 1.0]))
    array([0., 1., 0.])
    """

    function_name = "tanh"
