import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from numfuse.data import DataError, load


TABLE = "a,b,target\n" + "".join(f"{i},{i * 0.5},{'xyz'[i % 3]}\n" for i in range(30))


def write(path, content):
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def idx(array, code=0x08):
    header = struct.pack(f">BBBB{array.ndim}i", 0, 0, code, array.ndim, *array.shape)
    return header + array.tobytes()


def idx_folder(folder, suffix="", **replaced):
    rng = np.random.default_rng(0)
    for part, rows in (("train", 12), ("t10k", 6)):
        files = {
            "images-idx3-ubyte": idx(rng.integers(256, size=(rows, 3, 2), dtype=np.uint8)),
            "labels-idx1-ubyte": idx(np.arange(rows, dtype=np.uint8) % 3),
        }
        for name, content in files.items():
            write(folder / f"{part}-{name}{suffix}", replaced.get(f"{part}_{name[:6]}", content))
    return folder


def test_digits_is_split_the_same_way_each_time_with_all_classes_in_proportion():
    first, second = load("digits"), load("digits")
    assert first.x_train.shape[1:] == (8, 8) and len(first.y_train) + len(first.y_test) == 1797
    assert len(first.y_test) == 1797 // 5
    assert first.task == "classification" and first.classes == [str(i) for i in range(10)]
    np.testing.assert_array_equal(first.x_test, second.x_test)
    all_counts = np.bincount(np.r_[first.y_train, first.y_test])
    # A class of n rows in sorted order covers n/5 blocks of five, give or take the two it shares.
    assert np.all(np.abs(np.bincount(first.y_test) - all_counts / 5) <= 2)
    assert not np.array_equal(first.x_test, load("digits", seed=1).x_test)


def test_no_row_is_lost_or_in_both_sets(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(53.0)[:, None], y=np.arange(53) / 52)
    data = load(tmp_path / "d.npz")
    rows = np.r_[data.x_train[:, 0], data.x_test[:, 0]]
    np.testing.assert_array_equal(np.sort(rows), np.arange(53.0))
    np.testing.assert_array_equal(data.y_train, data.x_train[:, 0] / 52)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_folder(tmp_path, suffix):
    data = load(idx_folder(tmp_path, suffix))
    assert data.x_train.shape == (12, 3, 2) and data.x_test.shape == (6, 3, 2)
    assert data.x_train.dtype == np.uint8
    np.testing.assert_array_equal(data.y_test, [0, 1, 2, 0, 1, 2])
    expected = np.random.default_rng(0).integers(256, size=(12, 3, 2), dtype=np.uint8)
    np.testing.assert_array_equal(data.x_train, expected)


@pytest.mark.parametrize("broken, fault", [
    (b"", "train-labels.*not an idx file"),
    (b"\0\0\x08\x01\0\0", "train-labels.*not an idx file"),
    (b"PK\3\4 a zip file", "train-labels.*not an idx file"),
    (idx(np.zeros((12, 1, 1), np.uint8)), "train-labels.*not an idx file of 1 dim"),
    (idx(np.zeros(12, np.uint8))[:-1], "train-labels.*11 bytes of data"),
    (idx(np.zeros(12, np.uint8)) + b"x", "train-labels.*13 bytes of data"),
    (struct.pack(">BBBBi", 0, 0, 8, 1, -1), "train-labels.*0 bytes of data"),
    (struct.pack(">BBBBi", 0, 0, 8, 1, 0), "train-labels.*0 bytes of data"),
    (idx(np.arange(11, dtype=np.uint8)), "12 rows of x but 11 of y"),
])
def test_broken_idx_file(tmp_path, broken, fault):
    with pytest.raises(DataError, match=fault):
        load(idx_folder(tmp_path, train_labels=broken))


@pytest.mark.parametrize("sizes", [(-12, -3, 2), (0, -1, -1)])
def test_idx_sizes_that_cannot_be(tmp_path, sizes):
    content = struct.pack(">BBBB3i", 0, 0, 8, 3, *sizes) + bytes(max(0, np.prod(sizes)))
    with pytest.raises(DataError, match="train-images.* bytes of data, but its header's sizes"):
        load(idx_folder(tmp_path, train_images=content))


def test_idx_folder_without_test_images(tmp_path):
    (idx_folder(tmp_path) / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match="no t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz"):
        load(tmp_path)


def test_truncated_gz(tmp_path):
    path = write(tmp_path / "d.csv.gz", TABLE)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError, match="d.csv.gz: .*ended before"):
        load(path)


def test_gz_that_is_none(tmp_path):
    (tmp_path / "d.csv.gz").write_text(TABLE)
    with pytest.raises(DataError, match="d.csv.gz: Not a gzipped file"):
        load(tmp_path / "d.csv.gz")


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.tsv", "d.tsv.gz"])
def test_table(tmp_path, name):
    data = load(write(tmp_path / name, TABLE.replace(",", "\t") if "tsv" in name else TABLE))
    assert data.features == ["a", "b"] and data.classes == ["x", "y", "z"] and data.task == "classification"
    assert data.x_train.shape == (24, 2) and data.x_test.shape == (6, 2)
    np.testing.assert_array_equal(data.y_train, data.x_train[:, 0] % 3)
    np.testing.assert_array_equal(data.x_train[:, 1], data.x_train[:, 0] * 0.5)


def test_table_with_named_target_quotes_blank_lines_and_byte_order_mark(tmp_path):
    text = '\ufeff"size, cm",kind\r\n' + '1,"a ""b"""\r\n\r\n2, c\r\n' * 8
    data = load(write(tmp_path / "d.csv", text), target="kind")
    assert data.features == ["size, cm"] and data.classes == ['a "b"', "c"]
    assert len(data.y_train) + len(data.y_test) == 16


@pytest.mark.parametrize("cells, task, classes", [
    (["0", "1", "2"], "classification", ["0", "1", "2"]),
    (["10", "9", "-1"], "classification", ["-1", "9", "10"]),
    (["no", "yes"], "classification", ["no", "yes"]),
    (["1", "low", "high"], "classification", ["1", "high", "low"]),
    (["1", "low"], "classification", ["1", "low"]),
    (["1.0", "2.0"], "regression", None),
    (["1", "2.5"], "regression", None),
    (["1e3", "2e3"], "regression", None),
    ([str(i) for i in range(100)], "classification", [str(i) for i in range(100)]),
    ([str(i) for i in range(101)], "regression", None),
])
def test_task_follows_from_the_target(tmp_path, cells, task, classes):
    rows = "".join(f"{i},{cells[i % len(cells)]}\n" for i in range(202))
    data = load(write(tmp_path / "d.csv", "a,target\n" + rows))
    assert (data.task, data.classes) == (task, classes)
    assert data.y_train.dtype == (np.int64 if classes else np.float64)


def test_task_can_be_chosen(tmp_path):
    path = write(tmp_path / "d.csv", "a,target\n" + "1,2.0\n2,3.0\n" * 10)
    assert load(path, task="classification").classes == ["2.0", "3.0"]
    path = write(tmp_path / "e.csv", "a,target\n" + "1,2\n2,3\n" * 10)
    assert set(load(path, task="regression").y_train) == {2.0, 3.0}


@pytest.mark.parametrize("text, fault", [
    ("", "no column 'target'.*; the columns are none"),
    ("a,target\n", "no rows"),
    ("target\n" + "1\n2\n" * 9, "no column beside 'target'"),
    ("a,b\n1,2\n", "no column 'target'.*; the columns are a, b"),
    ("a,a,target\n1,2,3\n", "two columns of one name"),
    ("a,target\n1,2\n1\n", "line 3: 1 values for 2 columns"),
    ("a,target\n\n1,2\n1,2,3\n", "line 4: 3 values for 2 columns"),
    ("a,job,target\n1,2,0\n3,nurse,1\n", "line 3, column 'job': 'nurse' is not a finite number"),
    ("a,target\n1,0\n,1\n", "line 3, column 'a': '' is not a finite number"),
    ("a,target\nnan,0\n1,1\n", "line 2, column 'a': 'nan' is not a finite number"),
    ("a,target\n1,0\n-inf,1\n", "line 3, column 'a': '-inf' is not a finite number"),
    ("a,target\n1,x\n2, \n", "line 3: the target 'target' is empty"),
    ("a,target\n1,0.5\n2,nan\n", "NaN or infinity in row 1 of y"),
    ("a,target\n" + "1,0\n" * 20, "every training target is 0"),
    ("a,target\n" + "1,yes\n" * 20, "every training target is yes"),
    ("a,target\n1,2\n3,NA\n4,5\n", "line 3: the target 'target' is 'NA', but a number in most rows"),
    ("a,target\n1,2.5\n\n3,4.5\n4, ?\n", "line 5: the target 'target' is '\\?', but a number in most"),
    ("a,target\n" + "".join(f"1,n{i}\n2,n0\n" for i in range(20)) + "1,n20\n",
     "text with 21 different values in 41 rows"),
    ("a,target\n1,0\n2,1\n", "2 rows; at least 10 are needed"),
    (b"a,target\n\xff\xfe,1\n", "can't decode byte 0xff"),
])
def test_broken_table(tmp_path, text, fault):
    path = write(tmp_path / "d.csv", text)
    with pytest.raises(DataError, match=fault) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("cells", [["1", "2", "NA"], [f"n{i}" for i in range(30)]])
def test_any_text_can_be_classes_if_asked(tmp_path, cells):
    rows = "".join(f"1,{cells[i % len(cells)]}\n" for i in range(30))
    path = write(tmp_path / "d.csv", "a,target\n" + rows)
    assert load(path, task="classification").classes == sorted(cells)


def test_a_missing_number_is_named_in_regression_too(tmp_path):
    path = write(tmp_path / "d.csv", "a,target\n" + "1,2.5\n2,3.5\n" * 5 + "3,NA\n")
    with pytest.raises(DataError, match="line 12: the target 'target' is 'NA'"):
        load(path, task="regression")


def test_text_cannot_be_regressed(tmp_path):
    with pytest.raises(DataError, match="the target is text"):
        load(write(tmp_path / "d.csv", TABLE), task="regression")


def test_npz_with_its_own_test_set(tmp_path):
    x = np.arange(24, dtype=np.float32).reshape(12, 2)
    y_train, y_test = np.array(list("abababab"))[:, None], np.array(list("abca"))
    np.savez(tmp_path / "d.npz", x_train=x[:8], y_train=y_train, x_test=x[8:], y_test=y_test)
    data = load(tmp_path / "d.npz")
    np.testing.assert_array_equal(data.x_test, x[8:])
    assert data.classes == ["a", "b", "c"]
    np.testing.assert_array_equal(data.y_test, [0, 1, 2, 0])


GOOD_X, GOOD_Y = np.ones((20, 3)), np.arange(20) % 2
NAN_X = GOOD_X.copy()
NAN_X[7, 1] = np.nan


@pytest.mark.parametrize("arrays, fault", [
    ({}, "found none"),
    ({"x": GOOD_X, "labels": GOOD_Y}, "found x, labels"),
    ({"x": GOOD_X, "y": GOOD_Y[:-1]}, "20 rows of x but 19 of y"),
    ({"x": NAN_X, "y": GOOD_Y}, "row 7 of x"),
    ({"x": GOOD_X[:, 0], "y": GOOD_Y}, r"x has shape \(20,\)"),
    ({"x": GOOD_X, "y": GOOD_X}, r"y \(20, 3\)"),
    ({"x": GOOD_X[:0], "y": GOOD_Y[:0]}, "no data"),
    ({"x": GOOD_X.astype(complex), "y": GOOD_Y}, "x must be numbers.*complex"),
    ({"x": GOOD_X.astype(object), "y": GOOD_Y}, "pickled objects"),
    ({"x_train": GOOD_X, "y_train": GOOD_Y, "x_test": GOOD_X[:, :2], "y_test": GOOD_Y}, "test rows"),
    ({"x_train": GOOD_X[:1], "y_train": GOOD_Y[:1], "x_test": GOOD_X, "y_test": GOOD_Y},
     "every training target is 0"),
    ({"x_train": GOOD_X, "y_train": GOOD_Y * 0.5 * 0, "x_test": GOOD_X, "y_test": GOOD_Y * 0.5},
     "every training target is 0.0"),
])
def test_broken_npz(tmp_path, arrays, fault):
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(DataError, match=f"d.npz: .*{fault}"):
        load(tmp_path / "d.npz")


def test_npz_reads_the_wanted_arrays_alone(tmp_path):
    np.savez(tmp_path / "d.npz", x=GOOD_X, y=GOOD_Y, notes=np.array([{"pickled": True}]))
    assert len(load(tmp_path / "d.npz").y_train) == 16


def test_npz_with_any_byte_changed(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", x=np.arange(24.0).reshape(12, 2), y=np.arange(12) % 2)
    content = (tmp_path / "d.npz").read_bytes()
    broken = 0
    for i in range(len(content)):
        for flip in (0x01, 0x0C, 0xFF):
            write(tmp_path / "d.npz", content[:i] + bytes([content[i] ^ flip]) + content[i + 1 :])
            try:
                load(tmp_path / "d.npz")
            except DataError:
                broken += 1
    assert broken > len(content)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\3\4 truncated zip"])
def test_npz_that_is_none(tmp_path, content):
    with pytest.raises(DataError, match="d.npz: not a readable .npz file"):
        load(write(tmp_path / "d.npz", content))


def test_npy_named_npz(tmp_path):
    with open(tmp_path / "d.npz", "wb") as file:
        np.save(file, GOOD_X)
    with pytest.raises(DataError, match="d.npz: not a readable .npz file"):
        load(tmp_path / "d.npz")


@pytest.mark.parametrize("name, fault", [
    ("nowhere", "no such file or folder"),
    ("nowhere.csv", "no such file"),
    ("nowhere.npz", "no such file"),
    ("known.parquet", "unknown kind of file"),
    ("a" * 300, "File name too long"),
    ("a" * 300 + ".csv.gz", "File name too long"),
])
def test_missing_or_unknown_file(tmp_path, name, fault):
    write(tmp_path / "known.parquet", "x")
    with pytest.raises(DataError, match=f"{name}: {fault}"):
        load(tmp_path / name)


def test_target_is_for_tables_only():
    with pytest.raises(DataError, match="digits: a target column"):
        load("digits", target="y")


def test_real_data():
    folder = os.environ.get("NUMFUSE_DATA")
    if not folder:
        pytest.skip("the environment variable NUMFUSE_DATA does not name a folder with the real data sets")
    houses = load(Path(folder) / "tabular" / "537_houses.tsv.gz")
    assert houses.task == "regression" and len(houses.y_train) + len(houses.y_test) == 20640
    letters = load(Path(folder) / "tabular" / "letter.tsv.gz")
    assert letters.task == "classification" and len(letters.classes) == 26
    fashion = load(Path(folder) / "fashion-mnist")
    assert fashion.x_train.shape == (60000, 28, 28) and np.bincount(fashion.y_test).tolist() == [1000] * 10
