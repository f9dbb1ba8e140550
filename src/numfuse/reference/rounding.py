"""The subnormal rule, and scalars: how a formula of real numbers becomes one of machine numbers.

Arithmetic on subnormal numbers is slow by a factor of 20 and more on many CPUs, and a decaying
average would stay subnormal for ever. So a running quantity below the smallest normal number
becomes 0, and what is squared counts as 0 where its square would be subnormal: a gradient then has
no part in anything that the step computes from it. Terms that are only added need no such care: they
are subnormal in passing. Scalars are computed in double and rounded once to the arrays' dtype.
"""

import math

import numpy as np


def scalar(value, dtype):
    """`value`, a Python float, rounded once to `dtype`."""
    with np.errstate(over="ignore", under="ignore"):
        return dtype.type(value)


def flush(x):
    """`x`, with 0 for every element below the smallest normal number in magnitude."""
    return np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x)


def flush_positive(x):
    """The same of a running square, which is not negative."""
    return np.where(x < np.finfo(x.dtype).tiny, x.dtype.type(0), x)


def flush_square(x, factor):
    """`x`, with 0 for every element of which `factor * x * x` would be subnormal; `factor` is at most 1."""
    limit = scalar(math.sqrt(float(np.finfo(x.dtype).tiny) / factor) if factor > 0 else 0.0, x.dtype)
    return np.where(np.abs(x) < limit, x.dtype.type(0), x)


def flush_share(x, factor):
    """`x`, with 0 for every element of which `factor * x` would be subnormal; `factor` is above 0."""
    return np.where(np.abs(x) < scalar(float(np.finfo(x.dtype).tiny) / factor, x.dtype), x.dtype.type(0), x)


def root_eps(eps, dtype, scale=1.0):
    """`eps` beside the root of a running square: at least the root of the smallest normal number times `scale`.

    A square that became 0 so does not leave a gradient, or its average, without a denominator.
    """
    return scalar(max(eps, math.sqrt(float(np.finfo(dtype).tiny)) * scale), dtype)


def integer_power(base, exponent):
    """`base ** exponent` by repeated squaring: `pow` rounds differently from one libm to the next."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
