"""Dropout's third way: a net for inference that has the factors 1 - p in its weights."""

import copy

from ...checks import number
from ..activation import LeakyReLU, ReLU
from ..dropout import DropoutBase, times
from ..flatten import Flatten
from ..linear import Linear
from .fold_layers import fold_layers

# f(a x) = a f(x) for every a >= 0.
HOMOGENEOUS = ReLU, LeakyReLU, Flatten


def scale_weights(linear, p):
    """A copy of a Linear for inference, with weight * (1 - p) (Srivastava et al. 2014, figure 2).

    It gives for x what `linear` gives for x * (1 - p), up to rounding: what it is to see, on average, after
    `Dropout(p, inverted=False)` in training. The bias is as it was.

    linear : Linear; TypeError for anything else. The copy has its shapes and dtype, and is in evaluation mode.
    p : the probability of zeroing of the dropout in front of it, from 0 to 1; TypeError or ValueError for anything else

    >>> import numpy as np
    >>> linear = Linear(3, 2, rng=0)
    >>> bool((scale_weights(linear, 0.5).weight == linear.weight / 2).all())
    True
    """
    if not isinstance(linear, Linear):
        raise TypeError(f"linear must be a Linear, was {linear!r}")
    return _scaled(linear, 1 - number("p", p, high=1))


def fold_dropout(net):
    """A copy of a Sequential for inference, without its dropout layers.

    It gives what `net` gives in evaluation, up to rounding. Inverted dropout is left out. Where dropout is not
    inverted, the next Linear gets the factor 1 - p into its weights, as by `scale_weights`; only ReLU, LeakyReLU,
    Flatten and other dropout may stand between them, through which a factor passes. ValueError otherwise.

    net : Sequential; in Sequentials within it dropout is folded, too, in other modules left as it is. TypeError for
        anything else, a subclass too.

    The copy shares no array with `net`, and is in evaluation mode.

    >>> from numfuse import nn
    >>> fold_dropout(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5, inverted=False), nn.ReLU(), nn.Linear(8, 3)))
    Sequential(
      (0): Linear(4, 8, bias=True)
      (1): ReLU()
      (2): Linear(8, 3, bias=True)
    )
    """
    factor = 1.0  # that the input of the next layer lacks

    def fold(layer, name):
        nonlocal factor
        if isinstance(layer, DropoutBase):
            factor *= 1 if layer.inverted else 1 - layer.p
            return []
        if type(layer) is Linear:
            scaled, factor = _scaled(layer, factor), 1.0
            return [scaled]
        if factor == 1 or type(layer) in HOMOGENEOUS:
            return [copy.deepcopy(layer)]
        raise ValueError(f"layer {name} must be a Linear, ReLU, LeakyReLU or Flatten, to follow dropout that is not "
                         f"inverted, was {layer!r}: the factor {factor:g} does not pass through it")

    folded = fold_layers(net, fold)
    if factor != 1:
        raise ValueError("net must have a Linear behind every dropout that is not inverted, to take its factor 1 - p; "
                         f"a factor of {factor:g} is left at the end")
    return folded


def _scaled(linear, factor):
    scaled = copy.deepcopy(linear).eval()
    scaled.weight = times(linear.weight, factor)
    return scaled
