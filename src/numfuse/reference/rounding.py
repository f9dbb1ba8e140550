"""The subnormal rule, and scalars: how a formula of real numbers becomes one of machine numbers.

Arithmetic on subnormal numbers is slow by a factor of 20 and more on many CPUs, and a decaying
average would stay subnormal for ever. So a running quantity below the smallest normal number
becomes 0, and an update term that would be subnormal is 0. Scalars are computed in double and
rounded once to the arrays' dtype.
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


def scaled(factor, x):
    """`factor * x`, and 0 where that would be subnormal."""
    limit = scalar(_quotient(float(np.finfo(x.dtype).tiny), min(abs(factor), 1.0)), x.dtype)
    return scalar(factor, x.dtype) * np.where(np.abs(x) < limit, x.dtype.type(0), x)


def scaled_square(factor, x):
    """`factor * x * x`, and 0 where that would be subnormal."""
    limit = scalar(math.sqrt(_quotient(float(np.finfo(x.dtype).tiny), min(abs(factor), 1.0))), x.dtype)
    x = np.where(np.abs(x) < limit, x.dtype.type(0), x)
    return (scalar(factor, x.dtype) * x) * x


def integer_power(base, exponent):
    """`base ** exponent` by repeated squaring: `pow` rounds differently from one libm to the next."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def _quotient(a, b):
    return a / b if b else math.inf
