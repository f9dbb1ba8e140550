"""Initial values: every function fills the array it is given, in place, and returns it.

Numbers are drawn in float64 and then cast, so that the stream does not depend on the dtype. `rng` is
a numpy.random.Generator, a seed or None.

A weight has shape (fan_out, fan_in) times a receptive field, if any: (out, in), (out, in, L), ...
"""

import math

import numpy as np

from ..checks import number
from .checks import check_array


def calculate_gain(nonlinearity, param=None):
    """The recommended gain: by how much to scale weights that lead into a nonlinearity.

    nonlinearity : "linear", "sigmoid", "tanh", "relu", "leaky_relu" or "selu"
    param : negative slope of "leaky_relu", 0.01 if None

    >>> calculate_gain("relu") == 2**0.5
    True
    """
    slope = 0.01 if param is None else param
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope * slope)),
        "selu": 3 / 4,
    }
    if nonlinearity not in gains:
        raise ValueError(f"nonlinearity must be one of {', '.join(gains)}, was {nonlinearity!r}")
    return gains[nonlinearity]


def xavier_uniform(weight, gain=1.0, rng=None):
    """Uniform values of standard deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    weight : float32 or float64 array of 2 dimensions or more

    >>> import numpy as np
    >>> weight = xavier_uniform(np.empty((30, 20), np.float32), rng=0)
    >>> bool(np.abs(weight).max() <= (6 / 50) ** 0.5)
    True
    """
    return _fill_uniform(weight, _xavier_std(weight, gain), rng)


def xavier_normal(weight, gain=1.0, rng=None):
    """Normal values of standard deviation gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010).

    >>> import numpy as np
    >>> xavier_normal(np.empty((3, 2)), rng=0).shape
    (3, 2)
    """
    return _fill_normal(weight, _xavier_std(weight, gain), rng)


def kaiming_uniform(weight, a=0, mode="fan_in", nonlinearity="leaky_relu", rng=None):
    """Uniform values of standard deviation gain / sqrt(fan) (He et al. 2015).

    weight : float32 or float64 array of 2 dimensions or more
    a : negative slope of "leaky_relu"; 0 is ReLU
    mode : "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass
    nonlinearity : what follows the weight; see `calculate_gain`

    >>> import numpy as np
    >>> weight = kaiming_uniform(np.empty((30, 24), np.float32), rng=0)
    >>> bool(np.abs(weight).max() <= 0.5)
    True
    """
    return _fill_uniform(weight, _kaiming_std(weight, a, mode, nonlinearity), rng)


def kaiming_normal(weight, a=0, mode="fan_in", nonlinearity="leaky_relu", rng=None):
    """Normal values of standard deviation gain / sqrt(fan) (He et al. 2015); see `kaiming_uniform`.

    >>> import numpy as np
    >>> kaiming_normal(np.empty((3, 2, 5, 5)), mode="fan_out", rng=0).shape
    (3, 2, 5, 5)
    """
    return _fill_normal(weight, _kaiming_std(weight, a, mode, nonlinearity), rng)


def _fans(weight):
    check_array("weight", weight)
    if weight.ndim < 2 or weight.size == 0:
        raise ValueError(f"weight must have 2 dimensions or more, none of them 0, had shape {weight.shape}")
    receptive_field = math.prod(weight.shape[2:])
    return weight.shape[1] * receptive_field, weight.shape[0] * receptive_field


def _xavier_std(weight, gain):
    return number("gain", gain) * math.sqrt(2 / sum(_fans(weight)))


def _kaiming_std(weight, a, mode, nonlinearity):
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'mode must be "fan_in" or "fan_out", was {mode!r}')
    fan = _fans(weight)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def _fill_uniform(weight, std, rng):
    bound = math.sqrt(3) * std
    weight[...] = np.random.default_rng(rng).uniform(-bound, bound, weight.shape)
    return weight


def _fill_normal(weight, std, rng):
    weight[...] = np.random.default_rng(rng).normal(0, std, weight.shape)
    return weight
