import math

import numpy as np

from .. import native
from .checks import c_dense, check_array, check_gradient, float_dtype, positive_int
from .module import Module

# The method: the function, np.dot, first looks among its arguments for other libraries' arrays.
dot = np.ndarray.dot
SMALL = 4096  # elements; float32 arrays of fewer are not recycled


class Linear(Module, leaf=True):
    """The affine map y = x @ weight.T + bias along the last axis.

    in_features, out_features : sizes of the last axis of x and of y
    bias : whether to add a bias
    dtype : float32 or float64, of the parameters and of x
    rng : numpy.random.Generator, seed or None, for the initial values. Give all layers of a net one
        Generator: two layers with equal seeds draw equal numbers.

    weight (out_features, in_features) and bias (out_features,) start uniform in +-1/sqrt(in_features),
    as in PyTorch: Kaiming's rule (He et al. 2015) with a = sqrt(5).

    x : (..., in_features), y : (..., out_features). ::

        grad_x      = grad_y @ weight
        grad_weight = grad_y.T @ x      over all leading axes
        grad_bias   = sum(grad_y)       over all leading axes

    >>> import numpy as np
    >>> layer = Linear(3, 2, rng=0)
    >>> layer(np.ones((5, 3), np.float32)).shape
    (5, 2)
    >>> layer.backward(np.ones((5, 2), np.float32)).shape
    (5, 3)
    >>> layer.grad_bias
    array([5., 5.], dtype=float32)
    """

    kernel_names = "bias_forward", "bias_backward", "bias_relu_dropout_backward"
    parameter_names = "weight", "bias"

    def __init__(self, in_features, out_features, bias=True, *, dtype=np.float32, rng=None):
        self.in_features = positive_int("in_features", in_features)
        self.out_features = positive_int("out_features", out_features)
        dtype = float_dtype(dtype)
        rng = np.random.default_rng(rng)
        bound = 1 / math.sqrt(self.in_features)
        self.weight = rng.uniform(-bound, bound, (self.out_features, self.in_features)).astype(dtype)
        self.bias = rng.uniform(-bound, bound, self.out_features).astype(dtype) if bias else None
        self.init_gradients()

    def forward(self, x):
        y = self.product(x)
        if self.training:
            self._saved = x
        return y if self.bias is None else self.kernels.bias_forward(y, self.bias, out=y)

    def backward(self, grad_y, accumulate=False, input_grad=True):
        x = self.saved()
        check_gradient(grad_y, (*x.shape[:-1], self.out_features), x.dtype)
        return self.masked_backward(x, c_dense(grad_y), None, 0.0, accumulate, input_grad)

    def product(self, x):
        """x @ weight.T, without the bias."""
        check_array("x", x, self.weight.dtype)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), was {x.shape}")
        return matmul(x, self.weight.T, self.out_features)

    def masked_backward(self, x, grad_y, mask, p, accumulate, input_grad):
        """`backward` where `bias_relu_dropout_forward` made `mask` (or None) of the product; grad_y is C-contiguous."""
        grad_bias = self.grad_bias
        if accumulate and grad_bias is not None:
            grad_bias = np.empty_like(grad_bias)
        if mask is not None:
            grad_y = self.kernels.bias_relu_dropout_backward(grad_y, mask, p=p, grad_bias=grad_bias)
        elif grad_bias is not None:
            self.kernels.bias_backward(grad_y, grad_bias)
        inputs, outputs = (x, grad_y) if x.ndim == 2 else (as_rows(x), as_rows(grad_y))
        if accumulate:
            self.grad_weight += dot(outputs.T, inputs)
            if grad_bias is not None:
                self.grad_bias += grad_bias
        else:
            dot(outputs.T, inputs, self.grad_weight)
        return matmul(grad_y, self.weight, self.in_features) if input_grad else None

    def extra_repr(self):
        dtype = "" if self.weight.dtype == np.float32 else f", dtype={self.weight.dtype}"
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}{dtype}"


def as_rows(x):
    return x.reshape(-1, x.shape[-1])


def matmul(x, matrix, columns):
    """x @ matrix in a new array, in recycled memory if that could pay."""
    if x.ndim == 2:
        rows = len(x)
        return dot(x, matrix) if rows * columns < SMALL else dot(x, matrix, native.empty((rows, columns), x.dtype))
    y = native.empty((*x.shape[:-1], columns), x.dtype)
    dot(as_rows(x), matrix, as_rows(y))
    return y
