"""Functions of each element alone, y = f(x), and their gradients.

::

    name          f(x)                            f'(x)
    "sigmoid"     1 / (1 + exp(-x))               y (1 - y)
    "tanh"        tanh(x)                         1 - y^2
    "leaky_relu"  x where x > 0, else alpha x     1 where x > 0, else alpha
    "elu"         x where x > 0, else             1 where x > 0, else
                  alpha (exp(x) - 1)              alpha exp(x)
    "silu"        x s(x), s being sigmoid         s(x) (1 + x s(-x))
    "gelu"        x Phi(x)                        Phi(x) + x phi(x)
    "gelu_tanh"   x s(u)                          s(u) (1 + x u' s(-u))

Phi is the normal distribution's share below x and phi its density; u = sqrt(8 / pi) (x + 0.044715 x^3), of
which s(u) is (1 + tanh(u / 2)) / 2. The derivatives of sigmoid and tanh are taken from y, so that the caller
keeps y for `activation_backward`; for the others it keeps x. Where a formula multiplies 0 by infinity, it gives NaN:
"silu" and both kinds of "gelu" at -infinity, and the derivatives of "silu" and "gelu" at either.
"""

import math

import numpy as np

from .bias import row_sums
from .rounding import scalar


def activation_forward(x, bias, *, function, alpha, out=None):
    """y = f(x + bias), f being the function of that name in the table above.

    x : float32 or float64 array, C-contiguous; without a bias any that has no gaps in memory
    bias : (C,) array of x's dtype, C being the length of x's last axis, or None
    function : "sigmoid", "tanh", "leaky_relu", "elu", "silu", "gelu" or "gelu_tanh"
    alpha : finite number, of use to "leaky_relu" and "elu"
    out : array for y: x itself, or one of x's shape, dtype and strides; None makes a new one
    """
    with np.errstate(all="ignore"):
        shifted = x if bias is None else x + bias
        y = np.empty_like(x) if out is None else out
        y[...] = FUNCTIONS[function](shifted, scalar(alpha, x.dtype))
    return y


def activation_backward(grad_y, saved, bias, *, function, alpha, grad_bias, out=None):
    """The gradient through `activation_forward`::

        grad_x    = grad_y * f'(x + bias)
        grad_bias = sum of grad_x over all axes but the last, as `bias_backward` takes it

    grad_y, saved : arrays of one shape, dtype and memory order; saved is the y of "sigmoid" and "tanh", the x of others
    bias : as for `activation_forward`; y has it in it, so that "sigmoid" and "tanh" pay no attention
    function, alpha : as for `activation_forward`
    grad_bias : (C,) array of their dtype that is overwritten, or None
    out : array for grad_x: grad_y itself, or one like it; None makes a new one

    Returns grad_x.
    """
    grad_x = np.empty_like(grad_y) if out is None else out
    with np.errstate(all="ignore"):
        argument = saved if bias is None or function in FROM_RESULT else saved + bias
        grad_x[...] = grad_y * SLOPES[function](argument, scalar(alpha, saved.dtype))
        if grad_bias is not None and grad_bias.size:
            grad_bias[...] = row_sums(grad_x.reshape(-1), grad_bias.size).astype(grad_x.dtype)
    return grad_x


def sigmoid(x):
    """1 / (1 + exp(-x)), where exp sees no positive number and so cannot overflow."""
    one = x.dtype.type(1)
    with np.errstate(all="ignore"):
        small = np.exp(-np.abs(x))
        return np.where(x < 0, small, one) / (one + small)


def leaky_relu(x, alpha):
    return np.where(x > 0, x, alpha * x)


def leaky_relu_slope(x, alpha):
    return np.where(x > 0, x.dtype.type(1), alpha)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, x.dtype.type(0))))


def elu_slope(x, alpha):
    return np.where(x > 0, x.dtype.type(1), alpha * np.exp(np.minimum(x, x.dtype.type(0))))


def silu_slope(x):
    return sigmoid(x) * (x.dtype.type(1) + x * sigmoid(-x))


def gelu(x):
    return x * normal_cdf(x)


def gelu_slope(x):
    x64 = x.astype(np.float64)
    density = np.exp(-0.5 * x64 * x64) / math.sqrt(2 * math.pi)
    return normal_cdf(x) + x * density.astype(x.dtype)


def normal_cdf(x):
    """Phi(x) = erfc(-x / sqrt 2) / 2, in float64 and rounded: NumPy has no such function."""
    values = [math.erfc(-v * math.sqrt(0.5)) / 2 for v in x.ravel().tolist()]
    return np.array(values, x.dtype).reshape(x.shape)


def gelu_tanh(x):
    scale, cubic = _gelu_tanh_terms(x)
    return x * sigmoid(scale * (x + cubic))


def gelu_tanh_slope(x):
    end = x.dtype.type(40)  # beyond it, f' is 0 or 1, and the cube might overflow
    x = np.clip(x, -end, end)
    scale, cubic = _gelu_tanh_terms(x)
    u, three, one = scale * (x + cubic), x.dtype.type(3), x.dtype.type(1)
    return sigmoid(u) * (one + scale * (x + three * cubic) * sigmoid(-u))


def _gelu_tanh_terms(x):
    return scalar(math.sqrt(8 / math.pi), x.dtype), scalar(0.044715, x.dtype) * (x * x * x)


FROM_RESULT = "sigmoid", "tanh"
FUNCTIONS = {
    "sigmoid": lambda x, alpha: sigmoid(x),
    "tanh": lambda x, alpha: np.tanh(x),
    "leaky_relu": leaky_relu,
    "elu": elu,
    "silu": lambda x, alpha: x * sigmoid(x),
    "gelu": lambda x, alpha: gelu(x),
    "gelu_tanh": lambda x, alpha: gelu_tanh(x),
}
SLOPES = {
    "sigmoid": lambda y, alpha: y * (y.dtype.type(1) - y),
    "tanh": lambda y, alpha: y.dtype.type(1) - y * y,
    "leaky_relu": leaky_relu_slope,
    "elu": elu_slope,
    "silu": lambda x, alpha: silu_slope(x),
    "gelu": lambda x, alpha: gelu_slope(x),
    "gelu_tanh": lambda x, alpha: gelu_tanh_slope(x),
}
