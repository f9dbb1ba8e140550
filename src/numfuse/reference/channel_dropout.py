import numpy as np

from .dropout import check_p, mask_bits, random_mask, select


def channel_dropout_forward(x, *, p, seed, offset, inverted, axis, out=None):
    """Dropout of whole channels (Tompson et al. 2015): what `dropout_forward` does to an element, it does to a channel.

    ::

        y[n, c, ...] = x[n, c, ...] / (1 - p)    where bit n * C + c of the mask is 1; x[n, c, ...] if not inverted
        y[n, c, ...] = 0                         elsewhere, also where x is not finite

    The mask is that of `dropout_forward` for an array of N * C elements.

    x : float32 or float64 array of 2 to 5 dimensions, C-contiguous: (N, C, ...), or (N, ..., C) with axis -1
    p, seed, offset, inverted : as for `dropout_forward`
    axis : where the channels are, 1 or -1
    out : array for y: x itself, or one of x's shape and dtype, C-contiguous; None makes a new one

    Returns (y, mask). mask is uint32 of shape (ceil(N * C / 32),): bit i mod 32 of word i div 32.
    """
    check_p(p)
    mask = random_mask(x.shape[0] * x.shape[axis], 1.0 - p, seed, offset)
    return apply_channel_mask(x, mask, p if inverted else 0.0, axis, out), mask


def channel_dropout_backward(grad_y, mask, *, p, axis, out=None):
    """The gradient through `channel_dropout_forward`: grad_y / (1 - p) where the channel's bit is 1, else 0.

    grad_y : float32 or float64 array, C-contiguous, of the shape that x had
    mask : the uint32 array which that call returned
    p : as in that call; 0 if it was not `inverted`
    axis : as in that call
    out : array for the result: grad_y itself, or one of its shape and dtype, C-contiguous; None makes a new one
    """
    check_p(p)
    return apply_channel_mask(grad_y, mask, p, axis, out)


def apply_channel_mask(x, mask, p, axis, out):
    samples, channels = x.shape[0], x.shape[axis]
    between = [1] * (x.ndim - 2)
    shape = (samples, channels, *between) if axis == 1 else (samples, *between, channels)
    y = np.empty_like(x) if out is None else out
    y[...] = select(x, mask_bits(mask, samples * channels).reshape(shape), p)
    return y
