"""The rows of each batch, and rows set aside."""

from fractions import Fraction

import numpy as np

from .readers import DataError


def batches(x, y, batch_size, rng=None):
    """Yield (x, y) of batch_size rows each, in an order drawn from `rng`; None keeps the order.

    The last batch holds what remains. A remainder of one row joins the batch before it, because one
    value per channel has no variance for batch normalisation to use.

    >>> [len(y) for _, y in batches(np.zeros((9, 2)), np.zeros(9), 4)]
    [4, 5]
    """
    for rows in batch_rows(len(x), batch_size, rng):
        yield x[rows], y[rows]


def batch_rows(n, batch_size, rng=None):
    """The row numbers of each batch of `batches`, as a list of arrays."""
    order = np.arange(n) if rng is None else rng.permutation(n)
    return np.split(order, batch_stops(n, batch_size)) if n else []


def batch_stops(n, batch_size):
    """Where each batch of n rows ends, but for the last, which a remainder of one row joins."""
    stops = list(range(batch_size, n, batch_size))
    if stops and n - stops[-1] == 1:
        stops.pop()
    return stops


def split_rows(y, share, rng):
    """Set a share of the rows aside: the row numbers (kept, set aside), each in order.

    The rows are put in the order of y, equal ones shuffled, and cut into pieces of 1 / share rows, of
    each of which one is taken: both parts have the same distribution of labels, or of quantities.

    y : (rows,)
    share : above 0 and below 1. DataError if it comes to less than one row.

    >>> kept, aside = split_rows(np.array([0, 1] * 10), 0.2, np.random.default_rng(0))
    >>> len(kept), np.array([0, 1] * 10)[aside]
    (16, array([0, 0, 1, 1]))
    """
    part, whole = Fraction(share).limit_denominator(2**20).as_integer_ratio() if 0 < share < 1 else (0, 1)
    taken = len(y) * part // whole
    if not taken:
        raise DataError(f"a share of {len(y)} rows that is set aside must be below 1 and come to a row, was {share}")
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    bounds = np.arange(taken + 1) * whole // part
    aside = np.zeros(len(y), dtype=bool)
    aside[order[rng.integers(bounds[:-1], bounds[1:])]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)
