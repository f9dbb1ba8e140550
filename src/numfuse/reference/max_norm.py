import math

import numpy as np

from .grad_norm import sums_of_squares
from .regularize import average
from .rounding import scalar

UNIT = 2.0**-600


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def max_norm(params, ema_params, *, max_norm, ema_decay):
    """Scale down the incoming weights of every unit to an L2 norm of at most `max_norm`, in place.

    A unit's incoming weights are a row: what has one index along axis 0, as in `Linear.weight` (out, in). For
    every row p, and its average e if `ema_params` are given (Srivastava et al. 2014, section 5.1)::

        p = p * (max_norm / n)                 where n = sqrt(sum of p * p) > max_norm
        e = e + (1 - ema_decay) * (p - e)      for all rows

    Squares are taken and added in double: element j of a row is added to sum j % 32 of it, and these
    are added in the order of their indices. A row whose norm is NaN is not scaled. One whose squares overflow is
    multiplied by 2^-600 before it is squared, and before it is scaled.

    params, ema_params : lists of arrays, float32 or float64, all of one dtype; the arrays of one index have one
        shape. The native kernel wants C order. An array of fewer than 2 dimensions, such as a bias, has no rows:
        its average is taken, but it is not scaled. `ema_params` is None without an average.
    max_norm : > 0
    ema_decay : decay of the average a step, in [0, 1)
    """
    for i, p in enumerate(params):
        if p.ndim >= 2 and p.size:
            rows = np.ascontiguousarray(p).reshape(len(p), -1)
            for row, norm in zip(rows, _norms(rows)):
                if norm == math.inf:
                    _limit_huge(row, max_norm)
                elif norm > max_norm:
                    row *= scalar(max_norm / norm, row.dtype)
            p[...] = rows.reshape(p.shape)
        if ema_params is not None:
            ema_params[i][...] = average(ema_params[i], p, ema_decay)


def _norms(rows):
    return np.sqrt(sums_of_squares(rows)).tolist()


def _limit_huge(row, max_norm):
    [norm] = _norms(UNIT * row[np.newaxis].astype(np.float64))
    if norm > max_norm * UNIT:
        row *= scalar(UNIT, row.dtype)
        row *= scalar(max_norm / norm, row.dtype)
