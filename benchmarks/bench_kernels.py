"""The harness's contests under pytest-benchmark, on one thread: `pytest benchmarks`, or `-k adam_step` for one kernel.

Every contest is a group, in which rivals stand side by side, and with them the kernel's reference; peers take part
where they are installed. How many times the reference's time is native's stands below the tables.
`--benchmark-autosave` or `--benchmark-json` keep the numbers of a run, and `--benchmark-compare` sets those of
an earlier one beside them.
"""

import importlib.util
from functools import partial

import pytest
from threadpoolctl import threadpool_limits

from numfuse import native, reference
from numfuse.bench import peers
from numfuse.bench.contests import BLOCKS, BlockContest, KernelContest, SmallTensorsContest, TrainingContest
from numfuse.bench.operations import CASES, OPTIMIZERS, find
from numfuse.bench.results import RIVALS
from numfuse.bench.rivals import Unsupported
from numfuse.bench.training import TRAINING_STEPS

CONTESTS = [KernelContest(case, size, "float32") for case in CASES for size in (1 << 14, 1 << 20)]
CONTESTS += [SmallTensorsContest(find(name), 16, "float32") for name in OPTIMIZERS]
CONTESTS += [*map(BlockContest, BLOCKS), *map(TrainingContest, TRAINING_STEPS)]
PEERS = [name for name in peers.NAMES if importlib.util.find_spec(name)]
BACKENDS = ["stream", "matmul", *native.isas(), "reference"]
BACKENDS += [label for label in RIVALS if label.split()[0] in ("textbook", "in_place", *PEERS)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    isa, threads = native.isa(), native.get_num_threads()
    native.set_num_threads(1)
    for name in PEERS:
        peers.load(name).configure(1)
    with threadpool_limits(1):
        yield
    native.use_isa(isa)
    native.set_num_threads(threads)


def contest_name(contest):
    return f"{contest.row['case']} {'x'.join(map(str, contest.row['shape']))}"


def takes_part(backend, contest):
    """Whether a backend has the work at all; with some option it may turn out that it has not."""
    if backend.split()[0] in PEERS:
        work = {BlockContest: "block", TrainingContest: "training_step"}.get(type(contest)) or contest.case.kernel
        return peers.find(backend.split()[0], work) is not None
    if backend == "reference":
        return type(contest) is KernelContest
    limit = {KernelContest: "stream", BlockContest: "stream", TrainingContest: "matmul"}.get(type(contest))
    return backend in (limit, *contest.in_numpy, *native.isas())


PAIRS = [pytest.param(contest, backend, id=f"{contest_name(contest)}-{backend}")
         for contest in CONTESTS for backend in BACKENDS if takes_part(backend, contest)]


@pytest.mark.parametrize(("contest", "backend"), PAIRS)
def test_speed(benchmark, contest, backend):
    benchmark.group = contest_name(contest)
    arguments = contest.arguments()
    native.use_isa(backend if backend in native.isas() else native.isas()[0])
    if backend in native.isas():
        call = contest.ours(arguments)
    elif backend == "reference":
        call = partial(getattr(reference, contest.case.kernel), **arguments)
    elif backend in ("stream", "matmul"):
        call = contest.limits(arguments)[backend]
    else:
        source = backend if backend in contest.in_numpy else backend.split()[0]
        try:
            rivals = contest.rivals(source, arguments)
        except Unsupported as reason:
            pytest.skip(f"{source} {reason}")
        if backend not in rivals:
            pytest.skip(f"{source} has no form {backend.removeprefix(source).strip()} of this")
        call = rivals[backend].run
    benchmark(call)
