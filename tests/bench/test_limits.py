"""The limits of a row: the shapes that lie in the L1 cache, and loops over memory that the compiler leaves alone."""

import re
from pathlib import Path

import numpy as np
import pytest

from numfuse import native
from numfuse.bench import measure
from numfuse.bench.case import arrays
from numfuse.bench.contests import BlockContest, KernelContest
from numfuse.bench.limits import L1_BYTES, two_in_l1
from numfuse.bench.operations import CASES, find

STREAM = Path(__file__).parents[2] / "csrc/kernels/stream.h"


@pytest.mark.parametrize(("shape", "arrays", "large", "small"), [
    ((1 << 20,), 2, (3072,), (768,)), ((1 << 20,), 4, (1536,), (384,)), ((100,), 2, (100,), (25,)),
    ((1024, 1024), 2, (4, 768), (2, 768)), ((128, 16), 2, (128, 16), (32, 16)), ((1, 7), 1, (4, 7), (2, 7)),
    ((16, 64, 32, 32), 3, (4, 1, 16, 32), (2, 1, 16, 32)), ((104858, 10), 2, (304, 10), (76, 10)),
])
def test_rows_are_taken_away_until_all_arrays_lie_in_l1(shape, arrays, large, small):
    touched = [np.broadcast_to(np.float32(1), shape) for _ in range(arrays)]
    assert two_in_l1(touched[0], touched) == (large, small)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_computes_in_l1(case):
    contest = KernelContest(case, 16384, "float64")
    larger, smaller = contest.in_l1(contest.arguments())
    assert larger.row["elements"] > smaller.row["elements"]
    for small in (larger, smaller):
        arguments = small.arguments()
        assert sum(array.nbytes for array in arrays(arguments)) < 4 * L1_BYTES
        small.ours(arguments)()


def test_arithmetic_is_what_two_sizes_differ_by(monkeypatch):
    """Of 3072 and 768 elements, for a million on one thread or on two."""
    def turns(calls, *_):
        seconds = {name: [3.0] * 5 for name in calls}
        seconds |= {(native.isa(), 3072): [5.0] * 5, (native.isa(), 768): [2.0] * 5}
        return seconds, {name: [True] * 5 for name in calls}

    monkeypatch.setattr(measure, "take_turns", turns)
    plan = measure.Plan((native.isa(),), (), (0,), 0)
    contest, before = KernelContest(find("activation_forward gelu"), 1 << 20, "float32"), native.get_num_threads()
    try:
        for threads in (1, 2):
            native.set_num_threads(threads)
            (row,) = measure.measure(contest, plan)
            assert row["seconds"]["arithmetic"] == [3.0 * (1 << 20) / (3072 - 768) / threads] * 5
            assert "arithmetic" in row["limits"]
    finally:
        native.set_num_threads(before)


def test_every_pass_has_a_loop_of_its_own():
    """A loop over any number of arrays is slow, and no limit."""
    loops = {int(number) for number in re.findall(r"case (\d+):", STREAM.read_text())}
    contests = [KernelContest(case, 1000, "float32") for case in CASES] + [BlockContest((16, 64))]
    passes = {}
    for contest in contests:
        arguments = contest.arguments()
        of_contest = contest._passes(arguments) if isinstance(contest, BlockContest) else contest.passes(arguments)
        passes |= {100 * len(reads) + 10 * len(updates) + len(writes): contest.row["case"]
                   for reads, updates, writes in of_contest}
    assert not {number: case for number, case in passes.items() if number not in loops}
