import numpy as np

from .. import native
from ..checks import number
from .checks import c_dense, channel_axis, check_array, check_gradient, dense
from .masked import Masked


class DropoutBase(Masked):
    """What dropout by elements and by channels share."""

    buffer_names = "seed", "offset"

    def __init__(self, p=0.5, *, inverted=True, rng=None):
        self.p = number("p", p, high=1)
        self._inverted = bool(inverted)
        self.seed = np.array(np.random.default_rng(rng).integers(2**64, dtype=np.uint64))
        self.offset = np.array(0, dtype=np.int64)

    @property
    def inverted(self):
        """Whether training scales; otherwise evaluation does. It cannot be changed."""
        return self._inverted

    def forward(self, x):
        self.check_input(x)
        if not self.training:
            return x if self.inverted else times(x, 1 - self.p)
        p, seed, offset = self.next_draw()
        y, mask = self.draw(x, p, seed, offset)
        self.offset[...] = offset + 1
        self.save_mask(mask, p if self.inverted else 0.0, y)
        return y

    def check_input(self, x):
        """TypeError or ValueError unless `x` is what this layer takes."""
        check_array("x", x)

    def next_draw(self):
        """What the mask of the next training call is a function of: (p, seed, offset)."""
        return self.p, self.seed.item(), self.offset.item()

    def extra_repr(self):
        return f"p={self.p}" if self.inverted else f"p={self.p}, inverted=False"


class Dropout(DropoutBase, leaf=True):
    """Dropout (Srivastava et al. 2014): in training, zero each element with probability p.

    ::

                            training                      evaluation
        inverted            x / (1 - p) or 0              x itself
        inverted=False      x or 0                        x * (1 - p)

    Either way the mean over the masks is the same in training and in evaluation. `fold_dropout` gives a third
    way: with the factor 1 - p in the weights of the Linear that follows.

    p : probability of zeroing, from 0 to 1; TypeError or ValueError for anything else
    inverted : whether training divides what it keeps by 1 - p, as PyTorch does; with False evaluation multiplies
        by 1 - p, as in the paper. The masks are the same.
    rng : numpy.random.Generator, seed or None, which draws the seed of the masks. Give all layers of
        a net one Generator: two layers with equal seeds drop the same elements.

    x : float32 or float64 array of any shape; in training one with gaps in memory is copied.

    The mask of training call number `offset` is a function of (seed, offset, element index), given at
    `numfuse.reference.dropout_forward`. `seed` and `offset` are saved with the net, so that training
    that is resumed draws the masks that it would have drawn.

    >>> import numpy as np
    >>> layer = Dropout(0.5, rng=0)
    >>> y = layer(np.ones(8, np.float32))
    >>> sorted(set(y.tolist())), layer.offset
    ([0.0, 2.0], array(1))
    >>> bool((layer.backward(np.ones(8, np.float32)) == y).all())
    True
    >>> layer = Dropout(0.5, inverted=False, rng=0)
    >>> bool((layer(np.ones(8, np.float32)) == y / 2).all())
    True
    >>> layer.eval()(np.ones(2))
    array([0.5, 0.5])
    """

    kernel_names = *DropoutBase.kernel_names, "dropout_forward"

    def draw(self, x, p, seed, offset):
        """y and the mask."""
        return self.kernels.dropout_forward(dense(x), p=p, seed=seed, offset=offset, inverted=self.inverted)


class ChannelDropout(DropoutBase):
    """What the three share; they differ in the axes that they take beside N and C."""

    kernel_names = "channel_dropout_forward", "channel_dropout_backward"
    inner_axes = ""

    def __init__(self, p=0.5, *, inverted=True, axis=1, rng=None):
        super().__init__(p, inverted=inverted, rng=rng)
        self.axis = channel_axis(axis)

    def check_input(self, x):
        check_array("x", x)
        axes = f"NC{self.inner_axes}" if self.axis == 1 else f"N{self.inner_axes}C"
        if x.ndim != len(axes):
            raise ValueError(f"x must have shape ({', '.join(axes)}), was {x.shape}")

    def draw(self, x, p, seed, offset):
        """y and the mask."""
        return self.kernels.channel_dropout_forward(
            c_dense(x), p=p, seed=seed, offset=offset, inverted=self.inverted, axis=self.axis)

    def backward(self, grad_y, accumulate=False):
        mask, p, shape, _, dtype = self.saved()
        check_gradient(grad_y, shape, dtype)
        return self.kernels.channel_dropout_backward(c_dense(grad_y), mask, p=p, axis=self.axis)

    def extra_repr(self):
        return super().extra_repr() + ("" if self.axis == 1 else f", axis={self.axis}")


class Dropout1d(ChannelDropout, leaf=True):
    """Dropout of whole channels (Tompson et al. 2015) of (N, C, L) input, or (N, L, C) with `axis=-1`.

    What `Dropout` does to an element, it does to all elements of a sample's channel together: neighbours
    in an image or a series say much the same, and would make up for each other. The mask of a training call is
    the one that `Dropout` of the same seed would draw for an array of N * C elements.

    p, inverted, rng : as for `Dropout`
    axis : where the channels are, 1 or -1

    x : float32 or float64 array; one that is not C-contiguous is copied. Unlike PyTorch's, the layer takes
    no single sample (C, L): give it a first axis of 1.

    >>> import numpy as np
    >>> layer = Dropout1d(0.5, rng=0)
    >>> layer(np.ones((1, 4, 3), np.float32))
    array([[[2., 2., 2.],
            [0., 0., 0.],
            [2., 2., 2.],
            [0., 0., 0.]]], dtype=float32)
    """

    inner_axes = "L"


class Dropout2d(ChannelDropout, leaf=True):
    """Dropout of whole channels of (N, C, H, W) input, or (N, H, W, C) with `axis=-1`; see `Dropout1d`.

    >>> import numpy as np
    >>> Dropout2d(axis=-1)(np.ones((2, 8, 8, 3), np.float32)).shape
    (2, 8, 8, 3)
    """

    inner_axes = "HW"


class Dropout3d(ChannelDropout, leaf=True):
    """Dropout of whole channels of (N, C, D, H, W) input, or (N, D, H, W, C) with `axis=-1`; see `Dropout1d`.

    >>> import numpy as np
    >>> Dropout3d()(np.ones((2, 3, 4, 5, 6), np.float32)).shape
    (2, 3, 4, 5, 6)
    """

    inner_axes = "DHW"


def times(x, factor):
    """x * factor in a new array; 0 where the factor is 0, whatever x is."""
    y = native.empty(x.shape, x.dtype)
    if factor == 0:
        y.fill(0)
        return y
    return np.multiply(x, x.dtype.type(factor), out=y)
