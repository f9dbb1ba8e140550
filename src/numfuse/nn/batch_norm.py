import numpy as np

from ..checks import integer, number
from .checks import c_dense, channel_axis, check_array, check_gradient, float_dtype, positive_int
from .module import Module
from .row_mask import RowMask, group_slices


class BatchNorm(Module):
    """What the three share; they differ in the numbers of dimensions that they take."""

    kernel_names = ("batch_norm_forward", "batch_norm_inference", "batch_norm_backward",
                    "batch_norm_relu_dropout_forward", "batch_norm_relu_dropout_backward")
    dimensions = ()
    frozen = False

    parameter_names = "weight", "bias"
    buffer_names = "running_mean", "running_var", "num_batches_tracked"

    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, *,
                 axis=1, ghost_batch_size=None, dtype=np.float32):
        self.axis = channel_axis(axis)
        self.num_features = positive_int("num_features", num_features)
        self.eps = number("eps", eps)
        self.ghost_batch_size = None if ghost_batch_size is None else integer("ghost_batch_size", ghost_batch_size, 2)
        self.momentum = None if momentum is None else number("momentum", momentum, high=1)
        self.dtype = float_dtype(dtype)
        self.weight = np.ones(self.num_features, self.dtype) if affine else None
        self.bias = np.zeros(self.num_features, self.dtype) if affine else None
        self.running_mean = np.zeros(self.num_features, self.dtype) if track_running_stats else None
        self.running_var = np.ones(self.num_features, self.dtype) if track_running_stats else None
        self.num_batches_tracked = np.array(0, dtype=np.int64) if track_running_stats else None
        self.init_gradients()

    def freeze(self, mode=True):
        """Take the running statistics in training, too, and leave them alone; `mode=False` ends it. Returns self.

        As the modes it is not part of `state_dict`: a net that is built anew is to be frozen anew.
        Gradients pass: weight and bias go on learning, and grad_x = grad_y * weight / sqrt(running_var + eps).
        ValueError if there are no running statistics.
        """
        if mode and self.running_mean is None:
            raise ValueError("a batch norm with track_running_stats=False cannot be frozen")
        self.frozen = bool(mode)
        return self

    def forward(self, x, mask=None):
        """y, from the valid values of x; where `mask` is False, y is 0 and so will grad_x be.

        mask : bool array of x's shape without the channel axis, or (N,); None means all True
        """
        self.check_input(x)
        if mask is not None:
            mask = self._row_mask(mask, x)
        entries = x if mask is None else mask.take(x)
        if not self.takes_batch_statistics():
            y = self.kernels.batch_norm_inference(entries, *self._arrays_of_forward(), axis=self.axis, eps=self.eps)
            groups = [(None, *self.running_statistics())] if self.training else None
        elif self.ghost_batch_size is None or not self.training:
            y, mean, rstd = self._normalize(entries)
            groups = [(None, mean, rstd)]
        else:
            y, groups = self._normalize_groups(entries, mask)
        if self.training:
            self._saved = entries, groups, not self.frozen, mask
        return y if mask is None else mask.put(y)

    def backward(self, grad_y, accumulate=False):
        x, groups, training, mask = self.saved()
        check_gradient(grad_y, x.shape if mask is None else mask.shape, x.dtype)
        if mask is not None:
            grad_y = mask.take(grad_y)
        elif x.ndim > 3 and self._axis_order(grad_y) != self._axis_order(x):
            # One loop walks both arrays; a Flatten after Fortran-ordered images turns the gradient around.
            ordered = np.empty_like(x)
            ordered[...] = grad_y
            grad_y = ordered
        if len(groups) == 1:
            [(_, mean, rstd)] = groups
            grad_x = self._backward_group(grad_y, x, mean, rstd, training, accumulate)
        else:
            grad_x = np.empty_like(x)
            for rows, mean, rstd in groups:
                self._backward_group(grad_y[rows], x[rows], mean, rstd, training, accumulate, grad_x[rows])
                accumulate = True
        return grad_x if mask is None else mask.put(grad_x)

    def relu_dropout_forward(self, x, relu, p, seed, offset):
        """`forward` in training of a layer that `is_plain`, then ReLU and dropout: y, their mask, mean and rstd.

        x is C-contiguous.
        """
        self.check_input(x)
        batches, momentum = self._next_batch()
        y, mean, rstd, mask = self.kernels.batch_norm_relu_dropout_forward(
            x, self.weight, self.bias, self.running_mean, self.running_var,
            axis=self.axis, momentum=momentum, eps=self.eps, relu=relu, p=p, seed=seed, offset=offset)
        if batches is not None:
            self.num_batches_tracked[...] = batches
        return y, mask, mean, rstd

    def relu_dropout_backward(self, x, mean, rstd, mask, p, grad_y, accumulate):
        """The gradient through all that, of grad_y."""
        check_gradient(grad_y, x.shape, x.dtype)
        grad_weight, grad_bias = self._targets(accumulate)
        grad_x = self.kernels.batch_norm_relu_dropout_backward(
            c_dense(grad_y), x, self.weight, mean, rstd, mask, grad_weight, grad_bias, axis=self.axis, p=p)
        if accumulate:
            self._add(grad_weight, grad_bias)
        return grad_x

    def check_input(self, x):
        check_array("x", x, self.dtype)
        if x.ndim not in self.dimensions or x.shape[self.axis] != self.num_features:
            raise ValueError(f"x must have shape {self._wanted_shapes()}, was {x.shape}")
        if x.size == self.num_features and self.takes_batch_statistics():
            raise ValueError(f"Expected more than 1 value per channel when training, had shape {x.shape}")

    def running_statistics(self):
        """The running mean and rstd, as the kernels return those of a batch."""
        return self.running_mean.astype(np.float64), 1 / np.sqrt(self.running_var.astype(np.float64) + self.eps)

    def takes_batch_statistics(self):
        """Whether `forward` normalises by the statistics of the batch, not by the running ones."""
        return self.training and not self.frozen or self.running_mean is None

    def is_plain(self):
        """Whether training is what `batch_norm_forward` does, called once."""
        return self.ghost_batch_size is None and not self.frozen

    def _row_mask(self, mask, x):
        """`mask` as a RowMask, or None if it is all True."""
        mask = RowMask(mask, x, self.axis)
        if mask.all():
            return None
        if self.takes_batch_statistics() and mask.valid_size() == self.num_features:
            raise ValueError("Expected more than 1 value per channel when training, mask leaves 1")
        return mask

    def _normalize(self, x, out=None):
        """What the kernel returns; counts a batch."""
        batches, momentum = self._next_batch()
        result = self.kernels.batch_norm_forward(
            x, self.weight, self.bias, self.running_mean, self.running_var,
            axis=self.axis, momentum=momentum, eps=self.eps, out=out)
        if batches is not None:
            self.num_batches_tracked[...] = batches
        return result

    def _normalize_groups(self, x, mask):
        """y, and (rows, mean, rstd) of each ghost batch; rows are None where they are all."""
        entries_of_rows = np.ones(len(x), np.intp) if mask is None else mask.entries_of_rows()
        slices = group_slices(entries_of_rows, self.ghost_batch_size, x.size // max(len(x) * self.num_features, 1))
        if len(slices) < 2:
            y, mean, rstd = self._normalize(x)
            return y, [(None, mean, rstd)]
        y = np.empty_like(x)
        return y, [(rows, *self._normalize(x[rows], y[rows])[1:]) for rows in slices]

    def _backward_group(self, grad_y, x, mean, rstd, training, accumulate, out=None):
        grad_weight, grad_bias = self._targets(accumulate)
        grad_x = self.kernels.batch_norm_backward(
            grad_y, x, self.weight, mean, rstd, grad_weight, grad_bias, axis=self.axis, training=training, out=out)
        if accumulate:
            self._add(grad_weight, grad_bias)
        return grad_x

    def _arrays_of_forward(self):
        return self.weight, self.bias, self.running_mean, self.running_var

    def _next_batch(self):
        """What the number of batches is to be, and the weight of the new one."""
        if self.num_batches_tracked is None:
            return None, 0.0
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
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        tracks = "" if self.running_mean is not None else ", track_running_stats=False"
        ghosts = "" if self.ghost_batch_size is None else f", ghost_batch_size={self.ghost_batch_size}"
        frozen = ", frozen=True" if self.frozen else ""
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"
                f"{tracks}{axis}{ghosts}{dtype}{frozen}")

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
    track_running_stats : False keeps no running statistics; in evaluation, too, the batch's serve
    axis : where the channels are: 1, or -1 for (N, L, C)
    ghost_batch_size : in training, normalise each group of so many rows by its own statistics (ghost
        batches, Hoffer et al. 2017), which the running ones take in turn; at least 2, None is one group.
        The last group holds what remains; if that is one value per channel, it joins the group before.
    dtype : float32 or float64, of the parameters and of x

    Any other option or input raises TypeError or ValueError, which names it.

    mask : for padded batches, `layer(x, mask)`: bool, (N,), or (N, L) for (N, C, L) or (N, L, C). Where it is
        False x enters no statistic, and y and grad_x are 0, in evaluation as well. It must be True somewhere.
        Ghost batches count the rows with a True.

    One value per channel has no variance: where the statistics of the batch are to normalise it, a batch of
    one, or a mask that leaves one, raises ValueError as in PyTorch, and changes nothing. The formulas of
    kernel and gradient are at `numfuse.reference.batch_norm_forward` and `batch_norm_backward`.

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
