"""The sentences that sum up a run: who is faster, and where."""

from helpers.made_up_runs import PEERS, failed, make_row, make_run

from numfuse.bench.report import describe
from numfuse.bench.summary import summary


def test_rows_where_numpy_is_faster_are_all_named_first():
    slow = [make_row(size, seconds={"native": 2.0, "textbook": 4.0, "in_place": 1.0}) for size in "abcdef"]
    numpy, *_ = summary(make_run(make_row(), *slow))
    names = ", ".join(f"{name} 1 Mi (0.500x)" for name in "abcdef")
    assert numpy == f"NumPy is faster in 6 of 7 rows: {names}. In the median it takes 0.500x numfuse's time."


def test_each_library_has_a_line_that_counts_its_best_form():
    lines = summary(make_run(make_row(seconds=PEERS), make_row("sgd_step"), failed(make_row("rmsprop_step"))))
    assert lines == [
        "NumPy is faster in none of 2 rows. In the median it takes 2.50x numfuse's time.",
        "PyTorch is faster in none of 1 rows. In the median it takes 1.10x numfuse's time.",
        "JAX is faster in none of 1 rows. In the median it takes 2.00x numfuse's time.",
        "Numba is faster in 1 of 1 rows: adam_step 1 Mi (0.500x). In the median it takes 0.500x numfuse's time."]


def test_neither_one_group_nor_rows_under_load_are_summed_up():
    loaded, group = make_row(busy=1), make_row(seconds={"native": 2.0, "one group": 1.0})
    assert summary(make_run(loaded, group)) == []


def test_the_summary_is_part_of_every_report():
    run = make_run(make_row())
    assert set(summary(run)) <= set(describe(run))
