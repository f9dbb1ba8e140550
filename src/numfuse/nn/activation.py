from ..checks import finite
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
        self.save_mask(mask, 0.0, y)
        return y


class Activation(Module):
    """A function of each element alone, by its name in `numfuse.reference.activation_forward`.

    Its derivative is one of its result, or else of its input; which of them it keeps, `saves_result` says.
    """

    kernel_names = "activation_forward", "activation_backward"
    alpha = 0.0
    saves_result = False

    def forward(self, x):
        check_array("x", x)
        x = dense(x)
        y = self.kernels.activation_forward(x, None, function=self.function_name, alpha=self.alpha)
        self.save_for_backward(y if self.saves_result else x)
        return y

    def backward(self, grad_y, accumulate=False):
        saved = self.saved()
        grad_y = checked_gradient(grad_y, saved.shape, saved.strides, saved.dtype)
        return self.kernels.activation_backward(
            grad_y, saved, None, function=self.function_name, alpha=self.alpha, grad_bias=None)


class Sigmoid(Activation, leaf=True):
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
    saves_result = True


class Tanh(Activation, leaf=True):
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
    saves_result = True


class LeakyReLU(Activation, leaf=True):
    """y = x where x > 0, else negative_slope x (Maas, Hannun and Ng 2013); the derivative at 0 is negative_slope.

    x : float32 or float64 array of any shape.
    negative_slope : finite number; TypeError or ValueError for anything else.

    >>> import numpy as np
    >>> leaky_relu = LeakyReLU(0.125)
    >>> leaky_relu(np.array([-4.0, 0.0, 2.0]))
    array([-0.5,  0. ,  2. ])
    >>> leaky_relu.backward(np.array([1.0, 1.0, 1.0]))
    array([0.125, 0.125, 1.   ])
    """

    function_name = "leaky_relu"

    def __init__(self, negative_slope=0.01):
        self.negative_slope = finite("negative_slope", negative_slope)

    @property
    def alpha(self):
        return self.negative_slope

    def extra_repr(self):
        return f"negative_slope={self.negative_slope}"


class ELU(Activation, leaf=True):
    """y = x where x > 0, else alpha (exp(x) - 1) (Clevert, Unterthiner and Hochreiter 2016).

    The derivative is 1 where x > 0, else alpha exp(x).

    x : float32 or float64 array of any shape.
    alpha : finite number; TypeError or ValueError for anything else.

    >>> import numpy as np
    >>> elu = ELU(alpha=0.5)
    >>> elu(np.array([-1000.0, 0.0, 2.0]))
    array([-0.5,  0. ,  2. ])
    >>> elu.backward(np.array([1.0, 1.0, 1.0]))
    array([0. , 0.5, 1. ])
    """

    function_name = "elu"

    def __init__(self, alpha=1.0):
        self.alpha = finite("alpha", alpha)

    def extra_repr(self):
        return f"alpha={self.alpha}"


class SiLU(Activation, leaf=True):
    """y = x s(x) with s(x) = 1 / (1 + exp(-x)) (Elfwing, Uchibe and Doya 2018), also called swish.

    The derivative is s(x) (1 + x s(-x)).

    x : float32 or float64 array of any shape.

    >>> import numpy as np
    >>> silu = SiLU()
    >>> silu(np.array([-1000.0, 0.0, 1000.0]))
    array([  -0.,    0., 1000.])
    >>> silu.backward(np.array([1.0, 1.0, 1.0]))
    array([-0. ,  0.5,  1. ])
    """

    function_name = "silu"


class GELU(Activation, leaf=True):
    """y = x Phi(x), Phi(x) being the normal distribution's share below x (Hendrycks and Gimpel 2016).

    The derivative is Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi). With approximate="tanh", Phi(x) is replaced by
    (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2, by which y changes by 5e-4 at most.

    x : float32 or float64 array of any shape.
    approximate : "none" or "tanh"; ValueError for anything else.

    >>> import numpy as np
    >>> gelu = GELU()
    >>> gelu(np.array([-3.0, 0.0, 1.0])).round(6)
    array([-0.00405 ,  0.      ,  0.841345])
    >>> gelu.backward(np.array([1.0, 1.0, 1.0])).round(6)
    array([-0.011946,  0.5     ,  1.083315])
    """

    def __init__(self, approximate="none"):
        if approximate not in ("none", "tanh"):
            raise ValueError(f'approximate must be "none" or "tanh", was {approximate!r}')
        self.approximate = approximate

    @property
    def function_name(self):
        return "gelu" if self.approximate == "none" else "gelu_tanh"

    def extra_repr(self):
        return f"approximate={self.approximate!r}"
