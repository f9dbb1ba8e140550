"""Layers that stand together in a Sequential and are run as one kernel, with the bits of one after the other."""

import numpy as np

from .activation import ReLU
from .batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .checks import check_array, dense
from .dropout import Dropout
from .linear import Linear
from .masked import checked_gradient
from .module import RanTogether, masked_forward


class Block:
    """Layers in the place of which a kernel is called, forward and backward.

    A subclass names the types that may follow each other in `kinds`, any of which may be missing, and
    defines `fused_forward(x, mask, kernels, training)`, for layers that agree in these, and `fused_backward(saved,
    grad_y, accumulate, input_grad)`. What backward needs is kept here, and each layer keeps this block's mark until it
    is called alone: then the layers' own `backward` decide, and raise where they lack something. Layers that disagree
    are run one by one.
    """

    kinds = ()
    _saved = None

    def __init__(self, layers):
        self.layers, self.mark = layers, RanTogether()

    def __repr__(self):
        return ", ".join(map(repr, self.layers))

    def forward(self, x, mask=None):
        kernels, training = self.layers[0].kernels, self.layers[0].training
        for layer in self.layers:
            if layer.kernels is not kernels or layer.training != training:
                return self.forward_one_by_one(x, mask)
        return self.fused_forward(x, mask, kernels, training)

    def forward_one_by_one(self, x, mask):
        for layer in self.layers:
            x = masked_forward(layer, x, mask)
        return x

    def backward(self, grad_y, accumulate=False, input_grad=True):
        for layer in self.layers:
            if layer._saved is not self.mark:
                break
        else:
            return self.fused_backward(self._saved, grad_y, accumulate, input_grad)
        for layer in reversed(self.layers):
            grad_y = layer.backward(grad_y, accumulate)
        return grad_y

    def save_for_backward(self, *values):
        """Keep `values` for `fused_backward`."""
        self._saved = values
        for layer in self.layers:
            layer._saved = self.mark

    def has_parameters(self):
        return any(layer.has_parameters() for layer in self.layers)

    def layer_of(self, kind):
        return next((layer for layer in self.layers if type(layer) is kind), None)


class BiasReLUDropout(Block):
    """Linear, ReLU and Dropout, or two of them: the matrix product, and all the rest at once."""

    kinds = (Linear,), (ReLU,), (Dropout,)

    def __init__(self, layers):
        super().__init__(layers)
        self.linear, self.relu, self.dropout = (self.layer_of(*kind) for kind in self.kinds)

    def fused_forward(self, x, mask, kernels, training):
        if self.linear is None:
            check_array("x", x)
            y, bias, out = dense(x), None, None
        else:
            y = out = self.linear.product(x)
            bias = self.linear.bias
        p, seed, offset = NO_DROPOUT if self.dropout is None or not training else self.dropout.next_draw()
        y, mask_bits = kernels.bias_relu_dropout_forward(
            y, bias, relu=self.relu is not None, p=p, seed=seed, offset=offset, out=out)
        if training:
            if self.dropout is not None:
                self.dropout.offset[...] = offset + 1
            self.save_for_backward(x, mask_bits, p, y.shape, y.strides, y.dtype)
        return y

    def fused_backward(self, saved, grad_y, accumulate, input_grad):
        x, mask, p, *like_y = saved
        grad_y = checked_gradient(grad_y, *like_y)
        if self.linear is None:
            return self.layers[0].kernels.bias_relu_dropout_backward(grad_y, mask, p=p, grad_bias=None)
        return self.linear.masked_backward(x, grad_y, mask, p, accumulate, input_grad)


class BatchNormReLUDropout(Block):
    """BatchNorm, ReLU and Dropout, or two of them the first of which is BatchNorm."""

    kinds = (BatchNorm1d, BatchNorm2d, BatchNorm3d), (ReLU,), (Dropout,)

    def __init__(self, layers):
        super().__init__(layers)
        self.norm, (self.relu, self.dropout) = layers[0], (self.layer_of(*kind) for kind in self.kinds[1:])

    def fused_forward(self, x, mask, kernels, training):
        flags = x.flags if training and isinstance(x, np.ndarray) and mask is None and self.norm.is_plain() else None
        if flags is None or not flags.c_contiguous or not flags.aligned:
            return self.forward_one_by_one(x, mask)
        norm, dropout = self.norm, self.dropout
        p, seed, offset = NO_DROPOUT if dropout is None else dropout.next_draw()
        y, mask_bits, mean, rstd = norm.relu_dropout_forward(x, self.relu is not None, p, seed, offset)
        if dropout is not None:
            dropout.offset[...] = offset + 1
        self.save_for_backward(x, mean, rstd, mask_bits, p)
        return y

    def fused_backward(self, saved, grad_y, accumulate, input_grad):
        return self.norm.relu_dropout_backward(*saved, grad_y, accumulate)


BLOCKS = [BiasReLUDropout, BatchNormReLUDropout]
NO_DROPOUT = 0.0, 0, 0  # p, seed, offset


def fuse(layers):
    """The layers, a Block in the place of those that one takes.

    Subclasses are left alone, and layers whose `forward` or `backward` someone has replaced by now.
    """
    steps = []
    while layers:
        runs = [(len(run), kind, run) for kind in BLOCKS for run in [_beginning(layers, kind.kinds)]]
        length, kind, run = max(runs, key=lambda found: found[0])
        steps.append(kind(run) if length > 1 else layers[0])
        layers = layers[max(length, 1) :]
    return steps


def _beginning(layers, kinds):
    """The longest beginning of `layers` that has types of `kinds`, in order and each at most once."""
    run, left = [], iter(kinds)
    for layer in layers:
        # The kernels of blocks scale what dropout keeps; evaluation would have to scale, too, were it not inverted.
        if (not any(type(layer) in kind for kind in left) or (type(layer) is Dropout and not layer.inverted)
                or not _is_ours(layer)):
            break
        run.append(layer)
    return run


def _is_ours(layer):
    """Whether nobody has put another function in the place of the layer's `forward` or `backward`."""
    return all(getattr(method, "__module__", "").startswith(f"{__package__}.")
               for method in (layer.forward, layer.backward))
