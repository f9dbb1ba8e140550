import numpy as np

from .philox import philox4x32
from .rounding import scalar

BLOCK = 128  # elements, and mask bits, that one Philox counter decides


def dropout_forward(x, *, p, seed, offset, inverted, out=None):
    """Dropout (Srivastava et al. 2014): zero with probability p and, if inverted, scale the rest by 1/(1-p).

    ::

        y[i] = x[i] / (1 - p)    where bit i of the mask is 1, which has probability 1 - p; x[i] if not inverted
        y[i] = 0                 elsewhere, also where x[i] is not finite

    The mask is a function of (seed, offset, i) alone. i counts elements in memory order. Bit
    j = i mod 128 of block b = i div 128 compares a random binary fraction U with 1 - p, digit by
    digit, the most significant first: U's digit number d (from 0) is bit j of the four words of
    Philox4x32-10 with counter (b mod 2^32, b div 2^32, d, offset) and key seed (low word, high
    word). The bit is 1 where U < 1 - p, so its probability is 1 - p exactly.

    x : float32 or float64 array of any shape, without gaps in memory (C order, or a transpose of it)
    p : probability of zeroing, in [0, 1]
    seed, offset : integers in [0, 2^64) and [0, 2^32)
    inverted : whether to scale, so that the mean of y is x
    out : array for y: x itself, or one of x's shape, dtype and strides; None makes a new one

    Returns (y, mask). mask is uint32 of shape (ceil(x.size / 32),): bit i mod 32 of word i div 32.
    """
    check_p(p)
    mask = random_mask(x.size, 1.0 - p, seed, offset)
    return apply_mask(x, mask, p if inverted else 0.0, out), mask


def dropout_backward(grad_y, mask, *, p, out=None):
    """The gradient through dropout: grad_y / (1 - p) where the mask's bit is 1, else 0.

    grad_y : float32 or float64 array, in the memory order that the input of `dropout_forward` had
    mask : the uint32 array which that call returned
    p : as in that call; 0 if it was not `inverted`
    out : array for the result: grad_y itself, or one like it; None makes a new one
    """
    check_p(p)
    return apply_mask(grad_y, mask, p, out)


def check_p(p):
    """ValueError unless p is a probability."""
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], was {p!r}")


def random_mask(size, keep, seed, offset):
    blocks = -(-size // BLOCK)
    if keep >= 1:
        bits = np.full((blocks, 4), 0xFFFFFFFF, dtype=np.uint32)
    else:
        counter = np.zeros((blocks, 4), dtype=np.uint64)
        counter[:, 0] = np.arange(blocks, dtype=np.uint64) & np.uint64(0xFFFFFFFF)
        counter[:, 1] = np.arange(blocks, dtype=np.uint64) >> np.uint64(32)
        counter[:, 3] = offset
        bits = np.zeros((blocks, 4), dtype=np.uint32)
        undecided = np.full((blocks, 4), 0xFFFFFFFF, dtype=np.uint32)
        while keep > 0 and undecided.any():
            keep *= 2
            random = philox4x32(counter, (seed & 0xFFFFFFFF, seed >> 32))
            if keep >= 1:
                keep -= 1
                bits |= undecided & ~random
                undecided &= random
            else:
                undecided &= ~random
            counter[:, 2] += np.uint64(1)
    mask = bits.reshape(-1)[: -(-size // 32)]
    if size % 32:
        mask[-1] &= np.uint32((1 << size % 32) - 1)
    return mask


def apply_mask(x, mask, p, out):
    flat = x.ravel(order="K")
    y = np.empty_like(x) if out is None else out
    target = y.ravel(order="K")
    same_order = all(n <= 1 or s == t for n, s, t in zip(x.shape, x.strides, y.strides))
    if x.size and not (same_order and np.may_share_memory(target, y)):
        raise ValueError("out must be contiguous, in the memory order of the input")
    target[...] = select(flat, mask_bits(mask, flat.size), p)
    return y


def mask_bits(mask, count):
    return np.unpackbits(mask.astype("<u4").view(np.uint8), count=count, bitorder="little")


def select(x, kept, p):
    scale = scalar(1.0 / (1.0 - p) if p < 1 else 0.0, x.dtype)
    with np.errstate(all="ignore"):  # what happens at dropped elements is not seen
        return np.where(kept, x * scale, x.dtype.type(0))
