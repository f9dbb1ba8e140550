"""`numfuse bench learn`: options, table and file. The training itself is in tests/bench/test_learn.py."""

import json

import numpy as np
import pytest
from helpers.commands import run

from numfuse import cli
from numfuse.bench import learn, peers
from numfuse.bench.learn import LearnerProcess


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    """A wide terminal, a table of two classes, and no library but numfuse."""
    monkeypatch.setenv("COLUMNS", "130")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(peers, "missing", lambda name: name)
    write_table("two.csv", ["left", "right"] * 100)


def write_table(path, target, noise=0.1):
    rng = np.random.default_rng(0)
    values = np.unique(target, return_inverse=True)[1] + rng.normal(0, noise, len(target))
    lines = [f"{value},{each}" for value, each in zip(values, target)]
    with open(path, "w") as file:
        file.write("\n".join(["a,target", *lines]) + "\n")


SHORT = "--epochs", 3, "--seeds", 2, "--hidden", 4, "--batch", 32


def test_table_and_file(capsys):
    code, out, err = run(capsys, "bench", "learn", "two.csv", *SHORT, "--json", "run.json")
    assert code == 0
    for name in learn.PEERS:
        assert f'numfuse: without {name}: {name} is not installed: pip install "numfuse[peers]"\n' in err
        assert "took no part" in out
    with open("run.json") as file:
        saved = json.load(file)
    [row] = saved["rows"]
    assert (row["data"], row["threads"], row["train_rows"], row["test_rows"], row["classes"]) == ("two", 1, 160, 40, 2)
    assert [len(each["seconds"]) for each in row["runs"]["numfuse"]] == [3, 3]
    assert row["accuracy"] == learn.common_accuracy(row)
    line = next(line for line in out.splitlines() if line.startswith("two"))
    assert f"{row['accuracy']:.1%}" in line and "numfuse" in line and " to " in line
    assert "hidden layers (4)" in out.replace("\n", " ")


def test_an_accuracy_that_is_not_reached(capsys):
    write_table("noise.csv", ["left", "right"] * 100, noise=100)
    code, out, _ = run(capsys, "bench", "learn", "two.csv", *SHORT, "--accuracy", "0.01", "--threads", "1,2")
    assert code == 0 and "never" not in out and out.count("1.0%") == 2
    code, out, _ = run(capsys, "bench", "learn", "two.csv", "noise.csv", *SHORT[2:], "--epochs", 1, "--accuracy",
                       "0.01,0.9999")
    assert code == 0 and "never to never" in out and "that was asked for" in out


def test_ctrl_c_keeps_what_is_there(capsys, monkeypatch):
    train = LearnerProcess.train

    def interrupt(self, seed, *args):
        if seed == 1:
            raise KeyboardInterrupt
        return train(self, seed, *args)

    monkeypatch.setattr(LearnerProcess, "train", interrupt)
    code, out, err = run(capsys, "bench", "learn", "two.csv", *SHORT, "--json", "run.json")
    assert code == 130 and "interrupted" in err
    assert "Interrupted: not all was measured" in out and "one seed." in out
    with open("run.json") as file:
        saved = json.load(file)
    assert saved["interrupted"] and len(saved["rows"][0]["runs"]["numfuse"]) == 1


@pytest.mark.parametrize("options, wanted", [
    (["none.csv"], "none.csv: no such file"),
    (["two.csv", "--accuracy", "0.1,0.2"], "2 numbers for 1 files"),
    (["two.csv", "--batch", "161"], "two.csv: --batch 161 is more than the 160 training rows: give at most 160"),
    (["two.csv", "--target", "b"], "b"),
    (["two.csv", "--threads", "1000"], "--threads 1000: "),
    (["price.csv"], "price.csv: the target is a quantity"),
    (["few.csv"], "at least 10"),
])  # fmt: skip
def test_bad_input_is_refused_before_anything_is_measured(capsys, monkeypatch, options, wanted):
    monkeypatch.setattr(LearnerProcess, "__init__", None)
    write_table("price.csv", np.linspace(0, 1, 100).tolist())
    write_table("few.csv", ["left", "right"] * 3)
    code, out, err = run(capsys, "bench", "learn", *options)
    assert (code, out) == (2, "") and wanted in err.splitlines()[-1]


@pytest.mark.parametrize("options, wanted", [
    ([], "FILE"),
    (["two.csv", "--peers", "tensorflow"], "'tensorflow' is none of torch, sklearn, keras"),
    (["two.csv", "--peers", "torch"], 'torch is not installed: pip install "numfuse[peers]"'),
    (["two.csv", "--accuracy", "95"], "'95' is not a number above 0 and below 1"),
    (["two.csv", "--seeds", "0"], "'0' is not an integer of at least 1"),
    (["two.csv", "--json", "nowhere/run.json"], "there is no folder nowhere"),
])  # fmt: skip
def test_bad_options_show_the_usage(capsys, options, wanted):
    with pytest.raises(SystemExit) as caught:
        cli.main(["bench", "learn", *options])
    err = capsys.readouterr().err
    assert caught.value.code == 2 and err.startswith("usage: numfuse bench learn ") and wanted in err


def test_bench_mentions_it(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"])
    assert "numfuse bench learn" in capsys.readouterr().out


def test_a_narrow_terminal_does_without_some_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    code, out, _ = run(capsys, "bench", "learn", "two.csv", *SHORT)
    assert code == 0 and "- Too wide for this terminal: least to most" in out
    assert "…" not in out and " to most  " not in out
    assert any(line.startswith("two ") and "numfuse" in line for line in out.splitlines())
