"""Scaling of inputs and targets: fitted to training rows, at once or batch by batch, and undone."""

import math

import numpy as np

from .readers import DataError


class Scaler:
    """The base of scalers: a few numbers for each column, taken from training rows, that shift and scale it.

    Columns of a table, (rows, columns), are scaled each by itself. The values of images, (rows, height,
    width, ...), are scaled all alike: they are on one scale already, and a border pixel that is lit in a few
    images only would, by its own small spread, outweigh all others (measured: on digits and on Fashion-MNIST a
    statistic for each pixel trains to a lower accuracy). An array (rows,) is one column.

    A scaler names its `statistics`, attributes that are None before the first fit, and defines
    `_merged(state, block)`, the statistics after more rows, `_check(**statistics)`, which refuses what no rows have,
    and `_center_and_spread(state)`, which make the result (x - center) / spread * width + low. A column without
    spread becomes low.
    """

    statistics = ()
    low, width = 0.0, 1.0

    def __init__(self):
        for name in self.statistics:
            setattr(self, name, None)

    def fit(self, x):
        """Take the statistics from the rows of x, forgetting earlier ones; returns self.

        x : array of numbers (rows, ...). DataError for NaN, infinity, no rows, and what overflows float64.
        """
        return self._update(x, None)

    def partial_fit(self, x):
        """Add the rows of a batch to the statistics, which become, but for rounding, those of all rows together.

        As `fit`; ValueError if x has other columns than the batches before. Returns self.
        """
        return self._update(x, self._state() if self._is_fitted() else None)

    def transform(self, x):
        """x scaled, as float32 (rows, features). DataError where that would not be finite."""
        center, spread = self._center_and_spread(self._fitted())
        spread = np.where(spread > 0, spread, np.inf)
        x = _rows(x)
        if x.ndim == 2 and len(center) not in (1, x.shape[1]):
            raise ValueError(f"x must have {len(center)} columns, had {x.shape[1]}")
        y = np.empty((len(x), math.prod(x.shape[1:])), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for rows, block in _blocks(x):
                block -= center
                block /= spread
                block *= self.width
                block += self.low
                y[rows] = block.reshape(y[rows].shape)
                if not np.isfinite(y[rows]).all():
                    raise DataError("some values are not finite, or far beyond the training rows'")
        return y

    def inverse_transform(self, y):
        """The x that `transform` made y of, as float64 of y's shape; a column that was constant is so again."""
        center, spread = self._center_and_spread(self._fitted())
        return (np.asarray(y, np.float64) - self.low) / self.width * spread + center

    def __call__(self, x):
        return self.transform(x)

    def options(self):
        """The arguments that make a scaler like this one, still to be fitted."""
        return {}

    def state_dict(self):
        """Copies of the statistics: dict of name to float64 array (columns,), or (1,) for images."""
        return {name: value.copy() for name, value in zip(self.statistics, self._fitted())}

    def load_state_dict(self, state):
        """Take over what `state_dict` returned. ValueError for anything else, before anything is modified."""
        state = {name: np.asarray(value) for name, value in state.items()}
        if set(state) != set(self.statistics):
            had = ", ".join(state) or "none"
            raise ValueError(f"state must have the names {', '.join(self.statistics)}, had {had}")
        shape = state[self.statistics[0]].shape
        for name, value in state.items():
            if value.dtype != np.float64 or value.ndim != 1 or value.shape != shape:
                raise ValueError(f"{name} must be float64 of shape (columns,), was {value.dtype} {value.shape}")
        for name, value in state.items():
            if not np.isfinite(value).all():
                raise ValueError(f"{name} must be finite, was {value}")
        self._check(**state)
        for name, value in state.items():
            setattr(self, name, value.copy())

    def _is_fitted(self):
        return getattr(self, self.statistics[0]) is not None

    def _state(self):
        return tuple(getattr(self, name) for name in self.statistics)

    def _fitted(self):
        if not self._is_fitted():
            raise RuntimeError(f"{type(self).__name__} needs fit or partial_fit before it is used")
        return self._state()

    def _update(self, x, state):
        x = _rows(x)
        columns = x.shape[1] if x.ndim == 2 else 1
        if state is not None and len(state[0]) != columns:
            raise ValueError(f"x must have {len(state[0])} columns like the batches before, had {columns}")
        with np.errstate(over="ignore", invalid="ignore"):
            for _, block in _blocks(x):
                block = block.reshape(-1, columns)
                if not np.isfinite(block).all():
                    raise DataError("the data have NaN or infinity")
                if len(block):
                    state = self._merged(state, block)
            if state is None:
                raise DataError("there are no rows to take a scale from")
            if not np.isfinite([*state, *self._center_and_spread(state)]).all():
                raise DataError("the data have values too large to standardise: divide them by a power of ten")
        for name, value in zip(self.statistics, state):
            setattr(self, name, value)
        return self


class Standardize(Scaler):
    """Shift and scale to mean 0 and standard deviation 1: (x - mean) / std; a constant column becomes 0.

    count, mean, squares : what is known of each column: number of values, mean, sum of squared deviations
    std : sqrt(squares / count), that of all values, as in scikit-learn's StandardScaler

    Batches are merged by the formula of Chan, Golub and LeVeque (1979), whose case of a single row is
    Welford's: with d the difference of the means of n and m values, the mean moves by d m / (n + m) and the
    squares grow by d^2 n m / (n + m). For images, arrays and errors see `Scaler`.

    >>> standardize = Standardize().fit(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> standardize(np.array([[5.0, 5.0]]))
    array([[3., 0.]], dtype=float32)
    >>> standardize.inverse_transform(np.array([[3.0, 0.0]]))
    array([[5., 5.]])
    """

    statistics = "count", "mean", "squares"

    @property
    def std(self):
        return self._center_and_spread(self._fitted())[1]

    def _merged(self, state, block):
        # From a row of the data, a constant column deviates by exactly 0.
        count, mean, squares = state or (np.zeros(block.shape[1]), block[0], 0.0)
        deviations = block - mean
        shift = deviations.mean(axis=0)
        total = count + len(block)
        squares = squares + np.square(deviations - shift).sum(axis=0) + shift * shift * (count * len(block) / total)
        return total, mean + shift * (len(block) / total), squares

    def _check(self, count, mean, squares):
        if not ((count > 0).all() and (squares >= 0).all()):
            raise ValueError(f"count must be > 0 and squares >= 0, were {count} and {squares}")

    def _center_and_spread(self, state):
        count, mean, squares = state
        return mean, np.sqrt(squares / count)


class MinMax(Scaler):
    """Shift and scale so that the training rows fill `feature_range`.

    ::

        y = (x - minimum) / (maximum - minimum) * (high - low) + low

    feature_range : (low, high), two finite numbers, low < high

    As scikit-learn's MinMaxScaler, but that a column that was constant in the training rows becomes low for every
    row. What lies beyond the training rows comes to lie beyond the range. For images, arrays and errors see `Scaler`.

    >>> scale = MinMax(feature_range=(-1, 1)).partial_fit(np.array([[0.0], [1.0]])).partial_fit(np.array([[4.0]]))
    >>> scale(np.array([[3.0]]))
    array([[0.5]], dtype=float32)
    """

    statistics = "minimum", "maximum"

    def __init__(self, feature_range=(0, 1)):
        super().__init__()
        try:
            low, high = map(float, feature_range)
        except (TypeError, ValueError):
            raise TypeError(f"feature_range must be a pair of numbers, was {feature_range!r}") from None
        if not (low < high and math.isfinite(high - low)):
            raise ValueError(f"feature_range must be finite and increasing, was {feature_range!r}")
        self.feature_range, self.low, self.width = (low, high), low, high - low

    def options(self):
        return {"feature_range": self.feature_range}

    def _merged(self, state, block):
        low, high = block.min(axis=0), block.max(axis=0)
        return (low, high) if state is None else (np.minimum(low, state[0]), np.maximum(high, state[1]))

    def _check(self, minimum, maximum):
        if not (minimum <= maximum).all():
            raise ValueError(f"minimum must be <= maximum, were {minimum} and {maximum}")

    def _center_and_spread(self, state):
        minimum, maximum = state
        return minimum, maximum - minimum


BLOCK = 2**16  # values
SCALERS = {"standard": Standardize, "minmax": MinMax}


def _rows(x):
    x = np.asarray(x)
    if x.ndim == 0 or x.dtype.kind not in "buif":
        raise TypeError(f"x must be an array of numbers, (rows, ...), was {x.dtype} of shape {x.shape}")
    return x[:, None] if x.ndim == 1 else x


def _blocks(x):
    """Rows and a copy of their values in float64, as many at a time as stay in cache."""
    rows = max(1, BLOCK // max(1, math.prod(x.shape[1:])))
    for start in range(0, len(x), rows):
        yield slice(start, start + rows), x[start : start + rows].astype(np.float64)
