"""The harness: what it reports, not how fast anything is."""

import argparse
import json
import sys

import numpy as np
import pytest

from onepass import native
from onepass.bench import command
from onepass.bench.cases import CASES, find
from onepass.bench.measure import MIN_ROUNDS, machine, measure, measure_overhead, take_turns
from onepass.bench.report import table

TIMES = ["textbook", "in_place", "native", "stream"]
RATIOS = ["speedup_textbook", "speedup_in_place", "share_of_streaming"]


@pytest.fixture(autouse=True)
def no_budget(monkeypatch):
    """Rounds as few as may be."""
    monkeypatch.setattr(command, "BUDGET", 0)
    monkeypatch.setattr(command, "QUICK_BUDGET", 0)


def bench(*options):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(options))


def bench_rows(tmp_path, *options):
    assert bench(*options, "--json", str(tmp_path / "bench.json")) == 0
    return json.loads((tmp_path / "bench.json").read_text())["rows"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_case_is_measured(case, dtype):
    (row,) = measure(case, 1000, np.dtype(dtype).type, [native.isa()], 0)
    assert row["case"] == case.name and row["dtype"] == dtype and row["isa"] == native.isa()
    assert np.prod(row["shape"]) >= 1000 and row["rounds"] >= MIN_ROUNDS
    assert all(row[name] > 0 for name in TIMES)
    assert all(row[name] > 0 for name in RATIOS)


def test_a_row_for_each_instruction_set_and_the_former_one_afterwards():
    before = native.isa()
    rows = measure(find("dropout_forward p=0.2"), 1000, np.float32, native.isas(), 0)
    assert [row["isa"] for row in rows] == native.isas()
    assert len({row["textbook"] for row in rows}) == 1
    assert len(measure_overhead(native.isas(), 0)) == len(native.isas())
    assert native.isa() == before


def test_rivals_take_turns():
    calls = []
    rivals = {name: (native.isa(), lambda name=name: calls.append(name)) for name in "abc"}
    seconds = take_turns(rivals, 0)
    assert [len(seconds[name]) for name in "abc"] == [MIN_ROUNDS] * 3
    turns = [b for a, b in zip([None, *calls], calls) if a != b]
    assert turns == list("abc") * (1 + MIN_ROUNDS)


@pytest.mark.parametrize("name", ["adam_step amsgrad", "batch_norm_backward NCHW", "dropout_forward p=0.5"])
def test_data_is_hot_if_the_arrays_fit_in_l2(monkeypatch, name):
    case = find(name)
    arrays = {"adam_step amsgrad": 5, "batch_norm_backward NCHW": 3, "dropout_forward p=0.5": 2}[name]
    for l2, hot in ((4000 * arrays + 2000, True), (4000 * arrays - 1, False), (None, None)):
        monkeypatch.setattr("onepass.bench.measure.l2_bytes", lambda: l2)
        assert measure(case, 1000, np.float32, [native.isa()], 0)[0]["hot"] is hot


def test_default_report(capsys):
    assert bench("--sizes", "64") == 0
    out = capsys.readouterr().out
    assert native.isa() in out and np.__version__ in out and machine()["cpu"] in out
    assert "optim.Adam.step" in out
    for case in CASES:
        assert case.kernel in out


def test_selection(tmp_path):
    rows = bench_rows(tmp_path, "dropout_backward", "sgd_step", "--sizes", "10,20",
                      "--dtypes", "float64,float32", "--quick", "--isa", "all")
    assert {row["case"] for row in rows} == {case.name for case in CASES
                                             if case.kernel in ("dropout_backward", "sgd_step")}
    assert len(rows) == 4 * 2 * 2 * len(native.isas())


def test_threads_are_set_for_the_run_alone(tmp_path):
    before = native.get_num_threads()
    rows = bench_rows(tmp_path, "dropout_backward", "--sizes", "10", "--threads", str(before + 1))
    assert {row["threads"] for row in rows} == {before + 1}
    assert native.get_num_threads() == before


def test_markdown(capsys):
    assert bench("adam_step", "--sizes", "64", "--markdown") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4
    assert len({line.count("|") for line in lines}) == 1
    assert lines[0].startswith("| case | shape | NumPy |")


def test_columns_that_never_change_are_left_out():
    row = {"case": "c", "shape": [2, 3], "dtype": "float32", "isa": "x", "error": "out of memory"}
    assert {"dtype", "isa"}.isdisjoint(table([row])[0])
    assert "dtype" in table([row, row | {"dtype": "float64"}])[0]
    assert table([])[1] == []


@pytest.mark.parametrize(("options", "message"), [
    (["adam"], "adam_step, batch_norm_forward"),
    (["--isa", "sse9"], ", ".join(native.isas())),
    (["--dtypes", "float32,float16"], "'float16' is none of float32, float64"),
    (["--sizes", "64,-1"], "'-1' is not an integer from 1"),
    (["--sizes", "64,"], "'' is not an integer from 1"),
    (["--sizes", str(2**51)], "from 1 to 2^50"),
    (["--threads", "0"], "'0' is not an integer from 1"),
    (["--json", "no/such/folder/bench.json"], "cannot write to no/such/folder/bench.json: No such file"),
])
def test_bad_input_is_answered_with_what_is_valid(capsys, options, message):
    with pytest.raises(SystemExit) as exit:
        bench(*options)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


def test_more_threads_than_the_pool_has(capsys, monkeypatch):
    def refuse(n):
        raise ValueError("n must be at most 3")

    monkeypatch.setattr(command.native, "set_num_threads", refuse, raising=True)
    assert bench("adam_step", "--threads", "4") == 2
    assert "--threads 4: n must be at most 3" in capsys.readouterr().err


def test_out_of_memory_is_a_row(tmp_path, capsys):
    rows = bench_rows(tmp_path, "dropout_backward", "--sizes", f"{2**50},64")
    assert rows[0]["error"] == "out of memory" and rows[0]["shape"] == [2**50]
    assert rows[1]["native"] > 0
    assert "out of memory" in capsys.readouterr().out


def test_what_was_measured_before_ctrl_c_is_reported(monkeypatch, tmp_path, capsys):
    def interrupted(case, size, *rest):
        if size == 20:
            raise KeyboardInterrupt
        return measure(case, size, *rest)

    monkeypatch.setattr(command, "measure", interrupted)
    file = tmp_path / "bench.json"
    assert bench("dropout_backward", "--sizes", "10,20,30", "--json", str(file)) == 130
    assert [row["shape"] for row in json.loads(file.read_text())["rows"]] == [[10]]
    captured = capsys.readouterr()
    assert "dropout_backward" in captured.out and "interrupted" in captured.err


def test_missing_rich_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "onepass\[cli\]"'):
        bench("dropout_backward", "--sizes", "10")
