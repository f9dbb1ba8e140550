"""What layers share whose gradient passes where a bit of a mask is 1."""

import numpy as np

from .checks import check_gradient
from .module import Module


class Masked(Module):
    """A layer without parameters, whose forward saves the mask of `numfuse.reference.bias_relu_dropout_forward`."""

    kernel_names = "bias_relu_dropout_forward", "bias_relu_dropout_backward"

    def save_mask(self, mask, p, y):
        """Save for `backward` what the kernel returned."""
        self.save_for_backward(mask, p, y.shape, y.strides, y.dtype)

    def backward(self, grad_y, accumulate=False):
        mask, p, *like_y = self.saved()
        grad_y = checked_gradient(grad_y, *like_y)
        return self.kernels.bias_relu_dropout_backward(grad_y, mask, p=p, grad_bias=None)


def checked_gradient(grad_y, shape, strides, dtype):
    """`grad_y` in the memory order in which a mask counts elements; errors if it does not fit."""
    check_gradient(grad_y, shape, dtype)
    if grad_y.strides == strides and grad_y.flags.aligned:
        return grad_y
    ordered = np.ndarray(shape, dtype, strides=strides)
    ordered[...] = grad_y
    return ordered
