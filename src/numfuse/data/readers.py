"""Readers of the files of a data set: idx folders, `.npz` archives, and `.csv` and `.tsv` tables."""

import contextlib
import csv
import gzip
import io
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..files import BROKEN_NPZ

IDX_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class DataError(ValueError):
    """Data that are missing or broken; the message names the file and the fault."""


def read(source, target, task):
    """The arrays (x, y), of training and test rows if the data divide them, and the columns' names or None.

    Arguments as for `numfuse.data.load`.
    """
    path = Path(source)
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if target is not None and kind not in (".csv", ".tsv"):
        raise DataError(f"{source}: a target column can be named for .csv and .tsv files only")
    if source == "digits":
        return _digits(), None
    if path.is_dir():
        return _idx_folder(path), None
    if kind == ".npz":
        return _npz(path), None
    if kind in (".csv", ".tsv"):
        return _table(path, "," if kind == ".csv" else "\t", target or "target", task)
    if path.exists():
        raise DataError(f"{source}: unknown kind of file; wanted .npz, .csv, .tsv or a folder of idx files")
    raise DataError(f"{source}: no such file or folder")


def _digits():
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        message = 'the data set "digits" needs scikit-learn: pip install "numfuse[cli]"'
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
    """An idx file: bytes 0, 0, type, number of dimensions; each size as big-endian uint32; the data."""
    if not path.exists():
        path = path.with_name(path.name + ".gz")
    if not path.exists():
        raise DataError(f"{path.parent}: no {path.stem} or {path.name}; "
                        "a folder must hold the idx files of MNIST's layout")
    content = _read(path)
    start = 4 + 4 * ndim
    if len(content) < start or content[:2] != b"\0\0" or content[2] not in IDX_DTYPES or content[3] != ndim:
        raise DataError(f"{path}: not an idx file of {ndim} dimensions (it begins with {content[:4]!r})")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    dtype = np.dtype(IDX_DTYPES[content[2]])
    size, wanted = len(content) - start, math.prod(shape) * dtype.itemsize
    if size != wanted or not size:
        raise DataError(f"{path}: {size} bytes of data, but its header's sizes {shape} make {wanted}")
    return np.frombuffer(content, dtype, offset=start).astype(dtype.newbyteorder("=")).reshape(shape)


def _npz(path):
    content = _read(path)
    try:
        with np.lib.npyio.NpzFile(io.BytesIO(content), allow_pickle=False) as file:
            for names in (("x", "y"), ("x_train", "y_train", "x_test", "y_test")):
                if set(names) <= set(file.files):
                    x_y = [file[name] for name in names]
                    return [(x, _flat(y)) for x, y in zip(x_y[::2], x_y[1::2])]
            found = ", ".join(file.files) or "none"
    except BROKEN_NPZ as error:
        raise DataError(f"{path}: not a readable .npz file without pickled objects ({error})") from error
    raise DataError(f"{path}: wanted arrays x, y or x_train, y_train, x_test, y_test; found {found}")


def _flat(y):
    return y[:, 0] if y.shape[1:] == (1,) else y


def _table(path, delimiter, target, task):
    try:
        reader = csv.reader(io.StringIO(_read(path).decode("utf-8-sig"), newline=""), delimiter=delimiter)
        names = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from error
    if names.count(target) != 1 or len(set(names)) < len(names):
        fault = f"no column {target!r}" if target not in names else "two columns of one name"
        hint = " (--target, or target=, names another)" if target not in names else ""
        columns = ", ".join(names) or "none (the file is empty)"
        raise DataError(f"{path}: {fault}{hint}; the columns are {columns}")
    for line, row in rows:
        if len(row) != len(names):
            raise DataError(f"{path}, line {line}: {len(row)} values for {len(names)} columns")
    lines = [line for line, _ in rows]
    columns = dict(zip(names, zip(*(row for _, row in rows)))) if rows else {target: ()}
    y = _table_target(path, target, columns.pop(target), lines, task)
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
        if not math.isfinite(_number(cell)):
            raise DataError(f"{path}, line {line}, column {name!r}: {cell!r} is not a finite number; "
                            "encode text as numbers, and fill or leave out what is missing")


def _table_target(path, name, cells, lines, task):
    values = np.array([cell.strip() for cell in cells], dtype=str)
    if (values == "").any():
        raise DataError(f"{path}, line {lines[int(np.argmax(values == ''))]}: the target {name!r} is empty")
    for dtype in (np.int64, np.float64):
        with contextlib.suppress(ValueError, OverflowError):
            return values.astype(dtype)
    text = [(line, cell) for line, cell in zip(lines, values.tolist()) if math.isnan(_number(cell))]
    if task != "classification" and len(text) < len(values) / 2:
        line, cell = text[0]
        raise DataError(f"{path}, line {line}: the target {name!r} is {cell!r}, but a number in most rows; "
                        "leave out rows without a target, or ask for the task classification")
    return values


def _number(cell):
    with contextlib.suppress(ValueError):
        return float(cell)
    return math.nan
