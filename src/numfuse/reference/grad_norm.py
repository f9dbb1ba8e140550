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
            blocks = np.zeros((-(-g.size // BLOCK), BLOCK), dtype=g.dtype)  # adding a 0 at the end changes no bit
            blocks.reshape(-1)[: g.size] = g.ravel(order="K")
            for squares in sums_of_squares(blocks).tolist():
                total += squares
    return math.sqrt(total)


def sums_of_squares(rows):
    """The sum of the squares of each row, (rows,), in float64; `np.sum` would take another order."""
    turns = -(-rows.shape[1] // LANES)
    squares = np.zeros((len(rows), turns * LANES))
    squares[:, : rows.shape[1]] = np.square(rows, dtype=np.float64)
    lanes = np.zeros((len(rows), LANES))
    for turn in range(turns):
        lanes += squares[:, turn * LANES : (turn + 1) * LANES]
    total = np.zeros(len(rows))
    for lane in range(LANES):
        total += lanes[:, lane]
    return total
