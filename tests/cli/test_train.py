import functools
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import run

import numfuse
from numfuse import cli, native, nn, optim, reference
from numfuse.cli import train as command
from numfuse.data import MinMax, Standardize
from numfuse.train import Epoch, History, Model, fit


# One thread, since a BLAS with several is slow beyond measure while other processes keep the CPUs busy.
QUICK = ["--epochs", "2", "--hidden", "8", "--threads", "1"]
LEARN = ["--epochs", "10", "--hidden", "16", "--batch-size", "16", "--lr", "0.03", "--threads", "1"]


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """A comparison of no more than one epoch; no terminal, whatever the environment says."""
    monkeypatch.setattr(command, "compare_backends", functools.partial(command.compare_backends, min_seconds=0.0))
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Small tables: flowers.csv to classify, houses.tsv to regress, huge.csv that overflows."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 3))
    kind = np.where(x[:, 0] > 0, "rose", "lily")
    rows = [f"{a},{b},{c},{k}\n" for (a, b, c), k in zip(x, kind)]
    (folder / "flowers.csv").write_text("a,b,c,kind\n" + "".join(rows))
    rows = [f"{a}\t{b}\t{c}\t{1000 + 300 * a + 100 * b}\n" for a, b, c in x]
    (folder / "houses.tsv").write_text("a\tb\tc\ttarget\n" + "".join(rows))
    (folder / "huge.csv").write_text("a,target\n" + "".join(f"{i}e307,{i % 3}\n" for i in range(18)))
    return folder


def scores(out):
    """Everything printed about training but times."""
    return re.findall(r"loss .*(?=  \d+\.\d\d s)|test (?:accuracy|R\^2) +[\d.]+", out)


def test_classification(capsys, tables):
    code, out, err = run(capsys, "train", tables / "flowers.csv", "--target", "kind", *LEARN)
    assert (code, err) == (0, "")
    assert "classification, 2 classes" in out and "160 for training, 40 for testing" in out
    assert "epoch  10/10" in out
    assert float(re.search(r"^test accuracy +([\d.]+)", out, re.M)[1]) > 0.9
    for row in ("NumPy, textbook", "NumPy, the same bits"):
        assert re.search(rf"^  {row} .*x as fast", out.partition("One epoch with each backend")[2], re.M)
    assert max(map(len, out.replace(str(tables), "").splitlines())) <= 80


def test_regression(capsys, tables):
    code, out, _ = run(capsys, "train", tables / "houses.tsv", *LEARN, "--dropout", 0)
    assert code == 0
    assert float(re.search(r"^test R\^2 +([\d.]+)", out, re.M)[1]) > 0.9


def test_equal_seeds_print_equal_numbers(capsys, tables):
    argv = ["train", tables / "flowers.csv", "--target", "kind", *QUICK]
    first, second = scores(run(capsys, *argv)[1]), scores(run(capsys, *argv)[1])
    assert len(first) == 3 and first == second
    assert first != scores(run(capsys, *argv, "--seed", 1)[1])


def test_numpy_backend_trains_on_the_same_numbers(capsys, tables):
    argv = ["train", tables / "houses.tsv", *QUICK]
    native, numpy = run(capsys, *argv)[1], run(capsys, *argv, "--backend", "numpy")[1]
    assert "kernels    numfuse.native" in native and "kernels    numfuse.reference" in numpy
    numbers = [np.array(re.findall(r"[\d.]+", " ".join(scores(out))), dtype=float) for out in (native, numpy)]
    # Printed to 4 digits; only batch norm's sums may differ, by some 1e-7 a step.
    np.testing.assert_allclose(*numbers, atol=2e-4)


@pytest.mark.parametrize("options", [
    ["--optimizer", "sgd"], ["--optimizer", "rmsprop"], ["--optimizer", "adam", "--weight-decay", "1e-4"],
    ["--no-batch-norm"], ["--hidden", "none"], ["--hidden", "8, 4"], ["--lr", "0.01"],
    ["--batch-size", "1000"], ["--task", "classification", "--dropout", "0.5"],
])
def test_options(capsys, tmp_path, options):
    x = np.random.default_rng(0).standard_normal((60, 2, 2))
    np.savez(tmp_path / "d.npz", x=x, y=(x[:, 0, 0] > 0).astype(float if "--task" in options else int))
    code, out, err = run(capsys, "train", tmp_path / "d.npz", *QUICK, *options)
    assert (code, err) == (0, "") and "test accuracy" in out


@pytest.fixture
def training(monkeypatch):
    """A function (capsys, *argv) that returns what `train` hands to `fit` and `evaluate`, by name."""
    seen = {}

    def fit(net, loss, optimizer, x, y, **options):
        seen.update(options, net=net, loss=loss, optimizer=optimizer, x=x, y=y)
        return History()

    def evaluate(net, x, y):
        seen.update(x_test=x, y_test=y)
        return 0.0

    monkeypatch.setattr(command, "fit", fit)
    monkeypatch.setattr(command, "evaluate", evaluate)

    def train(capsys, *argv):
        run(capsys, "train", *argv)
        return seen

    return train


DEFAULTS = {
    "layers": "Linear BatchNorm1d ReLU Dropout Linear BatchNorm1d ReLU Dropout Linear",
    "widths": [256, 128, 1], "p": {0.2}, "optimizer": optim.AdamW, "lr": 3e-3, "weight_decay": 0.01,
    "momentum": None, "batch_size": 128, "epochs": 20, "kernels": native, "accumulate": 1, "schedule": "linear",
    "validation": None, "patience": None, "checkpoint": None, "resume": False, "max_grad_norm": None, "rng": 0,
}
FIT_OPTIONS = (*command.FIT_OPTIONS, "rng")


@pytest.mark.parametrize("argv, changes", [
    ([], {}),
    (["--hidden", "7"], {"layers": "Linear BatchNorm1d ReLU Dropout Linear", "widths": [7, 1]}),
    (["--hidden", "none"], {"layers": "Linear", "widths": [1], "p": set()}),
    (["--no-batch-norm"], {"layers": "Linear ReLU Dropout Linear ReLU Dropout Linear"}),
    (["--dropout", "0.4"], {"p": {0.4}}),
    (["--dropout", "0"], {"layers": "Linear BatchNorm1d ReLU Linear BatchNorm1d ReLU Linear", "p": set()}),
    (["--optimizer", "sgd"], {"optimizer": optim.SGD, "lr": 0.05, "weight_decay": 0.0, "momentum": 0.9}),
    (["--optimizer", "rmsprop"],
     {"optimizer": optim.RMSProp, "lr": 1e-3, "weight_decay": 0.0, "momentum": 0.0}),
    (["--optimizer", "adam"], {"optimizer": optim.Adam, "weight_decay": 0.0}),
    (["--lr", "0.5"], {"lr": 0.5}),
    (["--weight-decay", "0.3"], {"weight_decay": 0.3}),
    (["--weight-decay", "0"], {"weight_decay": 0.0}),
    (["--batch-size", "9"], {"batch_size": 9}),
    (["--epochs", "3"], {"epochs": 3}),
    (["--backend", "numpy"], {"kernels": reference}),
    (["--accumulate", "4"], {"accumulate": 4}),
    (["--schedule", "cosine"], {"schedule": "cosine"}),
    (["--max-grad-norm", "2.5"], {"max_grad_norm": 2.5}),
    (["--validation", "0.2", "--patience", "3"], {"validation": 0.2, "patience": 3}),
    (["--checkpoint", "c.npz"], {"checkpoint": Path("c.npz")}),
    (["--seed", "7"], {"rng": 7}),
])
def test_options_reach_the_training(capsys, tables, training, argv, changes):
    seen = training(capsys, *argv, tables / "houses.tsv")
    net, optimizer = seen["net"], seen["optimizer"]
    options = optimizer.param_groups[0]
    assert all(layer.kernels is optimizer.kernels for layer in net if isinstance(layer, nn.BatchNorm1d))
    assert {
        "layers": " ".join(type(layer).__name__ for layer in net),
        "widths": [len(layer.weight) for layer in net if isinstance(layer, nn.Linear)],
        "p": {layer.p for layer in net if isinstance(layer, nn.Dropout)},
        "optimizer": type(optimizer), "kernels": optimizer.kernels, "momentum": options.get("momentum"),
        **{name: options[name] for name in ("lr", "weight_decay")},
        "max_grad_norm": optimizer.max_grad_norm, **{name: seen[name] for name in FIT_OPTIONS},
    } == DEFAULTS | changes


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_training_rows_alone_set_the_scale(capsys, tmp_path, training, task):
    rng = np.random.default_rng(0)
    x_train, x_test = rng.normal(0, 1, (30, 2)), rng.normal(50, 9, (20, 2))
    y_train, y_test = x_train[:, 0] * 3 + 1, x_test[:, 0] * 3 + 1
    if task == "classification":
        y_train, y_test = (y_train > 1).astype(int), (y_test > 150).astype(int)
    np.savez(tmp_path / "d.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    seen = training(capsys, tmp_path / "d.npz")
    scale = Standardize().fit(x_train)
    np.testing.assert_array_equal(seen["x"], scale(x_train))
    np.testing.assert_array_equal(seen["x_test"], scale(x_test))
    if task == "regression":
        scale = Standardize().fit(y_train[:, None])
        y_train, y_test = scale(y_train[:, None]), scale(y_test[:, None])
    assert isinstance(seen["loss"], nn.CrossEntropyLoss if task == "classification" else nn.MSELoss)
    np.testing.assert_array_equal(seen["y"], y_train)
    np.testing.assert_array_equal(seen["y_test"], y_test)


def test_scale(capsys, tmp_path, training):
    x = np.random.default_rng(0).normal(50, 9, (30, 2))
    np.savez(tmp_path / "d.npz", x_train=x, y_train=x[:, 0], x_test=x[:9], y_test=x[:9, 0])
    np.testing.assert_array_equal(training(capsys, tmp_path / "d.npz", "--scale", "minmax")["x"], MinMax().fit(x)(x))


def test_validation_takes_the_place_of_the_test_rows_until_the_end(capsys, tables, tmp_path):
    argv = ["train", tables / "flowers.csv", "--target", "kind", *LEARN, "--validation", 0.25]
    code, out, _ = run(capsys, *argv, "--plot", tmp_path / "c.svg")
    assert code == 0 and "160 for training (less 0.25 for validation), 40 for testing" in out
    assert len(re.findall(r"  validation \d\.\d{4}, \d\.\d{4}  ", out)) == 10 and out.count("test accuracy") == 1
    assert max(map(len, out.replace(str(tables), "").replace(str(tmp_path), "").splitlines())) <= 80
    code, out, _ = run(capsys, *argv, "--epochs", 500, "--patience", 2)
    stop = re.search(r"stopped after (\d+) of 500 epochs; the net is that of epoch (\d+)", out)
    assert code == 0 and int(stop[1]) == int(stop[2]) + 2 and "each backend" in out


def test_a_run_that_was_cut_goes_on_from_its_checkpoint(capsys, tables, tmp_path, monkeypatch):
    argv = ["train", tables / "houses.tsv", *QUICK, "--checkpoint", tmp_path / "c.npz"]
    whole = scores(run(capsys, *argv)[1])
    real, asked = command.evaluate, []

    def interrupt(*args):
        asked.append(args)
        if len(asked) == 2:  # after the second epoch, which is not yet in the file
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(command, "evaluate", interrupt)
    (tmp_path / "c.npz").unlink()
    assert run(capsys, *argv)[0] == 130
    monkeypatch.setattr(command, "evaluate", real)
    code, out, _ = run(capsys, *argv, "--resume")
    assert code == 0 and scores(out) == whole[1:] and "after epoch 1 of" in out
    assert "; there is nothing left to train of 2" in run(capsys, *argv, "--resume")[1]


def test_a_resumed_run_shows_the_learning_rate_of_its_checkpoint(capsys, tables, tmp_path):
    argv = ["train", tables / "houses.tsv", *QUICK, "--checkpoint", tmp_path / "c.npz"]
    shown = [run(capsys, *argv, *more)[1] for more in (["--lr", "0.0125", "--weight-decay", "3"], ["--resume"])]
    for out in shown:
        assert "lr 0.0125 falling to 0, weight decay 3" in out


def test_threads_are_set_back(capsys, tables, monkeypatch):
    before = numfuse.get_num_threads()
    seen = []

    def fit(*args, epochs, **options):
        seen.append(numfuse.get_num_threads())
        return History(Epoch(number + 1, 2) for number in range(epochs))

    monkeypatch.setattr(command, "fit", fit)
    for threads in (2, 1):
        assert run(capsys, "train", tables / "houses.tsv", "--threads", threads)[0] == 0
        assert numfuse.get_num_threads() == before
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
    real = command.evaluate

    def interrupt(*args):
        monkeypatch.setattr(command, "evaluate", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "evaluate", interrupt)
    code, out, _ = run(capsys, "train", tables / "houses.tsv", *QUICK, "--save", tmp_path / "m.npz")
    assert code == 130 and "interrupted after 1 of 2 epochs" in out and "test R^2" in out
    assert (tmp_path / "m.npz").exists() and "each backend" not in out


@pytest.mark.parametrize("argv, fault", [
    ([], "required"),
    (["fly"], "invalid choice: 'fly'"),
    (["train", "--fast"], "--fast"),
    (["train", "--optimizer", "lion"], "invalid choice: 'lion'"),
    (["train", "--lr", "-1"], "--lr: '-1' is not a number of at least 0"),
    (["train", "--lr", "nan"], "--lr: 'nan'"),
    (["train", "--lr", "inf"], "--lr: 'inf'"),
    (["train", "--dropout", "1"], "--dropout: '1' is not a number of at least 0 and below 1"),
    (["train", "--hidden", "8,0"], "--hidden: '0' is not an integer from 1 to 1048576"),
    (["train", "--hidden", "8,"], "--hidden: '' is not an integer from 1"),
    (["train", "--batch-size", "1"], "--batch-size: '1' is not an integer of at least 2"),
    (["train", "--epochs", "1.5"], "--epochs: '1.5'"),
    (["train", "--threads", "0"], "--threads: '0' is not an integer from 1 to 256"),
    (["train", "--threads", "257"], "--threads: '257' is not an integer from 1 to 256"),
    (["train", "--seed", "-1"], "--seed: '-1'"),
    (["train", "--validation", "1"], "--validation: '1' is not a number above 0 and below 1"),
    (["train", "--validation", "0"], "--validation: '0' is not a number above 0 and below 1"),
    (["train", "--max-grad-norm", "0"], "--max-grad-norm: '0' is not a number above 0"),
    (["train", "--patience", "0"], "--patience: '0' is not an integer of at least 1"),
    (["train", "--accumulate", "0"], "--accumulate: '0' is not an integer of at least 1"),
    (["train", "--scale", "max"], "invalid choice: 'max'"),
    (["train", "--schedule", "step"], "invalid choice: 'step'"),
])
def test_unknown_option_or_value(capsys, argv, fault):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    err = capsys.readouterr().err
    assert caught.value.code == 2 and fault in err.splitlines()[-1]


@pytest.mark.parametrize("argv, fault", [
    (["nowhere.csv"], "nowhere.csv: no such file"),
    (["flowers.csv"], "the columns are a, b, c, kind"),
    (["a" * 300], "File name too long"),
    (["a" * 300 + ".csv"], "File name too long"),
    (["houses.tsv", "--save", "a" * 245 + ".npz"], "File name too long"),
    (["huge.csv"], "values too large to standardise"),
    (["houses.tsv", "--save", "m.pt"], "--save m.pt: the name must end in .npz"),
    (["houses.tsv", "--save", "nowhere/m.npz"], "cannot write to nowhere/m.npz"),
    (["houses.tsv", "--save", "folder.npz"], "folder.npz is a folder"),
    (["houses.tsv", "--plot", "c.xyz"], "--plot c.xyz: the name must end in .png, .svg, .pdf\n"),
    (["houses.tsv", "--plot", "nowhere/c.png"], "cannot write to nowhere/c.png"),
    (["flowers.csv", "--target", "kind", "--task", "regression"], "the target is text"),
    (["houses.tsv", "--optimizer", "sgd", "--lr", "1e30", *QUICK], "try a smaller --lr"),
    (["houses.tsv", "--patience", "3"], "--patience needs --validation"),
    (["houses.tsv", "--resume"], "--resume needs --checkpoint"),
    *[(["houses.tsv", "--checkpoint", "net.npz", "--resume", option, "1"], f"{option} cannot go with --resume")
      for option in ("--lr", "--weight-decay", "--seed")],
    (["houses.tsv", "--checkpoint", "c.pt"], "--checkpoint c.pt: the name must end in .npz"),
    (["houses.tsv", "--checkpoint", "nowhere/c.npz"], "cannot write to nowhere/c.npz"),
    (["houses.tsv", "--checkpoint", "net.npz"], "--checkpoint net.npz exists: add --resume to go on from it, or rem"),
    (["houses.tsv", "--checkpoint", "none.npz", "--resume"], "none.npz: No such file"),
    (["houses.tsv", "--checkpoint", "other.npz", "--resume"], "other.npz is not a checkpoint that numfuse saved"),
    (["houses.tsv", "--checkpoint", "net.npz", "--resume"], "net.npz does not belong to this net"),
    (["houses.tsv", "--validation", "0.001"], "a share of 160 rows"),
])
def test_bad_input_is_one_line_and_code_2(capsys, tables, monkeypatch, argv, fault):
    monkeypatch.chdir(tables)
    Path("folder.npz").mkdir(exist_ok=True)
    np.savez("other.npz", x=np.ones(3))
    Path("net.npz").unlink(missing_ok=True)
    fit(net := nn.Linear(1, 1), nn.MSELoss(), optim.SGD(net.parameters()), *np.ones((2, 2, 1), np.float32), epochs=1,
        batch_size=2, checkpoint="net.npz")
    code, out, err = run(capsys, "train", *argv)
    assert code == 2 and fault in err
    assert err.startswith("numfuse: error: ") and err.count("\n") == 1
    assert "epoch   2" not in out  # found out before the training, not after it


@pytest.mark.parametrize("error, fault", [
    (MemoryError("Unable to allocate 1 TiB"), "out of memory"),
    (OSError(28, "No space left on device", "m.npz"), "m.npz: No space left on device"),
])
def test_a_failing_machine_is_one_line_and_code_2(capsys, tables, monkeypatch, error, fault):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(command, "fit", fail)
    code, _, err = run(capsys, "train", tables / "houses.tsv")
    assert (code, err) == (2, f"numfuse: error: {fault}\n")
