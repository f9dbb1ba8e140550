"""Data sets: loading, and a test set where the data have none."""

from dataclasses import dataclass

import numpy as np

from .batches import split_rows
from .readers import DataError, read

TEST_SHARE = 5  # one row of this many is a test row, where the data have no test set of their own
MAX_INTEGER_CLASSES = 100  # an integer target with more different values is taken for a quantity


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
        text file an integer is a number written without a point or exponent. Text in a column mostly
        of numbers, or more different texts than half the rows, are taken for mistakes.
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
    try:
        parts, features = read(source, target, task)
    except OSError as error:
        raise DataError(f"{source}: {error.strerror or error}") from error
    for x, y in parts:
        _check(source, x, y)
    y, task, classes = _decide_task(source, np.concatenate([y for _, y in parts]), task)
    x = parts[0][0]
    if len(parts) == 2:
        x_test, rows = parts[1][0], len(x)
        if x_test.shape[1:] != x.shape[1:]:
            raise DataError(f"{source}: training rows have shape {x.shape[1:]}, test rows {x_test.shape[1:]}")
        dataset = Dataset(x, y[:rows], x_test, y[rows:], task, classes, features)
    else:
        train, test = _split(source, y, np.random.default_rng(seed))
        dataset = Dataset(x[train], y[train], x[test], y[test], task, classes, features)
    label = dataset.y_train[0]
    if (dataset.y_train == label).all():
        raise DataError(f"{source}: every training target is {classes[label] if classes else label}; "
                        "there is nothing to learn")
    return dataset


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
    if task is None and values.dtype.kind == "U" and len(values) > len(y) / 2:
        raise DataError(f"{source}: the target is text with {len(values)} different values in {len(y)} rows "
                        f"({values[0]!r}, ...): choose another, or ask for the task classification")
    if task is None:
        few = values.dtype.kind not in "iu" or len(values) <= MAX_INTEGER_CLASSES
        task = "classification" if values.dtype.kind in "biuU" and few else "regression"
    if task == "classification":
        return labels.reshape(-1).astype(np.int64), task, [str(value) for value in values]
    if y.dtype.kind == "U":
        raise DataError(f"{source}: the target is text ({values[0]!r}, ...), which regression cannot fit")
    return y.astype(np.float64), task, None


def _split(source, y, rng):
    if len(y) < 2 * TEST_SHARE:
        raise DataError(f"{source}: {len(y)} rows; at least {2 * TEST_SHARE} are needed to set some aside")
    return split_rows(y, 1 / TEST_SHARE, rng)
