"""Rows to train on: inputs, targets and weights, checked together."""

import numpy as np

from .batches import split_rows


class Rows:
    """Inputs x, targets y and sample weights (or None) of rows to be trained on; `rows[numbers]` is some of them.

    loss : its `reduction` and `weight` of the classes, if it has such, say what a mean is over
    names : what errors call x, y and the weights

    Rows that weigh 0 are left out, but for those of a class that weighs 0 where labels are smoothed. TypeError or
    ValueError for what are not arrays of as many rows, at least one, and for weights of another shape, or that
    are negative, not finite or all 0.
    """

    def __init__(self, loss, x, y, weight=None, names=("x", "y", "sample_weight")):
        for name, array in zip(names, (x, y)):
            if not isinstance(array, np.ndarray) or array.ndim == 0:
                raise TypeError(f"{name} must be a NumPy array, (rows, ...), was {array!r:.40}")
            if not len(array):
                raise ValueError(f"{name} must have at least one row, had shape {array.shape}")
        if len(x) != len(y):
            raise ValueError(f"{names[0]} and {names[1]} must have the same number of rows, had {len(x)} and {len(y)}")
        self.takes_mean = getattr(loss, "reduction", "mean") == "mean"
        self.x, self.y, self.weight, self.share = x, y, None, None
        if weight is not None:
            self.weight = self.share = np.asarray(weight, np.float64)
            if self.weight.shape != (len(y),):
                raise ValueError(f"{names[2]} must have shape ({len(y)},), had {self.weight.shape}")
            if not (np.isfinite(self.weight).all() and (self.weight >= 0).all() and self.weight.any()):
                raise ValueError(f"{names[2]} must be finite, >= 0 and not all 0")
        classes = getattr(loss, "weight", None)
        if classes is not None and y.ndim == 1 and y.dtype.kind in "iu" and 0 <= y.min() and y.max() < len(classes):
            self.share = classes[y] * (1.0 if weight is None else self.weight)
            if not self.share.any():
                raise ValueError("the weights of the classes that there are must not all be 0")
        # A smoothed label of a class without weight still pulls towards the other classes.
        needed = self.weight if getattr(loss, "label_smoothing", 0) else self.share
        if needed is not None and not needed.all():
            vars(self).update(vars(self[np.flatnonzero(needed)]))

    def __len__(self):
        return len(self.y)

    def __getitem__(self, rows):
        part = object.__new__(Rows)  # which does not check again
        part.x, part.y, part.takes_mean = self.x[rows], self.y[rows], self.takes_mean
        part.weight = None if self.weight is None else self.weight[rows]
        part.share = None if self.share is None else self.share[rows]
        return part

    def extremes(self):
        """A few of these rows: the first, the last, the least and the greatest label, the greatest weight."""
        some = {0, len(self) - 1}
        if self.y.ndim == 1:
            some |= {self.y.argmin(), self.y.argmax()}
        if self.share is not None:
            some.add(self.share.argmax())
        return self[sorted(some)]

    def split(self, share, rng):
        """(kept, set aside), as `split_rows` chooses them by the targets' first column."""
        kept, aside = split_rows(self.y.reshape(len(self), -1)[:, 0], share, rng)
        return self[kept], self[aside]

    def total(self, rows=slice(None)):
        """The divisor of the mean over (these) rows: their number, or the sum of their weights."""
        return len(self.y[rows]) if self.share is None else float(self.share[rows].sum(dtype=np.float64))

    def loss_sum(self, loss, output, **options):
        """The loss, summed over these rows; `loss.backward()` gives the gradient of what it returned itself."""
        value = loss.forward(output, self.y, *([] if self.weight is None else [self.weight]), **options)
        return float(value) * (self.total() if self.takes_mean else 1)
