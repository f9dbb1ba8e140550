import numpy as np

BLOCK_ROWS, ROWS_AT_ONCE, MIN_LANES = 128, 4, 256  # how grad_bias is summed


def bias_forward(x, bias, *, out=None):
    """The bias after a matrix product: y[i] = x[i] + bias[i mod C].

    x : C-contiguous float32 or float64 array of shape (..., C)
    bias : (C,)
    out : array for y: x itself, or one of x's shape, dtype and strides; None makes a new one

    Returns y.
    """
    with np.errstate(all="ignore"):
        return np.add(x, bias, out=np.empty_like(x) if out is None else out)


def bias_backward(grad_y, grad_bias):
    """The gradient of the bias, from that of y, which is also that of x.

    grad_y : C-contiguous float32 or float64 array of shape (..., C)
    grad_bias : (C,), set to the sum of grad_y over all axes but the last

    The sum is one of float64 numbers in this order: rows are taken together, as few as make L >= 256 lanes;
    of each block of 128 such, a lane's values are added four by four, then these sums of four; then all
    lanes of a channel, lane by lane and block by block; at last the sum is rounded to the arrays' dtype.
    """
    if grad_bias.size:
        with np.errstate(all="ignore"):
            grad_bias[...] = row_sums(grad_y.reshape(-1), grad_bias.size).astype(grad_y.dtype)


def row_sums(flat, channels):
    lanes = -(-MIN_LANES // channels) * channels
    padded = np.zeros(-(-flat.size // (BLOCK_ROWS * lanes)) * BLOCK_ROWS * lanes)
    padded[: flat.size] = flat
    fours = padded.reshape(-1, BLOCK_ROWS // ROWS_AT_ONCE, ROWS_AT_ONCE, lanes)
    sums = np.zeros((len(fours), lanes))
    for i in range(fours.shape[1]):
        a, b, c, d = fours[:, i].swapaxes(0, 1)
        sums += a + b + c + d
    total = np.zeros(channels)
    for row in sums.reshape(-1, channels):
        total += row
    return total
