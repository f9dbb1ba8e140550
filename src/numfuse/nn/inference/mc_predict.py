import numpy as np

from ..checks import positive_int
from ..dropout import DropoutBase
from ..module import modes_restored


def mc_predict(net, x, n, *, rng=None):
    """Mean and spread of a net's output over n dropout masks (Gal and Ghahramani 2016).

    Dropout layers drop as in training, all other layers work as in evaluation: batch normalisation takes its
    running statistics. ::

        mean = sum(y_k) / n        std = sqrt(sum((y_k - mean)^2) / (n - 1))        k = 1 to n

    net : Module with a dropout layer, ending, for the mean of probabilities, with the Softmax or Sigmoid that turns
        its output into them
    x : what `net.forward` takes
    n : number of masks, at least 2
    rng : numpy.random.Generator, seed or None, which draws the masks of this call

    Returns (mean, std), of the output's shape and dtype. Sums are kept in float64 by Welford's method, so that
    memory does not grow with n.

    The call leaves no trace in the net: modes, and the seeds and offsets of the dropout layers, are
    restored, also after an exception, so that later training draws the masks that it would have drawn, and
    a `backward` after it is that of the last training forward. No other thread may use the net meanwhile.

    >>> import numpy as np
    >>> from numfuse import nn
    >>> net = nn.Sequential(nn.Linear(3, 50, rng=0), nn.ReLU(), nn.Dropout(0.5), nn.Linear(50, 1, rng=1))
    >>> mean, std = mc_predict(net, np.ones((4, 3), np.float32), 100, rng=0)
    >>> mean.shape, std.shape, bool((std > 0).all())
    ((4, 1), (4, 1), True)
    """
    if positive_int("n", n) < 2:
        raise ValueError("n must be at least 2, for a spread, was 1")
    dropouts = [module for module in net.modules() if isinstance(module, DropoutBase)]
    if not dropouts:
        raise ValueError("net must have a dropout layer, had none")
    rng = np.random.default_rng(rng)
    before = [(layer.seed.copy(), layer.offset.copy(), layer._saved) for layer in dropouts]
    try:
        with modes_restored(net):
            net.eval()
            for layer in dropouts:
                layer.train()
                layer.seed[...], layer.offset[...] = rng.integers(2**64, dtype=np.uint64), 0
            return _moments((net.forward(x) for _ in range(n)), n)
    finally:
        for layer, (seed, offset, saved) in zip(dropouts, before):
            layer.seed[...], layer.offset[...], layer._saved = seed, offset, saved


def _moments(outputs, n):
    """Mean and standard deviation of n arrays."""
    with np.errstate(invalid="ignore", over="ignore"):  # the spread of infinities is NaN
        for k, y in enumerate(outputs, 1):
            if k == 1:
                mean, squares = np.zeros(y.shape), np.zeros(y.shape)
            difference = y - mean
            mean += difference / k
            squares += difference * (y - mean)
        np.sqrt(squares / (n - 1), out=squares)
        return mean.astype(y.dtype), squares.astype(y.dtype)
