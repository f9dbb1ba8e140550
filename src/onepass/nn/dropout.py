import numpy as np

from ..checks import number
from .checks import check_array
from .masked import Masked


class Dropout(Masked, leaf=True):
    """Inverted dropout (Srivastava et al. 2014): in training, zero each element with probability p
    and divide the rest by 1 - p; in evaluation, return x itself.

    p : probability of zeroing, from 0 to 1
    rng : numpy.random.Generator, seed or None, which draws the seed of the masks. Give all layers of
        a net one Generator: two layers with equal seeds drop the same elements.

    x : float32 or float64 array of any shape, without gaps in memory.

    The mask of training call number `offset` is a function of (seed, offset, element index), given at
    `onepass.reference.dropout_forward`. `seed` and `offset` are saved with the net, so that training
    that is resumed draws the masks that it would have drawn.

    >>> import numpy as np
    >>> layer = Dropout(0.5, rng=0)
    >>> y = layer(np.ones(8, np.float32))
    >>> sorted(set(y.tolist())), layer.offset
    ([0.0, 2.0], array(1))
    >>> bool((layer.backward(np.ones(8, np.float32)) == y).all())
    True
    """

    buffer_names = "seed", "offset"

    def __init__(self, p=0.5, *, rng=None):
        self.p = number("p", p, high=1)
        self.seed = np.array(np.random.default_rng(rng).integers(2**64, dtype=np.uint64))
        self.offset = np.array(0, dtype=np.int64)

    def forward(self, x):
        check_array("x", x)
        if not self.training:
            return x
        p, seed, offset = self.next_draw()
        y, mask = self.kernels.dropout_forward(x, p=p, seed=seed, offset=offset)
        self.offset[...] = offset + 1
        self.keep_mask(mask, p, y)
        return y

    def next_draw(self):
        """What the mask of the next training call is a function of: (p, seed, offset)."""
        return self.p, self.seed.item(), self.offset.item()

    def extra_repr(self):
        return f"p={self.p}"
