"""Initial values: every function fills the array it is given, in place, and returns it.

Numbers are drawn in float64 and then cast, so that the stream does not depend on the dtype. `rng` is
a numpy.random.Generator, a seed or None.

A weight has shape (fan_out, fan_in) times a receptive field, if any: (out, in), (out, in, L), ...
"""

import math
import statistics

import numpy as np

from ..checks import finite, number, real
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


def lecun_uniform(weight, rng=None):
    """Uniform values of standard deviation 1 / sqrt(fan_in) (LeCun et al. 1998): for inputs of variance 1, and SELU.

    weight : float32 or float64 array of 2 dimensions or more

    >>> import numpy as np
    >>> weight = lecun_uniform(np.empty((30, 12), np.float32), rng=0)
    >>> bool(np.abs(weight).max() <= 0.5)
    True
    """
    return kaiming_uniform(weight, nonlinearity="linear", rng=rng)


def lecun_normal(weight, rng=None):
    """Normal values of standard deviation 1 / sqrt(fan_in) (LeCun et al. 1998); see `lecun_uniform`.

    >>> import numpy as np
    >>> lecun_normal(np.empty((3, 2)), rng=0).shape
    (3, 2)
    """
    return kaiming_normal(weight, nonlinearity="linear", rng=rng)


def orthogonal(weight, gain=1.0, rng=None):
    """gain times a random matrix with orthonormal rows, or columns if they are fewer (Saxe et al. 2014).

    The matrix is shape[0] by all the rest. It is the Q of the QR decomposition of normal values, with the columns'
    signs chosen so that R's diagonal is positive: only so every orthogonal matrix is as likely as any other (Mezzadri
    2007). LAPACK computes it: the last bits may depend on the machine.

    weight : float32 or float64 array of 2 dimensions or more

    >>> import numpy as np
    >>> weight = orthogonal(np.empty((2, 5)), rng=0)
    >>> bool(np.allclose(weight @ weight.T, np.eye(2)))
    True
    """
    _fans(weight)
    gain = number("gain", gain)
    rows, columns = weight.shape[0], weight.size // weight.shape[0]
    draws = np.random.default_rng(rng).normal(0, 1, (rows, columns))
    q, r = np.linalg.qr(draws if rows > columns else draws.T)
    q *= np.copysign(gain, r.diagonal())
    weight[...] = (q if rows > columns else q.T).reshape(weight.shape)
    return weight


def trunc_normal(weight, mean=0.0, std=1.0, a=-2.0, b=2.0, rng=None):
    """Normal values of this mean and standard deviation, but none outside of [a, b].

    As in PyTorch, a and b are values, not numbers of standard deviations. What is drawn outside is drawn anew; where
    less than a tenth of the distribution is inside, the inverse of the distribution function is taken instead, which
    is slower, but is so however far out a and b are.

    weight : float32 or float64 array of any shape
    mean : a finite number
    std : above 0
    a, b : a < b, either may be infinite; ValueError if less than some 1e-300 of the normal distribution is between
        them

    >>> import numpy as np
    >>> weight = trunc_normal(np.empty(1000, np.float32), std=0.02, a=-0.04, b=0.04, rng=0)
    >>> bool(np.abs(weight).max() <= np.float32(0.04))
    True
    """
    check_array("weight", weight)
    mean, std, a, b = finite("mean", mean), number("std", std, positive=True), real("a", a), real("b", b)
    if not a < b:
        raise ValueError(f"a must be less than b, were {a!r} and {b!r}")
    # Of the lower tail, where small probabilities are exact; in the upper one they are next to 1.
    sign = -1.0 if a > mean else 1.0
    low, high = sorted(math.erfc(-sign * (bound - mean) / std / math.sqrt(2)) / 2 for bound in (a, b))
    if not high - low > 1e-300:
        raise ValueError(f"a and b must have a part of the distribution between them, were {a!r} and {b!r}")
    rng = np.random.default_rng(rng)
    if high - low > 0.1:
        values = rng.normal(mean, std, weight.size)
        while (outside := np.flatnonzero((values < a) | (values > b))).size:
            values[outside] = rng.normal(mean, std, outside.size)
    else:
        shares = np.maximum(rng.uniform(low, high, weight.size), 5e-324)
        inverse = map(statistics.NormalDist().inv_cdf, shares.tolist())
        values = np.clip(mean + sign * std * np.fromiter(inverse, np.float64, weight.size), a, b)
    weight[...] = values.reshape(weight.shape)
    return weight


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
