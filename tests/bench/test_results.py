"""The data of a run: what is saved is what is loaded, and the numbers that are derived from rounds."""

import copy
import json

import pytest
from helpers.made_up_runs import SECONDS, failed, make_row, make_run

from numfuse.bench import results

ROW = make_row("adam_step adamw", seconds={
    "stream": [3.0, 1.0, 2.0, 4.0, 5.0], "numba": [4.0, 8.0, 4.0, 8.0, 12.0],
    "native": [2.0, 4.0, 4.0, 4.0, 5.0], "stream nontemporal": [1.0, 1.0, 2.5, 4.0, 4.5],
    "textbook": [2.0, 8.0, 4.0, 16.0, 20.0], "torch fused": [1.0, 2.0, 2.0, 2.0, 2.5]})
FAILED = failed(ROW)
RUN = make_run(ROW, FAILED)


def test_what_is_saved_is_loaded(tmp_path):
    results.save(tmp_path / "run.json", RUN)
    assert results.load(tmp_path / "run.json") == RUN


def test_a_file_has_one_row_a_line_and_4_digits(tmp_path):
    row = copy.deepcopy(ROW)
    row |= {"seconds": {"native": [1.23456789e-7]}, "quiet": {"native": [True]}}
    results.save(tmp_path / "run.json", RUN | {"rows": [row, row]})
    lines = (tmp_path / "run.json").read_text().splitlines()
    assert sum('"case"' in line for line in lines) == 2
    assert all('"native": [1.235e-07]' in line for line in lines if '"case"' in line)
    assert results.load(tmp_path / "run.json")["rows"] == [results.rounded(row)] * 2


def test_a_failed_save_leaves_the_old_file(tmp_path):
    results.save(tmp_path / "run.json", RUN)
    with pytest.raises(TypeError):
        results.save(tmp_path / "run.json", RUN | {"machine": {1j}})
    assert results.load(tmp_path / "run.json") == RUN
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(("change", "message"), [
    ({"numfuse_bench": 2}, "its format is 2, and this version reads 1"),
    ({"machine": []}, "'machine' of it is [], not of type dict"),
    ({"rows": [ROW, 5]}, "row 2 is no JSON object"),
    ({"rows": [ROW | {"shape": 5}]}, "'shape' of row 1 is 5, not of type list"),
    ({"rows": [ROW | {"seconds": {"native": [1.0, -1.0]}}]}, "'native' of row 1 are not a list of positive"),
    ({"rows": [ROW | {"seconds": {"native": [1.0, float("nan")]}}]}, "not a list of positive numbers"),
    ({"rows": [ROW | {"seconds": {"native": []}}]}, "not a list of positive numbers"),
    ({"rows": [ROW | {"seconds": {"native": [1.0], "jax": [1.0, 2.0]}}]}, "not all seconds of row 1"),
])
def test_what_is_wrong_with_a_file_is_named(tmp_path, change, message):
    file = tmp_path / "run.json"
    file.write_text(json.dumps(RUN | change))
    with pytest.raises(ValueError) as error:
        results.load(file)
    assert str(error.value).startswith(f"{file} is not a run of numfuse bench")
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["rows", "versions", "command", "left_out", "numfuse_bench"])
def test_a_missing_part_of_a_run_is_named(tmp_path, name):
    (tmp_path / "run.json").write_text(json.dumps({key: RUN[key] for key in RUN if key != name}))
    with pytest.raises(ValueError, match=f"it has no '{name}'"):
        results.load(tmp_path / "run.json")


@pytest.mark.parametrize("name", ["case", "seconds", "limits", "elements", "busy"])
def test_a_missing_part_of_a_row_is_named(tmp_path, name):
    row = {key: ROW[key] for key in ROW if key != name}
    (tmp_path / "run.json").write_text(json.dumps(RUN | {"rows": [row]}))
    with pytest.raises(ValueError, match=f"row 1 has no '{name}'"):
        results.load(tmp_path / "run.json")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"null"])
def test_other_files_are_no_runs(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match="run.json is not a run of numfuse bench"):
        results.load(tmp_path / "run.json")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        results.load(tmp_path / "no.json")


def test_numbers_of_a_row():
    assert results.median(ROW, "native") == 4 and results.spread(ROW) == 0
    # The rounds' ratios are 1.5, 0.25, 0.5, 1, 1.
    assert results.median(ROW, "stream") == 4 * 1
    # The rounds' ratios are 1, 2, 1, 4, 4.
    assert results.ratio(ROW, "textbook") == (2, 1, 4)
    assert results.ratio(ROW, "native", to="torch fused") == (2, 2, 2)
    assert results.limit(ROW) == "stream nontemporal"
    assert results.share_of_limit(ROW) == 0.625
    slow = make_row(seconds=ROW["seconds"] | {"arithmetic": [3.0] * 5})
    assert results.loop(slow) == "stream nontemporal" and results.limit(slow) == "arithmetic"
    assert results.rivals(ROW) == ["textbook", "torch fused", "numba"]
    assert results.rivals(FAILED, ROW, make_row(seconds={"new": 1.0, "in_place": 2.0})) == [
        "textbook", "in_place", "torch fused", "numba", "new"]
    assert results.rivals(make_row(seconds=SECONDS | {"one thread": 1.0})) == ["textbook", "in_place"]
    assert results.limits(ROW) == ["stream", "stream nontemporal"]


@pytest.mark.parametrize("row", [FAILED, ROW | {"limits": [], "seconds": {"textbook": [1.0]}}],
                         ids=["failed", "without native"])
def test_numbers_that_do_not_exist_are_none(row):
    assert results.median(row, "jax") is results.spread(row) is None
    assert results.ratio(row, "textbook") is results.limit(row) is results.share_of_limit(row) is None


def test_rows_of_the_same_thing_have_the_same_key():
    assert results.key(ROW) == results.key(json.loads(json.dumps(FAILED)))
    others = {"case": "x", "shape": [1, 2], "dtype": "x", "threads": 2, "busy": 1, "isa": "x"}
    assert all(results.key(ROW) != results.key(ROW | {name: value}) for name, value in others.items())


def disturbed(native, quiet, textbook=None, other_quiet=None):
    rounds = {"native": native, "textbook": textbook or [2.0] * len(native)}
    return make_row(seconds=rounds, quiet={"native": quiet, "textbook": other_quiet or [True] * len(native)})


def test_only_quiet_rounds_count():
    row = disturbed([1.0] * 20 + [9.0] * 60, [True] * 20 + [False] * 60)
    assert results.is_quiet(row)
    assert results.median(row, "native") == 1 and results.spread(row) == 0
    assert results.ratio(row, "textbook") == (2, 2, 2)


def test_a_ratio_is_of_rounds_in_which_both_were_quiet():
    row = disturbed([1.0] * 5 + [9.0] * 9, [True] * 14, [2.0] * 5 + [18.5] * 9, [True] * 5 + [False] * 9)
    assert results.ratio(row, "textbook")[0] == 2
    assert results.median(row, "native") == 9


def test_all_rounds_count_where_too_few_were_quiet():
    row = disturbed([1.0] * 4 + [9.0] * 6, [True] * 4 + [False] * 6)
    assert not results.is_quiet(row)
    assert results.median(row, "native") == 9


def test_rounds_of_a_later_sweep_are_added():
    rows = [disturbed([1.0], [True])]
    other = disturbed([3.0], [False], [4.0])
    results.add(rows, [other, make_row("sgd_step")])
    assert [row["case"] for row in rows] == ["adam_step", "sgd_step"]
    assert rows[0]["seconds"] == {"native": [1.0, 3.0], "textbook": [2.0, 4.0]}
    assert rows[0]["quiet"] == {"native": [True, False], "textbook": [True, True]}


def test_what_a_later_sweep_could_not_measure_is_left_as_it_was():
    row, other = make_row(), make_row()
    del other["seconds"]["in_place"], other["quiet"]["in_place"]
    rows = [row]
    results.add(rows, [failed(make_row())])
    assert len(rows[0]["seconds"]["native"]) == 20
    results.add(rows, [other])
    assert "in_place" not in rows[0]["seconds"] and len(rows[0]["seconds"]["native"]) == 40
