import math

import numpy as np

BLOCK, LANES = 4096, 32


@np.errstate(all="ignore")  # numbers that are not finite show in the result
def grad_norm(grads):
    """The L2 norm over all arrays of a list, sqrt(sum of g * g), as a float.

    Squares are taken and added in double: every array is cut into blocks of 4096 elements, the
    last one shorter, and element j of a block is added to sum j % 32 of that block; these 32, and
    then the blocks of all arrays, are added in the order of their indices.

    grads : list of arrays, float32 or float64, all of one dtype, of any shapes; None is passed over.
        The elements of an array count in their order in memory. Without any the norm is 0.
    """
    total = 0.0
    for g in grads:
        if g is not None:
            for lanes in _lanes(g.ravel(order="K").astype(np.float64)):
                total += _in_order(lanes)
    return math.sqrt(total)


def _lanes(g):
    """The sums of every block: (blocks, 32)."""
    blocks = -(-g.size // BLOCK)
    squares = np.zeros((blocks, BLOCK // LANES, LANES))  # adding a 0 at the end changes no bit
    squares.reshape(-1)[: g.size] = g * g
    sums = np.zeros((blocks, LANES))
    for row in range(BLOCK // LANES):
        sums += squares[:, row]
    return sums


def _in_order(values):
    """The sum of an array's elements, one after the other; `np.sum` takes another order."""
    total = 0.0
    for value in values.tolist():
        total += value
    return total
