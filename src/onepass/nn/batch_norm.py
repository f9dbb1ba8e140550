import numpy as np

from ..checks import number
from .checks import c_dense, check_array, check_gradient, float_dtype, positive_int
from .module import Module


class BatchNorm(Module):
    """What the three share; they differ in the numbers of dimensions that they take."""

    dimensions = ()

    parameter_names = "weight", "bias"
    buffer_names = "running_mean", "running_var", "num_batches_tracked"

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, *, axis=1, dtype=np.float32):
        if axis not in (1, -1):
            raise ValueError(f"axis must be 1 or -1, where the channels are, was {axis!r}")
        self.num_features = positive_int("num_features", num_features)
        self.eps, self.axis = number("eps", eps), axis
        self.momentum = None if momentum is None else number("momentum", momentum, high=1)
        dtype = float_dtype(dtype)
        self.weight = np.ones(self.num_features, dtype) if affine else None
        self.bias = np.zeros(self.num_features, dtype) if affine else None
        self.running_mean = np.zeros(self.num_features, dtype)
        self.running_var = np.ones(self.num_features, dtype)
        self.num_batches_tracked = np.array(0, dtype=np.int64)
        self.own_gradients()

    def forward(self, x):
        self.check_input(x)
        if not self.training:
            return self.kernels.batch_norm_inference(x, *self._arrays_of_forward(), axis=self.axis, eps=self.eps)
        batches, momentum = self._next_batch()
        y, mean, rstd = self.kernels.batch_norm_forward(
            x, *self._arrays_of_forward(), axis=self.axis, momentum=momentum, eps=self.eps)
        self.num_batches_tracked[...] = batches
        self._kept = x, mean, rstd
        return y

    def backward(self, grad_y, accumulate=False):
        x, mean, rstd = self.kept()
        check_gradient(grad_y, x.shape, x.dtype)
        if x.ndim > 3 and self._axis_order(grad_y) != self._axis_order(x):
            # One loop walks both arrays; a Flatten after Fortran-ordered images turns the gradient around.
            ordered = np.empty_like(x)
            ordered[...] = grad_y
            grad_y = ordered
        grad_weight, grad_bias = self._targets(accumulate)
        grad_x = self.kernels.batch_norm_backward(
            grad_y, x, self.weight, mean, rstd, grad_weight, grad_bias, axis=self.axis, training=True)
        if accumulate:
            self._add(grad_weight, grad_bias)
        return grad_x

    def relu_dropout_forward(self, x, relu, p, seed, offset):
        """`forward` in training, then ReLU and dropout; x is C-contiguous. Returns y and their mask."""
        self.check_input(x)
        batches, momentum = self._next_batch()
        y, mean, rstd, mask = self.kernels.batch_norm_relu_dropout_forward(
            x, self.weight, self.bias, self.running_mean, self.running_var,
            axis=self.axis, momentum=momentum, eps=self.eps, relu=relu, p=p, seed=seed, offset=offset)
        self.num_batches_tracked[...] = batches
        self._kept = x, mean, rstd
        return y, mask

    def relu_dropout_backward(self, grad_y, mask, p, accumulate):
        """The gradient through all that."""
        x, mean, rstd = self._kept
        check_gradient(grad_y, x.shape, x.dtype)
        grad_weight, grad_bias = self._targets(accumulate)
        grad_x = self.kernels.batch_norm_relu_dropout_backward(
            c_dense(grad_y), x, self.weight, mean, rstd, mask, grad_weight, grad_bias, axis=self.axis, p=p)
        if accumulate:
            self._add(grad_weight, grad_bias)
        return grad_x

    def check_input(self, x):
        check_array("x", x, self.running_mean.dtype)
        if x.ndim not in self.dimensions or x.shape[self.axis] != self.num_features:
            raise ValueError(f"x must have shape {self._wanted_shapes()}, was {x.shape}")
        if self.training and x.size == self.num_features:
            raise ValueError(f"Expected more than 1 value per channel when training, had shape {x.shape}")

    def _arrays_of_forward(self):
        return self.weight, self.bias, self.running_mean, self.running_var

    def _next_batch(self):
        """What the number of batches is to be, and the weight of the new one."""
        batches = self.num_batches_tracked.item() + 1
        return batches, 1 / batches if self.momentum is None else self.momentum

    def _targets(self, accumulate):
        """What a kernel writes the parameters' gradients to: they themselves, or what is to be added to them."""
        if accumulate and self.weight is not None:
            return np.empty_like(self.grad_weight), np.empty_like(self.grad_bias)
        return self.grad_weight, self.grad_bias

    def _add(self, grad_weight, grad_bias):
        if self.weight is not None:
            self.grad_weight += grad_weight
            self.grad_bias += grad_bias

    def extra_repr(self):
        axis = "" if self.axis == 1 else f", axis={self.axis}"
        dtype = "" if self.running_mean.dtype == np.float32 else f", dtype={self.running_mean.dtype}"
        affine = self.weight is not None
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={affine}{axis}{dtype}"

    def _axis_order(self, x):
        """The axes that are summed over, the one with the smallest steps in memory first."""
        axes = (i for i in range(x.ndim) if i != self.axis % x.ndim and x.shape[i] > 1)
        return sorted(axes, key=lambda i: abs(x.strides[i]))

    def _wanted_shapes(self):
        shapes = []
        for n in self.dimensions:
            inner = ["L", "HW", "DHW"][n - 3] if n > 2 else ""
            axes = ["N", *inner]
            axes.insert(1 if self.axis == 1 else len(axes), str(self.num_features))
            shapes.append(f"({', '.join(axes)})")
        return " or ".join(shapes)


class BatchNorm1d(BatchNorm, leaf=True):
    """Batch normalisation (Ioffe and Szegedy 2015) of (N, C) or (N, C, L) input.

    For every channel::

        y = (x - mean) / sqrt(var + eps) * weight + bias

    In training mean and var (divided by n) are those of the batch, and the running statistics, which
    serve in evaluation, move towards them: running = (1 - momentum) * running + momentum * batch,
    the variance there divided by n - 1. `momentum` weighs the *new* batch, as in PyTorch; other
    libraries mean the old statistics.

    num_features : C
    eps : added to the variance
    momentum : weight of each new batch; None makes the running statistics the average of all batches
    affine : whether to learn weight (C,), which starts at 1, and bias (C,), which starts at 0
    axis : where the channels are: 1, or -1 for (N, L, C)
    dtype : float32 or float64, of the parameters and of x

    In training, one value per channel raises ValueError. The formulas of kernel and gradient are at
    `onepass.reference.batch_norm_forward` and `batch_norm_backward`.

    >>> import numpy as np
    >>> layer = BatchNorm1d(2)
    >>> layer(np.array([[1, 10], [3, 30]], np.float32)).round(3)
    array([[-1., -1.], [ 1.,  1.]], dtype=float32)
    >>> layer.running_mean
    array([0.2, 2. ], dtype=float32)
    """

    dimensions = 2, 3


class BatchNorm2d(BatchNorm, leaf=True):
    """Batch normalisation of (N, C, H, W) input, or (N, H, W, C) with `axis=-1`; see `BatchNorm1d`.

    >>> import numpy as np
    >>> BatchNorm2d(3, axis=-1)(np.ones((2, 8, 8, 3), np.float32)).shape
    (2, 8, 8, 3)
    """

    dimensions = (4,)


class BatchNorm3d(BatchNorm, leaf=True):
    """Batch normalisation of (N, C, D, H, W) input, or (N, D, H, W, C) with `axis=-1`; see `BatchNorm1d`.

    >>> import numpy as np
    >>> BatchNorm3d(3)(np.ones((2, 3, 4, 5, 6), np.float32)).shape
    (2, 3, 4, 5, 6)
    """

    dimensions = (5,)
