"""Data sets for training: loading, splitting, standardising and batches."""

import contextlib
import csv
import gzip
import io
import math
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TEST_SHARE = 5  # one row of so many is a test row, where the data have no test set of their own
MAX_INTEGER_CLASSES = 100  # an integer target with more different values is taken for a quantity
IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class DataError(ValueError):
    """Data that are missing or broken; the message names the file and the fault."""


@dataclass
class Dataset:
    """Inputs and targets, divided into a training and a test set.

    x_train, x_test : numeric arrays (rows, ...) as read, neither standardised nor flattened
    y_train, y_test : int64 labels 0 .. len(classes) - 1, or float64 values for regression
    task : "classification" or "regression"
    classes : the name of each label, in order; None for regression
    features : the columns' names; None where the data have none
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    task: str
    classes: list[str] | None
    features: list[str] | None


def load(source="digits", *, target=None, task=None, seed=0):
    """Read a data set.

    source : "digits" (scikit-learn's 8x8 images); a folder of idx files in MNIST layout
        (`train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, ...); a file `.npz` with arrays x, y or
        x_train, y_train, x_test, y_test; or a table `.csv` or `.tsv` with a header line. Any file may
        also be compressed as `.gz`.
    target : name of a table's target column, "target" if None; every other column is a feature
    task : "classification" or "regression". None decides by the target: text, and integers with
        at most 100 different values, are class labels; anything else is a quantity. In a
        text file an integer is a number written without a point or exponent.
    seed : of the choice of test rows where the data have no test set. One row of every five
        neighbours in the order of the target is taken, so that both sets have the same distribution.

    Returns a `Dataset`. Raises DataError, which names the file and the fault; scikit-learn is needed for
    "digits" alone.

    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "fruit.csv"
    >>> _ = path.write_text("weight,kind\\n" + "150,apple\\n" * 10 + "120,pear\\n" * 10)
    >>> fruit = load(path, target="kind")
    >>> fruit.task, fruit.classes, fruit.features, fruit.x_train.shape, fruit.y_test
    ('classification', ['apple', 'pear'], ['weight'], (16, 1), array([0, 0, 1, 1]))
    """
    path = Path(source)
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    features = None
    if target is not None and kind not in (".csv", ".tsv"):
        raise DataError(f"{source}: a target column can be named for .csv and .tsv files only")
    if source == "digits":
        parts = _digits()
    elif path.is_dir():
        parts = _idx_folder(path)
    elif kind == ".npz":
        parts = _npz(path)
    elif kind in (".csv", ".tsv"):
        parts, features = _table(path, "," if kind == ".csv" else "\t", target or "target")
    elif path.exists():
        raise DataError(f"{source}: unknown kind of file; wanted .npz, .csv, .tsv or a folder of idx files")
    else:
        raise DataError(f"{source}: no such file or folder")
    for x, y in parts:
        _check(source, x, y)
    y, task, classes = _decide_task(source, np.concatenate([y for _, y in parts]), task)
    x = parts[0][0]
    if len(parts) == 2:
        x_test, rows = parts[1][0], len(x)
        if x_test.shape[1:] != x.shape[1:]:
            raise DataError(f"{source}: training rows have shape {x.shape[1:]}, test rows {x_test.shape[1:]}")
        return Dataset(x, y[:rows], x_test, y[rows:], task, classes, features)
    train, test = _split(source, y, np.random.default_rng(seed))
    return Dataset(x[train], y[train], x[test], y[test], task, classes, features)


def batches(x, y, batch_size, rng=None):
    """Yield (x, y) of batch_size rows each, in an order drawn from `rng`; None keeps the order.

    The last batch holds what remains. A remainder of one row joins the batch before it, because one
    value per channel has no variance for batch normalisation to use.

    >>> [len(y) for _, y in batches(np.zeros((9, 2)), np.zeros(9), 4)]
    [4, 5]
    """
    for rows in batch_rows(len(x), batch_size, rng):
        yield x[rows], y[rows]


def batch_rows(n, batch_size, rng=None):
    """The row numbers of each batch of `batches`, as a list of arrays."""
    order = np.arange(n) if rng is None else rng.permutation(n)
    stops = list(range(batch_size, n, batch_size))
    if n > 1 and stops and n - stops[-1] == 1:
        stops.pop()
    return np.split(order, stops) if n else []


@dataclass
class Standardize:
    """Shift and scale to mean 0 and standard deviation 1: (x - mean) * scale.

    `Standardize.fit(x)` takes mean and scale from training rows. Columns of a table, (rows, columns),
    have a mean and a deviation each; a constant column becomes 0. The pixels of images, (rows, height,
    width, ...), share one mean and one deviation: they are on one scale already, and a border pixel
    that is lit in a few images only would, divided by its own small deviation, outweigh all others
    (measured: on digits and on Fashion-MNIST a statistic for each pixel trains to a lower accuracy).

    Calling it with an array of such rows returns float32 (rows, features); `invert` undoes that.

    >>> standardize = Standardize.fit(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> standardize(np.array([[5.0, 5.0]]))
    array([[3., 0.]], dtype=float32)
    """

    mean: np.ndarray  # float64, (columns,) or (1,)
    scale: np.ndarray  # the same; 0 where the training rows are constant

    @classmethod
    def fit(cls, x):
        axis = 0 if x.ndim <= 2 else None
        count = x.size if axis is None else len(x)
        mean = np.atleast_1d(sum(block.sum(axis=axis) for block in _blocks(x)) / count)
        squares = sum(np.square(block - mean).sum(axis=axis) for block in _blocks(x))
        std = np.atleast_1d(np.sqrt(squares / count))
        varies = (x.max(axis=axis) != x.min(axis=axis)) & (std > 0)
        return cls(mean, np.divide(1.0, std, out=np.zeros_like(std), where=varies))

    def __call__(self, x):
        features = math.prod(x.shape[1:])
        parts = (((block - self.mean) * self.scale).reshape(-1, features) for block in _blocks(x))
        return np.concatenate([part.astype(np.float32) for part in parts])

    def invert(self, y):
        return np.divide(y, self.scale, out=np.zeros(y.shape), where=self.scale != 0) + self.mean


def _blocks(x, rows=4096):
    """x in float64, so many rows at a time: all of it can be too large."""
    return (x[i : i + rows].astype(np.float64) for i in range(0, max(len(x), 1), rows))


def _check(source, x, y):
    if x.ndim < 2 or y.ndim != 1:
        raise DataError(f"{source}: x has shape {x.shape}, y {y.shape}; wanted (rows, features), (rows,)")
    if len(x) != len(y):
        raise DataError(f"{source}: {len(x)} rows of x but {len(y)} of y")
    if x.size == 0:
        raise DataError(f"{source}: no data (x has shape {x.shape})")
    if x.dtype.kind not in "buif" or y.dtype.kind not in "buifU":
        raise DataError(f"{source}: x must be numbers, y numbers or text; they are {x.dtype} and {y.dtype}")
    for name, array in (("x", x), ("y", y)):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = np.argwhere(~np.isfinite(array))[0][0]
            raise DataError(f"{source}: NaN or infinity in row {row} of {name} (the first row being 0)")


def _decide_task(source, y, task):
    """y as labels or quantities, the task, and the classes' names."""
    values, labels = np.unique(y, return_inverse=True)
    if task is None:
        few = values.dtype.kind not in "iu" or len(values) <= MAX_INTEGER_CLASSES
        task = "classification" if values.dtype.kind in "biuU" and few else "regression"
    if len(values) < 2:
        raise DataError(f"{source}: every target is {values[0]}; there is nothing to learn")
    if task == "classification":
        return labels.reshape(-1).astype(np.int64), task, [str(value) for value in values]
    if y.dtype.kind == "U":
        raise DataError(f"{source}: the target is text ({values[0]!r}, ...), which regression cannot fit")
    return y.astype(np.float64), task, None


def _split(source, y, rng):
    if len(y) < 2 * TEST_SHARE:
        raise DataError(f"{source}: {len(y)} rows; at least {2 * TEST_SHARE} are needed to set some aside")
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    starts = np.arange(0, len(y) - TEST_SHARE + 1, TEST_SHARE)
    is_test = np.zeros(len(y), dtype=bool)
    is_test[order[starts + rng.integers(TEST_SHARE, size=len(starts))]] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _digits():
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        message = 'the data set "digits" needs scikit-learn: pip install "onepass[cli]"'
        raise ModuleNotFoundError(message, name="sklearn") from error
    digits = load_digits()
    return [(digits.images, digits.target)]


def _read(path):
    """The bytes of a file, decompressed if its name ends in .gz."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _idx_folder(folder):
    return [
        (_idx(folder / f"{part}-images-idx3-ubyte", 3), _idx(folder / f"{part}-labels-idx1-ubyte", 1))
        for part in ("train", "t10k")
    ]


def _idx(path, ndim):
    """An idx file: bytes 0, 0, type, number of dimensions; each size as big-endian int32; the data."""
    if not path.exists():
        path = path.with_name(path.name + ".gz")
    content = _read(path)
    start = 4 + 4 * ndim
    if len(content) < start or content[:2] != b"\0\0" or content[2] not in IDX_DTYPES or content[3] != ndim:
        raise DataError(f"{path}: not an idx file of {ndim} dimensions (it begins with {content[:4]!r})")
    shape = struct.unpack(f">{ndim}i", content[4:start])
    dtype = np.dtype(IDX_DTYPES[content[2]])
    size, wanted = len(content) - start, math.prod(shape) * dtype.itemsize
    if size != wanted:
        raise DataError(f"{path}: {size} bytes of data, but its header's sizes {shape} make {wanted}")
    return np.frombuffer(content, dtype, offset=start).astype(dtype.newbyteorder("=")).reshape(shape)


def _npz(path):
    content = _read(path)
    try:
        with np.lib.npyio.NpzFile(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a readable .npz file without pickled objects ({error})") from error
    for names in (("x", "y"), ("x_train", "y_train", "x_test", "y_test")):
        if set(names) <= set(arrays):
            return [(arrays[x], _flat(arrays[y])) for x, y in zip(names[::2], names[1::2])]
    found = ", ".join(arrays) or "none"
    raise DataError(f"{path}: wanted arrays x, y or x_train, y_train, x_test, y_test; found {found}")


def _flat(y):
    return y[:, 0] if y.shape[1:] == (1,) else y


def _table(path, delimiter, target):
    try:
        reader = csv.reader(io.StringIO(_read(path).decode("utf-8-sig"), newline=""), delimiter=delimiter)
        names = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from error
    if names.count(target) != 1 or len(set(names)) < len(names):
        fault = f"no column {target!r}" if target not in names else "two columns of one name"
        raise DataError(f"{path}: {fault}; the columns are {', '.join(names) or 'none (the file is empty)'}")
    for line, row in rows:
        if len(row) != len(names):
            raise DataError(f"{path}, line {line}: {len(row)} values for {len(names)} columns")
    lines = [line for line, _ in rows]
    columns = dict(zip(names, zip(*(row for _, row in rows)))) if rows else {target: ()}
    y = _table_target(path, target, columns.pop(target), lines)
    if not columns:
        raise DataError(f"{path}: no rows, or no column beside {target!r}")
    x = np.stack([_table_numbers(path, name, cells, lines) for name, cells in columns.items()], axis=1)
    return [(x, y)], list(columns)


def _table_numbers(path, name, cells, lines):
    with contextlib.suppress(ValueError):
        values = np.array(cells, dtype=np.float64)
        if np.isfinite(values).all():
            return values
    for line, cell in zip(lines, cells):
        value = math.nan
        with contextlib.suppress(ValueError):
            value = float(cell)
        if not math.isfinite(value):
            raise DataError(f"{path}, line {line}, column {name!r}: {cell!r} is not a finite number")


def _table_target(path, name, cells, lines):
    values = np.array([cell.strip() for cell in cells], dtype=str)
    if (values == "").any():
        raise DataError(f"{path}, line {lines[int(np.argmax(values == ''))]}: the target {name!r} is empty")
    for dtype in (np.int64, np.float64):
        with contextlib.suppress(ValueError, OverflowError):
            return values.astype(dtype)
    return values
