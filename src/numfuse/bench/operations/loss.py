"""Parts of every loss; no case of its own."""

import numpy as np

from ..case import ROUNDING
from ..rivals import Rival, Unsupported

GROUP = "losses"
TOLERANCE = ROUNDING
CASES = []


def pair_arguments(size, dtype, rng, *, weights=(), absent=(), **options):
    """The arguments of a loss of predictions and targets of the same shape, with some weights, and others None."""
    x = rng.standard_normal(size, dtype=dtype)
    counts = {"sample_weight": len(x), "pos_weight": x.shape[-1]}
    given = {name: 0.5 + rng.random(counts[name], dtype=dtype) for name in weights} | dict.fromkeys(absent)
    return {"prediction": x, "target": rng.random(size, dtype=dtype), **given, "mean": True, **options,
            "out": np.empty_like(x)}


def pair_passes(arguments):
    """Weights, of which there are as many as elements in a vector, are added up before."""
    pair, weights = [arguments["prediction"], arguments["target"]], arguments["sample_weight"]
    if weights is None or weights.size < pair[0].size:
        return [(pair, [], [arguments["out"]])]
    return [([weights], [], []), ([*pair, weights], [], [arguments["out"]])]


def weighted(terms, slopes, sample_weight, mean):
    """A loss and its gradient from those of the elements."""
    n = terms.size
    if sample_weight is not None:
        w = sample_weight.reshape(-1, *[1] * (terms.ndim - 1))
        terms, slopes, n = w * terms, w * slopes, w.sum() * (n // max(w.size, 1))
    n = n if mean else 1
    return float(terms.sum() / n), slopes / n


def share_and_weights(prediction, sample_weight, mean):
    """The share of an element of weight 1 in a mean or sum, and the weights in a shape that broadcasts."""
    if sample_weight is None:
        return 1 / prediction.size if mean and prediction.size else 1, None
    w = sample_weight.reshape(-1, *[1] * (prediction.ndim - 1))
    total = float(w.sum()) * (prediction.size // max(w.size, 1))
    return 1 / total if mean and total else 1, w


def element_loss_in_torch(function, prediction, target, sample_weight, mean):
    """The same of a loss with a term for each element."""
    from ..peers import torch as peer

    target, weight = peer.shared(target, sample_weight)
    if weight is not None:
        weight = weight.reshape(-1, *[1] * (target.ndim - 1)).expand(target.shape)
    return loss_in_torch(function, prediction, target, weight, mean, lambda: weight.sum())


def loss_in_torch(function, prediction, target, weight, mean, total):
    """PyTorch's loss and its gradient. `weight`, of the terms, may be None; else a mean divides by `total()`."""
    from ..peers import torch as peer

    (x,) = peer.shared(prediction)
    x.requires_grad_()
    value = [None]

    def run():
        x.grad = None
        if weight is None:
            value[0] = function(x, target, reduction="mean" if mean else "sum")
        else:
            value[0] = (weight * function(x, target, reduction="none")).sum()
            if mean:
                value[0] = value[0] / total()
        value[0].backward()

    return {"torch": Rival(run, lambda: {"loss": value[0].item(), "grad": x.grad.numpy()})}


def loss_in_jax(terms, prediction, target, sample_weight, mean, out):
    """The mean or sum of an Optax loss's terms, and its gradient."""
    import jax

    from ..peers import jax as peer

    if sample_weight is not None:
        raise Unsupported("optax's losses have no weights")

    def loss(x, target):
        values = terms(x, target)
        return values.mean() if mean else values.sum()

    def value_and_grad(grad, value, x, target):
        value, grad = jax.value_and_grad(loss)(x, target)
        return grad, value

    state = [peer.device(out), peer.device(np.zeros((), prediction.dtype))]
    return peer.rival(value_and_grad, state, [peer.device(prediction), peer.device(target)], ("grad", "loss"))
