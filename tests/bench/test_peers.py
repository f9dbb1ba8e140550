"""The adapters of other libraries do the work of the kernels; where a library is missing they are skipped."""

import importlib.util

import numpy as np
import pytest

from numfuse.bench import peers
from numfuse.bench.contests import BlockContest, KernelContest, SmallTensorsContest, TrainingContest
from numfuse.bench.operations import CASES, OPTIMIZERS, find
from numfuse.bench.rivals import Unsupported
from numfuse.bench.training import TRAINING_STEPS

KERNELS = [KernelContest(case, size, dtype)
           for case in CASES for dtype in ("float32", "float64") for size in (70, 1003)]
KERNELS += [SmallTensorsContest(find(name), 16, "float32") for name in OPTIMIZERS]
BLOCKS = [BlockContest(shape) for shape in ((70, 30), (40, 6, 5, 3))]


def each_peer(**work):
    """Every installed peer with each of some contests, and one skipped test for a peer that is not."""
    params = []
    for peer in peers.NAMES:
        if importlib.util.find_spec(peer):
            params += [pytest.param(peer, contest, id=f"{peer}-{name}") for name, contest in work.items()]
        else:
            params.append(pytest.param(peer, None, id=peer, marks=pytest.mark.skip(reason=f"{peer} is not installed")))
    return pytest.mark.parametrize(("peer", "contest"), params)


def labels_of(peer, contest):
    """The labels of a peer's rivals; none if it has no such work, or says why it cannot do it."""
    try:
        labels = list(contest.rivals(peer, contest.arguments()))
    except Unsupported as reason:
        assert str(reason)
        return []
    assert all(label.split()[0] == peer for label in labels)
    return labels


@pytest.fixture(autouse=True)
def one_thread(request):
    peer = request.getfixturevalue("peer")
    peers.load(peer).configure(1)


@each_peer(**{f"{c.row['case']} {c.row['shape']} {c.dtype}": c for c in [*KERNELS, *BLOCKS]})
def test_a_peer_computes_what_the_kernel_does(peer, contest):
    for label in labels_of(peer, contest):
        contest.check(peer, label)


@each_peer(**{step.name: TrainingContest(step).trial for step in TRAINING_STEPS})
def test_a_peer_takes_the_same_training_step(peer, contest):
    for label in labels_of(peer, contest):
        contest.check(peer, label)


@each_peer(all=None)
def test_a_peer_does_a_good_part_of_the_work(peer, contest):
    some = "adam_step", "grad_norm", "batch_norm_forward", "dropout_forward", "block", "training_step"
    supported = {name for name in some if peers.find(peer, name)}
    assert supported == {
        "torch": {"adam_step", "grad_norm", "batch_norm_forward", "dropout_forward", "block", "training_step"},
        "jax": {"adam_step", "grad_norm", "batch_norm_forward", "dropout_forward", "block", "training_step"},
        "sklearn": {"training_step"},
        "numba": {"adam_step", "grad_norm", "batch_norm_forward", "dropout_forward"},
    }[peer]


@each_peer(versions=None)
def test_a_peer_tells_its_version(peer, contest):
    versions = peers.load(peer).versions()
    assert versions and all(isinstance(version, str) and version[0].isdigit() for version in versions.values())


@each_peer(repeated=KernelContest(find("adam_step"), 64, "float32"))
def test_a_peer_can_be_run_thousands_of_times(peer, contest):
    arguments = contest.arguments()
    try:
        rivals = contest.rivals(peer, arguments)
    except Unsupported:
        return
    for rival in rivals.values():
        for _ in range(2000):
            rival.run()
        assert all(np.isfinite(array).all() for array in rival.results()["params"])
