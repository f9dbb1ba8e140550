import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onepass
from onepass import cli
from onepass.train import Model

# One thread, since a BLAS with several is slow beyond measure while other processes keep the CPUs busy.
QUICK = ["--epochs", "2", "--hidden", "8", "--threads", "1"]
LEARN = ["--epochs", "10", "--hidden", "16", "--batch-size", "16", "--lr", "0.03", "--threads", "1"]


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """A comparison of no more than one epoch; no terminal, whatever the environment says."""
    monkeypatch.setattr(cli, "compare_backends", functools.partial(cli.compare_backends, min_seconds=0.0))
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two small tables, flowers.csv to classify and houses.tsv to regress."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    kind = np.where(x[:, 0] > 0, "rose", "lily")
    rows = [f"{a},{b},{c},{k}\n" for (a, b, c), k in zip(x, kind)]
    (folder / "flowers.csv").write_text("a,b,c,kind\n" + "".join(rows))
    rows = [f"{a}\t{b}\t{c}\t{1000 + 300 * a + 100 * b}\n" for a, b, c in x]
    (folder / "houses.tsv").write_text("a\tb\tc\ttarget\n" + "".join(rows))
    return folder


def run(capsys, *argv):
    code = cli.main([str(arg) for arg in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def scores(out):
    """Everything printed about training but times."""
    return re.findall(r"loss .*(?=  \d+\.\d\d s)|test (?:accuracy|R\^2) +[\d.]+", out)


def test_info(capsys):
    code, out, _ = run(capsys, "info")
    assert code == 0
    for word in (onepass.__version__, onepass.native.isa(), np.__version__, "BLAS", "Python"):
        assert word in out


def test_module_runs_without_the_extras():
    script = (
        "import sys, runpy; sys.modules.update(dict.fromkeys(['rich', 'matplotlib', 'sklearn']));"
        "sys.argv = ['onepass', 'info']; runpy.run_module('onepass', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("onepass ")


def test_python_dash_m():
    result = subprocess.run([sys.executable, "-m", "onepass", "--version"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, f"onepass {onepass.__version__}\n")


def test_classification(capsys, tables):
    code, out, err = run(capsys, "train", tables / "flowers.csv", "--target", "kind", *LEARN)
    assert (code, err) == (0, "")
    assert "classification, 2 classes" in out and "160 for training, 40 for testing" in out
    assert "epoch  10/10" in out
    assert float(re.search(r"^test accuracy +([\d.]+)", out, re.M)[1]) > 0.9
    assert re.search(r"One epoch with each backend.*NumPy .*as fast.*NumPy, own dropout masks", out, re.S)
    assert max(map(len, out.replace(str(tables), "").splitlines())) <= 80


def test_regression(capsys, tables):
    code, out, _ = run(capsys, "train", tables / "houses.tsv", *LEARN, "--dropout", 0)
    assert code == 0
    assert float(re.search(r"^test R\^2 +([\d.]+)", out, re.M)[1]) > 0.9
    assert "own dropout masks" not in out


def test_equal_seeds_print_equal_numbers(capsys, tables):
    argv = ["train", tables / "flowers.csv", "--target", "kind", *QUICK]
    first, second = scores(run(capsys, *argv)[1]), scores(run(capsys, *argv)[1])
    assert len(first) == 3 and first == second
    assert first != scores(run(capsys, *argv, "--seed", 1)[1])


def test_numpy_backend_trains_on_the_same_numbers(capsys, tables):
    argv = ["train", tables / "houses.tsv", *QUICK]
    native, numpy = run(capsys, *argv)[1], run(capsys, *argv, "--backend", "numpy")[1]
    assert "kernels    onepass.native" in native and "kernels    onepass.reference" in numpy
    numbers = [np.array(re.findall(r"[\d.]+", " ".join(scores(out))), dtype=float) for out in (native, numpy)]
    # Printed to 4 digits; only batch norm's sums may differ, by some 1e-7 a step.
    np.testing.assert_allclose(*numbers, atol=2e-4)


@pytest.mark.parametrize("options", [
    ["--optimizer", "sgd"], ["--optimizer", "rmsprop"], ["--optimizer", "adam", "--weight-decay", "1e-4"],
    ["--no-batch-norm"], ["--hidden"], ["--hidden", "8", "4"], ["--lr", "0.01"], ["--batch-size", "1000"],
    ["--task", "classification", "--dropout", "0.5"],
])
def test_options(capsys, tmp_path, options):
    x = np.random.default_rng(0).standard_normal((60, 2, 2))
    np.savez(tmp_path / "d.npz", x=x, y=(x[:, 0, 0] > 0).astype(float if "--task" in options else int))
    code, out, err = run(capsys, "train", tmp_path / "d.npz", *QUICK, *options)
    assert (code, err) == (0, "") and "test accuracy" in out


def test_threads_are_set_back(capsys, tables, monkeypatch):
    before = onepass.get_num_threads()
    seen = []

    def fit(*args, **options):
        seen.append(onepass.get_num_threads())
        return []

    monkeypatch.setattr(cli, "fit", fit)
    for threads in (2, 1):
        assert run(capsys, "train", tables / "houses.tsv", "--threads", threads)[0] == 0
        assert onepass.get_num_threads() == before
    assert seen == [2, 1]


def test_threads_without_threadpoolctl(capsys, tables, monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    code, out, _ = run(capsys, "train", tables / "houses.tsv", *QUICK)
    assert code == 0 and "OPENBLAS_NUM_THREADS" in out


def test_live_bar_on_a_terminal(capsys, tables, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, _ = run(capsys, "train", tables / "flowers.csv", "--target", "kind", *QUICK)
    assert code == 0 and "test accuracy" in out
    assert "\x1b[" in out and "epoch   1/2" not in out


def test_plot_and_save(capsys, tables, tmp_path):
    files = ["--plot", tmp_path / "c[a].png", "--save", tmp_path / "m.npz"]
    code, out, _ = run(capsys, "train", tables / "flowers.csv", "--target", "kind", *QUICK, *files)
    assert code == 0 and "m.npz" in out and "c[a].png" in out
    assert (tmp_path / "c[a].png").read_bytes().startswith(b"\x89PNG")
    assert sorted(os.listdir(tmp_path)) == ["c[a].png", "m.npz"]
    model = Model.load(tmp_path / "m.npz")
    assert model.classes == ["lily", "rose"] and model.features == ["a", "b", "c"]
    assert set(model.predict(np.array([[3.0, 0, 0], [-3.0, 0, 0]]))) <= {"lily", "rose"}
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        assert json.loads(str(file["about"]))["architecture"]["hidden"] == [8]


def test_ctrl_c_reports_the_model_so_far(capsys, tables, tmp_path, monkeypatch):
    real = cli.evaluate

    def interrupt(*args):
        monkeypatch.setattr(cli, "evaluate", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "evaluate", interrupt)
    code, out, _ = run(capsys, "train", tables / "houses.tsv", *QUICK, "--save", tmp_path / "m.npz")
    assert code == 0 and "interrupted: 1 of 2 epochs" in out and "test R^2" in out
    assert (tmp_path / "m.npz").exists() and "each backend" not in out


@pytest.mark.parametrize("argv, fault", [
    ([], "required"),
    (["fly"], "invalid choice: 'fly'"),
    (["train", "--fast"], "--fast"),
    (["train", "--optimizer", "lion"], "invalid choice: 'lion'"),
    (["train", "--lr", "-1"], "--lr: '-1' is not a finite number of at least 0"),
    (["train", "--lr", "nan"], "--lr: 'nan'"),
    (["train", "--lr", "inf"], "--lr: 'inf'"),
    (["train", "--dropout", "1"], "--dropout: '1' is not a finite number from 0 to less than 1"),
    (["train", "--hidden", "8", "0"], "--hidden: '0' is not an integer of at least 1"),
    (["train", "--batch-size", "1"], "--batch-size: '1' is not an integer of at least 2"),
    (["train", "--epochs", "1.5"], "--epochs: '1.5'"),
    (["train", "--threads", "0"], "--threads: '0'"),
    (["train", "--seed", "-1"], "--seed: '-1'"),
])
def test_unknown_option_or_value(capsys, argv, fault):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and fault in err.splitlines()[-1]


@pytest.mark.parametrize("argv, fault", [
    (["nowhere.csv"], "nowhere.csv: no such file"),
    (["flowers.csv"], "no column 'target'; the columns are a, b, c, kind"),
    (["houses.tsv", "--save", "m.pt"], "--save m.pt: the name must end in .npz"),
    (["houses.tsv", "--save", "nowhere/m.npz"], "cannot write to nowhere/m.npz"),
    (["houses.tsv", "--save", "folder.npz"], "folder.npz is a folder"),
    (["houses.tsv", "--plot", "c.xyz"], "--plot c.xyz: the name must end in ."),
    (["houses.tsv", "--plot", "nowhere/c.png"], "cannot write to nowhere/c.png"),
    (["flowers.csv", "--target", "kind", "--task", "regression"], "the target is text"),
    (["houses.tsv", "--optimizer", "sgd", "--lr", "1e30", *QUICK], "try a smaller --lr"),
])
def test_bad_input_is_one_line_and_code_2(capsys, tables, monkeypatch, argv, fault):
    monkeypatch.chdir(tables)
    Path("folder.npz").mkdir(exist_ok=True)
    code, _, err = run(capsys, "train", *argv)
    assert code == 2 and fault in err
    assert err.startswith("onepass: error: ") and err.count("\n") == 1


@pytest.mark.parametrize("module, argv", [
    ("rich", ["train"]), ("sklearn", ["train"]), ("sklearn.datasets", ["train", "digits"]),
    ("matplotlib", ["train", "--plot", "c.png"]),
])
def test_missing_extra(capsys, tmp_path, monkeypatch, module, argv):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.startswith((module, "onepass.report"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(onepass, "report", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = run(capsys, *argv)
    assert code == 2 and 'pip install "onepass[cli]"' in err and err.count("\n") == 1


def test_a_failure_of_ours_is_not_dressed_up(monkeypatch):
    monkeypatch.setitem(sys.modules, "onepass.report", None)
    monkeypatch.delattr(onepass, "report", raising=False)
    with pytest.raises(ImportError, match="report"):
        cli.main(["train"])


def test_bench_is_registered(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", "--help"])
    assert caught.value.code == 0 and "KERNEL" in capsys.readouterr().out
