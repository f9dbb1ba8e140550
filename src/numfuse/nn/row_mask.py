"""The rows or positions of a batch that are valid, the others being padding; and groups of rows."""

import math

import numpy as np


class RowMask:
    """A bool mask of x's shape without the channel axis, or of its rows alone, (N,); True is valid.

    The valid entries are rows of x, or positions where the mask tells these apart.
    """

    def __init__(self, mask, x, axis):
        positions = x.shape[:1] + x.shape[2:] if axis == 1 else x.shape[:-1]
        shapes = dict.fromkeys([positions, x.shape[:1]])
        check_mask(mask, lambda shape: shape in shapes, " or ".join(map(str, shapes)))
        self.shape, self._mask = x.shape, mask.copy()
        self._moves_channels = axis == 1 and mask.ndim > 1

    def all(self):
        return self._mask.all()

    def valid_size(self):
        """How many values of x are valid."""
        return int(self._mask.sum()) * (math.prod(self.shape) // self._mask.size)

    def take(self, x):
        """The valid entries one after the other: (M, C) positions, or rows, (M, ...)."""
        return np.ascontiguousarray(self._channels_last(x)[self._mask])

    def put(self, entries):
        """A new array of x's shape with the valid entries in their places, and 0 elsewhere."""
        x = np.zeros(self.shape, entries.dtype)
        self._channels_last(x)[self._mask] = entries
        return x

    def entries_of_rows(self):
        """How many valid entries each row has that has any."""
        counts = self._mask.reshape(len(self._mask), -1).sum(axis=1)
        return counts[counts > 0]

    def _channels_last(self, x):
        return np.moveaxis(x, 1, -1) if self._moves_channels else x


def check_mask(mask, fits, wanted):
    """TypeError or ValueError unless `mask` is a bool array of a shape that `fits`, and True somewhere."""
    if not isinstance(mask, np.ndarray) or mask.dtype != bool:
        was = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise TypeError(f"mask must be a bool array, was {was}")
    if not fits(mask.shape):
        raise ValueError(f"mask must have shape {wanted}, was {mask.shape}")
    if mask.size and not mask.any():
        raise ValueError(f"mask must be True somewhere, was all False in shape {mask.shape}")


def group_slices(entries_of_rows, size, values_per_entry):
    """A slice of the entries of each `size` rows in turn, the last of those that remain.

    If what remains is one value per channel, it joins the group before it.
    """
    ends = [0, *np.cumsum(entries_of_rows).tolist()]
    edges = ends[:-1:size] + ends[-1:]
    if len(edges) > 2 and (edges[-1] - edges[-2]) * values_per_entry == 1:
        del edges[-2]
    return [slice(*pair) for pair in zip(edges, edges[1:])]
