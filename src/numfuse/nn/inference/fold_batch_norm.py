import copy

import numpy as np

from ..batch_norm import BatchNorm1d
from ..linear import Linear
from .fold_layers import fold_layers


def fold_batch_norm(net):
    """A copy of `net` for inference, with each BatchNorm1d put into the Linear that runs right before it.

    In evaluation batch normalisation is an affine map of each channel, and so the two layers are one::

        scale   = norm.weight / sqrt(norm.running_var + norm.eps)
        weight' = weight * scale                                            of a row of weight each
        bias'   = (bias - norm.running_mean) * scale + norm.bias

    computed in float64 and rounded once to the net's dtype.

    net : Sequential, whose Sequentials inside are folded, too; it is not changed. For 2-d input: a BatchNorm1d
        of 3-d input may have its channels elsewhere. Other batch norms, those without running statistics among
        them, are copied as they are. Dropout between the two is folded first, by `fold_dropout`.

    Returns a Sequential in evaluation mode. TypeError if `net` is anything else, a subclass too.

    >>> import numpy as np
    >>> from numfuse import nn
    >>> net = nn.Sequential(nn.Linear(4, 3, bias=False, rng=0), nn.BatchNorm1d(3), nn.ReLU())
    >>> folded = fold_batch_norm(net)
    >>> folded
    Sequential(
      (0): Linear(4, 3, bias=True)
      (1): ReLU()
    )
    >>> x = np.ones((2, 4), np.float32)
    >>> bool(np.allclose(folded(x), net.eval()(x), rtol=0, atol=1e-6))
    True
    """
    before = None  # the copy of the layer that runs right before

    def fold(layer, name):
        nonlocal before
        if _can_fold(before, layer):
            _put_into(before, layer)
            return []
        before = copy.deepcopy(layer)
        return [before]

    return fold_layers(net, fold)


def _can_fold(linear, norm):
    return (type(linear) is Linear and type(norm) is BatchNorm1d and norm.running_mean is not None
            and norm.num_features == linear.out_features and norm.dtype == linear.weight.dtype)


def _put_into(linear, norm):
    mean, scale = norm.running_statistics()
    bias = -mean if linear.bias is None else linear.bias - mean
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = 0 if norm.bias is None else norm.bias
    linear.weight = (linear.weight * scale[:, np.newaxis]).astype(norm.dtype)
    linear.bias = (bias * scale + shift).astype(norm.dtype)
    linear.init_gradients()
