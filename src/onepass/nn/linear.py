import math

import numpy as np

from .checks import check_array, check_shape, float_dtype, positive_int
from .module import Module


class Linear(Module):
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

    parameter_names = "weight", "bias"

    def __init__(self, in_features, out_features, bias=True, *, dtype=np.float32, rng=None):
        self.in_features = positive_int("in_features", in_features)
        self.out_features = positive_int("out_features", out_features)
        dtype = float_dtype(dtype)
        rng = np.random.default_rng(rng)
        bound = 1 / math.sqrt(self.in_features)
        self.weight = rng.uniform(-bound, bound, (self.out_features, self.in_features)).astype(dtype)
        self.bias = rng.uniform(-bound, bound, self.out_features).astype(dtype) if bias else None
        self.own_gradients()

    def forward(self, x):
        check_array("x", x, self.weight.dtype)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(f"x must have shape (..., {self.in_features}), was {x.shape}")
        y = x.reshape(-1, self.in_features) @ self.weight.T
        if self.bias is not None:
            y += self.bias
        self.keep(x)
        return y.reshape(*x.shape[:-1], self.out_features)

    def backward(self, grad_y, accumulate=False):
        x = self.kept()
        check_array("grad_y", grad_y, x.dtype)
        check_shape("grad_y", grad_y, (*x.shape[:-1], self.out_features))
        rows = grad_y.reshape(-1, self.out_features)
        inputs = x.reshape(-1, self.in_features)
        if accumulate:
            self.grad_weight += rows.T @ inputs
        else:
            np.matmul(rows.T, inputs, out=self.grad_weight)
        if self.bias is not None:
            if accumulate:
                self.grad_bias += rows.sum(axis=0)
            else:
                rows.sum(axis=0, out=self.grad_bias)
        return (rows @ self.weight).reshape(x.shape)

    def extra_repr(self):
        dtype = "" if self.weight.dtype == np.float32 else f", dtype={self.weight.dtype}"
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}{dtype}"
