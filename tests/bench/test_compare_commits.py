"""benchmarks/compare_commits.py: silent about noise, not about a commit that is slower; its cases run."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import numfuse

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("compare_commits", ROOT / "benchmarks" / "compare_commits.py")
compare_commits = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(compare_commits)


def made_up(rng, factor, rounds=20, process=0.02, turn=0.04, disturbed=0.05):
    """Rounds of pairs (old, new): every process has its luck, every turn its noise, and some turns are disturbed."""
    shape = rounds, compare_commits.PAIRS, 2
    logs = rng.normal(0, process, (rounds, 1, 2)) + rng.normal(0, turn, shape)
    logs += (rng.random(shape) < disturbed) * rng.random(shape)
    return (1e-5 * np.exp(logs) * [1, factor]).tolist()


def judgements(factor, number=300, **noise):
    rng = np.random.default_rng(0)
    return [compare_commits.summarize(made_up(rng, factor, **noise)).judgement for _ in range(number)]


def test_noise_is_no_change():
    assert set(judgements(1.0)) == {""}


def test_a_change_is_found():
    assert judgements(1.08).count("slower") >= 285
    assert judgements(1 / 1.08).count("faster") >= 285


def test_a_change_too_small_to_count():
    assert set(judgements(1.01, process=0.001, turn=0.001, disturbed=0)) == {""}


def test_bad_luck_of_one_process_is_no_change():
    rounds = made_up(np.random.default_rng(0), 1.0, process=0, turn=0.001)
    rounds[3] = [[old, 2 * new] for old, new in rounds[3]]
    summary = compare_commits.summarize(rounds)
    assert summary.judgement == "" and summary.interval[1] < 1.01


def test_summary_of_exact_numbers():
    summary = compare_commits.summarize([[[2.0, 3.0]] * 4] * 12)
    assert summary == (2.0, 3.0, 1.5, (1.5, 1.5), (1.5, 1.5), "slower")


@pytest.mark.parametrize(("rounds", "dropped"), [(7, None), (8, 0), (12, 1), (40, 11)])
def test_interval_is_that_of_the_sign_test(rounds, dropped):
    """`dropped` is what tables of the sign test have at 1 %, the two sides together."""
    ratios = np.random.default_rng(0).permutation(np.linspace(1.1, 1.5, rounds))
    summary = compare_commits.summarize([[[1.0, ratio]] * 8 for ratio in ratios])
    expected = None if dropped is None else (np.sort(ratios)[dropped], np.sort(ratios)[-1 - dropped])
    assert summary.interval == expected
    assert summary.judgement == ("" if dropped is None else "slower")


@pytest.mark.parametrize("name", [name for name in compare_commits.CASES if "1Mi" not in name and name != "train_mlp"])
def test_cases_run(name):
    threads = numfuse.get_num_threads()
    numfuse.set_num_threads(1)
    try:
        with np.errstate(all="raise"):
            call = compare_commits.CASES[name](numfuse)
            assert compare_commits.seconds(call, 2, 1) >= 0
    finally:
        numfuse.set_num_threads(threads)


def test_arrays_lie_elsewhere_with_the_same_numbers():
    arrays = [compare_commits.array("f4", 3, 5) for _ in range(50)]
    assert len({array.ctypes.data % 4096 for array in arrays}) > 10
    assert all(array.ctypes.data % 64 == 0 and array.flags.aligned for array in arrays)
    assert all((array == arrays[0]).all() for array in arrays)


@pytest.mark.parametrize(("arguments", "message"), [
    (["main"], "give NEW"),
    (["main", "HEAD", "--control"], "give NEW"),
    (["main", "HEAD", "--rounds", "0"], "must be positive"),
    (["main", "HEAD", "--seconds", "0"], "must be positive"),
    (["main", "HEAD", "--cases", "adam_16Ki,lion"], "'lion'"),
    ([], "required"),
])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        compare_commits.main(arguments)
    assert message in capsys.readouterr().err


def test_a_commit_that_is_not_there_cannot_be_told(capfd):
    assert compare_commits.main(["no such revision", "HEAD"]) == compare_commits.CANNOT_TELL


@pytest.mark.parametrize(("factor", "code"), [(1, 0), (1.5, compare_commits.SLOWER)])
def test_exit_code_and_table(factor, code, monkeypatch, capsys, tmp_path):
    """With made-up environments and times; "mse" cannot be timed."""
    def race(environments, names, rounds, budget, results, failures):
        failures["mse"] = "in old: TypeError"
        results["gelu"] += made_up(np.random.default_rng(0), factor, rounds)

    def install(what, folder, keep):
        return compare_commits.Environment(what, "package", "2.0", "python")

    monkeypatch.setattr(compare_commits, "install", install)
    monkeypatch.setattr(compare_commits, "race", race)
    assert compare_commits.main(["a", "b", "--cases", "mse,gelu", "--json", str(tmp_path / "times.json")]) == code
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("old a: package", "new b: package", "gelu", "mse was not timed"))
    assert ("slower" in printed) == (code == compare_commits.SLOWER)
    assert (tmp_path / "times.json").exists()
