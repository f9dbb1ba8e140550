"""The harness: who takes part, how turns are taken and what is reported; not how fast anything is."""

import argparse
import math
import os
import pickle
import signal
import subprocess
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from helpers.made_up_runs import make_row, make_run

from numfuse import native, nn
from numfuse.bench import busy, contests, limits, measure, places, results, textbook, training
from numfuse.bench.case import arrays
from numfuse.bench.contests import (BlockContest, GroupsContest, KernelContest, RegularizedStepContest,
                                    SmallTensorsContest, TrainingContest)
from numfuse.bench.measure import MIN_ROUNDS, Plan, take_turns
from numfuse.bench.operations import CASES, OPTIMIZERS, adam, batch_norm, dropout, find
from numfuse.bench.probe import Probe
from numfuse.bench.rivals import Refused
from numfuse.bench.worker import Worker
from numfuse.cli import bench as command

TINY = TrainingContest(training.TRAINING_STEPS[0])


@pytest.fixture(autouse=True)
def no_budget(monkeypatch):
    """Rounds as few as may be, one thread, and no memory of who was examined from test to test."""
    threads = native.get_num_threads()
    native.set_num_threads(1)
    monkeypatch.setattr(command, "BUDGET", 0)
    monkeypatch.setattr(command, "QUICK_BUDGET", 0)
    measure._examine.cache_clear()
    yield
    measure._examine.cache_clear()
    native.set_num_threads(threads)


def plan(isas=(native.isa(),), peers=(), busy=(0,)):
    return Plan(tuple(isas), peers, busy, 0)


def bench(*options):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(options))


def bench_rows(tmp_path, *options):
    assert bench(*options, "--json", str(tmp_path / "bench.json")) == 0
    return results.load(tmp_path / "bench.json")["rows"]


# Measuring


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_is_measured_against_its_rivals_and_limits(case, dtype):
    (row,) = measure.measure(KernelContest(case, 1000, dtype), plan())
    assert row["case"] == case.name and row["dtype"] == dtype and row["isa"] == native.isa()
    assert np.prod(row["shape"]) == row["elements"] >= 1000 and not row["refused"]
    assert set(row["seconds"]) == {"native", "textbook", "in_place", *row["limits"]}
    assert "stream" in row["limits"]
    assert {len(rounds) for rounds in row["seconds"].values()} == {MIN_ROUNDS}
    assert all(seconds > 0 for rounds in row["seconds"].values() for seconds in rounds)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_small_tensors_are_measured(name):
    (row,) = measure.measure(SmallTensorsContest(find(name), 16, "float32"), plan())
    assert row["shape"] == [10, 16] and set(row["seconds"]) == {"native", "textbook", "in_place"}


def test_a_step_in_groups_is_measured_against_one_of_a_single_group():
    contest = GroupsContest(find("adam_step adamw"), 16, "float32", 3)
    (row,) = measure.measure(contest, plan())
    assert row["shape"] == [3, 16] and set(row["seconds"]) == {"native", "one group"}
    arguments = contest.arguments() | {"lr": 0.1}
    before = [param.copy() for param in arguments["params"]]
    contest.ours(arguments)()
    assert all((param != old).any() for param, old in zip(arguments["params"], before))


def test_kernels_are_called_as_a_program_calls_them():
    def kernel(x, bias=None, out=None, *, scale, axis=1):
        return x, bias, out, scale, axis

    x, out = np.ones(3), np.empty(3)
    call = contests._as_written(kernel, {"x": x, "bias": None, "out": out, "axis": 1, "scale": 0.5})
    given = call()
    assert given[0] is x and given[2] is out and (given[1], *given[3:]) == (None, 0.5, 1)
    assert call.__code__.co_names == ("_kernel", "x", "out", "scale")  # no option at its default


def test_a_step_with_clipping_by_norm_is_measured_against_one_more_reading():
    (row,) = measure.measure(RegularizedStepContest(find("adam_step regularized"), 1000, "float32"), plan())
    assert row["case"] == "optim.Adam.step clipped regularized" and set(row["seconds"]) == {
        "native", "stream", "arithmetic"}
    assert row["bytes"] == 4 * 1000 * (1 + 1 + 2 * 4)  # gradients twice; parameters, two moments and averages


@pytest.mark.parametrize(("shape", "passes"), [((40, 30), 2 + 3), ((10, 16, 5, 7), 2 + 3)])
def test_a_block_is_measured(shape, passes):
    (row,) = measure.measure(BlockContest(shape), plan())
    assert row["shape"] == [*shape] and not row["refused"] and not row["left_out"]
    assert set(row["seconds"]) == {"native", "textbook", "stream", "arithmetic"}
    assert row["bytes"] == 4 * math.prod(shape) * passes
    assert row["data"] in ("L2", None)  # not every system tells its L2


def test_a_training_step_is_measured():
    (row,) = measure.measure(TINY, plan())
    assert row["shape"] == [32, 4, 64, 64, 2] and row["limits"] == ["matmul"] and not row["refused"]
    assert set(row["seconds"]) == {"native", "textbook", "matmul"}


@pytest.mark.parametrize("step", training.TRAINING_STEPS, ids=lambda step: step.name)
def test_the_products_are_those_of_the_step(step, monkeypatch):
    shapes = []
    params, x, y = TrainingContest(step).arguments()
    monkeypatch.setattr(np, "matmul", lambda a, b, out: shapes.append((a.shape[0], a.shape[1], b.shape[1])))
    step.products(params, x, y)()
    sizes = [step.inputs, *step.hidden, step.outputs]
    layers = list(zip(sizes, sizes[1:]))
    forward = [(step.batch, i, o) for i, o in layers]
    weights = [(o, step.batch, i) for i, o in layers]
    inputs = [(step.batch, o, i) for i, o in layers[1:]]
    assert sorted(shapes) == sorted(forward + weights + inputs)


def test_a_row_for_each_instruction_set_and_the_former_one_afterwards():
    before = native.isa()
    rows = measure.measure(KernelContest(find("dropout_forward p=0.2"), 1000, "float32"), plan(isas=native.isas()))
    assert [row["isa"] for row in rows] == native.isas()
    assert all(row["seconds"]["textbook"] == rows[0]["seconds"]["textbook"] for row in rows)
    assert native.isa() == before


def test_rivals_take_turns_in_changing_order():
    calls = []
    rivals = {name: (native.isa(), lambda name=name: calls.append(name)) for name in "abc"}
    seconds, quiet = take_turns(rivals, 0)
    assert [len(seconds[name]) for name in "abc"] == [MIN_ROUNDS] * 3
    assert all(quiet[name] == [True] * MIN_ROUNDS for name in "abc")
    turns = [b for a, b in zip([None, *calls], calls) if a != b]
    rounds = ["".join(turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert len(turns) <= 3 * (1 + MIN_ROUNDS) and len(set(rounds)) > 1


def test_a_rival_runs_on_its_own_instruction_set():
    seen = {isa: set() for isa in native.isas()}
    take_turns({isa: (isa, lambda isa=isa: seen[isa].add(native.isa())) for isa in seen}, 0)
    assert seen == {isa: {isa} for isa in native.isas()}


def test_who_is_alone_has_one_thread():
    native.set_num_threads(2)
    seen = {"a": set(), "b": set()}
    calls = {name: (native.isa(), lambda name=name: seen[name].add(native.get_num_threads())) for name in seen}
    take_turns(calls, 0, alone=["b"])
    assert seen == {"a": {2}, "b": {1}} and native.get_num_threads() == 2


def test_with_several_threads_one_is_measured_too():
    native.set_num_threads(2)
    rows = measure.measure(KernelContest(find("dropout_backward p=0.5"), 1000, "float32"), plan(isas=native.isas()))
    assert all(set(row["seconds"]) == {"native", "one thread", "textbook", "in_place", *row["limits"]} for row in rows)
    assert len({tuple(row["seconds"]["one thread"]) for row in rows}) == len(native.isas())
    (row,) = measure.measure(TINY, plan())
    assert "one thread" not in row["seconds"]  # for the threads of the matrix products would stay


def test_times_are_those_of_one_call(monkeypatch):
    monkeypatch.setattr(measure.time, "perf_counter", iter([10.0, 12.0]).__next__)
    calls = []
    assert measure._time(lambda: calls.append(1), 4) == 0.5
    assert len(calls) == 4


def test_load_is_there_while_measuring(monkeypatch):
    asked = []
    monkeypatch.setattr(measure, "busy", lambda n: asked.append(n) or busy.busy(0))
    measure.measure(KernelContest(find("dropout_backward p=0.5"), 100, "float32"), plan(busy=(0, 2)))
    assert asked == [0, 2]


def test_limits_are_streams_of_the_passes(monkeypatch):
    streamed = []
    monkeypatch.setattr(native, "stream", lambda *lists, **options: streamed.append((*map(len, lists), options)))
    monkeypatch.setattr(limits, "l2_bytes", lambda: 0)
    monkeypatch.setattr(batch_norm, "l2_bytes", lambda: 0)
    contest = KernelContest(find("batch_norm_backward NCHW"), 1000, "float32")
    for loop in contest.limits(contest.arguments()).values():
        loop()
    passes = [(2, 0, 0, {}), (2, 0, 1, {})]
    assert streamed == [*passes, passes[0], (2, 0, 1, {"nontemporal": True})]


class FakeProbe:
    """Says what it is told to: before a turn, then after it."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def quiet(self):
        return self.answers.pop(0)

    def wait(self, end):
        return self.answers.pop(0)


def test_a_turn_is_repeated_until_it_was_quiet(monkeypatch):
    monkeypatch.setattr(measure, "MAX_ROUNDS", 3)
    answers = [True, False, False, True, True, True] + [True, True] * 2
    _, quiet = take_turns({"a": (native.isa(), lambda: None)}, 1e9, probe=FakeProbe(*answers))
    assert quiet["a"] == [True] * 3


def test_waiting_for_quiet_has_an_end():
    _, quiet = take_turns({"a": (native.isa(), lambda: None)}, 0, probe=FakeProbe(*[False, True] * MIN_ROUNDS))
    assert quiet["a"] == [False] * MIN_ROUNDS


def test_a_probe_waits_no_longer_than_told():
    probe = Probe()
    probe._fastest = 0.0  # nothing is as fast as that
    assert not probe.quiet()
    assert not probe.wait(0.0)


@pytest.mark.parametrize("name", ["adam_step amsgrad", "batch_norm_backward NCHW", "dropout_forward p=0.5"])
def test_data_lie_in_the_smallest_cache_that_holds_all_arrays(monkeypatch, name):
    contest = KernelContest(find(name), 1000, "float32")
    arguments = contest.arguments()
    size = sum(array.nbytes for array in arrays(arguments))
    caches = {(size, 2 * size): "L2", (size - 1, size): "L3", (size - 2, size - 1): "DRAM", (size - 1, None): "DRAM",
              (None, size): "L3", (None, None): None}
    for (l2, l3), place in caches.items():
        monkeypatch.setattr(limits, "l2_bytes", lambda: l2)
        monkeypatch.setattr(limits, "l3_bytes", lambda: l3)
        assert contest.describe(arguments)["data"] == place


@pytest.mark.parametrize(("name", "floats"), [
    ("sgd_step momentum", 5), ("rmsprop_step", 5), ("adam_step", 7), ("adam_step amsgrad", 9),
    ("batch_norm_inference", 2), ("dropout_forward p=0.5", 2), ("dropout_backward p=0.5", 2),
])
def test_bytes_are_those_of_a_single_pass(name, floats):
    contest = KernelContest(find(name), 1024, "float32")
    assert contest.describe(contest.arguments())["bytes"] == 4 * 1024 * floats


@pytest.mark.parametrize(("name", "shape", "channel", "floats"), [
    ("batch_norm_forward NCHW", (4, 8, 16, 16), 2 * 4 * 256, (2, 3)),
    ("batch_norm_backward NCHW", (4, 8, 16, 16), 3 * 4 * 256, (3, 5)),
    ("batch_norm_forward NHWC", (4, 16, 16, 32), 2 * 4 * 256 * 16, (2, 3)),  # 16 channels a cache line
    ("batch_norm_backward", (1024, 32), 3 * 1024 * 16, (3, 5)),
])
def test_what_batch_norm_reads_twice_counts_once_where_a_channel_fits_in_l2(monkeypatch, name, shape, channel, floats):
    contest = KernelContest(find(name), shape, "float32")
    for l2, count in ((4 * channel, floats[0]), (4 * channel - 1, floats[1]), (None, floats[1])):
        monkeypatch.setattr(batch_norm, "l2_bytes", lambda: l2)
        assert contest.describe(contest.arguments())["bytes"] == 4 * np.prod(shape) * count


def test_arrays_that_are_measured_begin_at_places_of_their_own():
    arguments = find("adam_step amsgrad").arguments(3000, np.float64, np.random.default_rng(0))
    moved = places.apart(arguments)
    begins = {array.ctypes.data % 4096 for array in arrays(moved)}
    assert len(begins) == len(arrays(moved)) and all(begin % 64 == 0 for begin in begins)
    for name in ("params", "exp_avgs", "max_exp_avg_sqs"):
        np.testing.assert_array_equal(moved[name][0], arguments[name][0])
    assert moved["steps"].dtype == np.int64 and moved["lr"] == arguments["lr"]


# Whoever does other work is refused


def halved(results):
    """What an adapter altered on purpose gives: the last of its results is half of what it should be."""
    *_, name = results
    values = results[name]
    return results | {name: [value / 2 for value in values] if isinstance(values, list) else values / 2}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_kernels_rival_with_another_result_is_refused(monkeypatch, case, dtype):
    keeping = contests.keeping

    def altered(*args):
        rival = keeping(*args)
        return rival._replace(results=lambda: halved(rival.results()))

    monkeypatch.setattr(contests, "keeping", altered)
    (row,) = measure.measure(KernelContest(case, 1000, dtype), plan())
    assert set(row["refused"]) == {"textbook", "in_place"}
    assert set(row["seconds"]) == {"native", *row["limits"]}


@pytest.mark.parametrize(("alter", "message"), [
    (lambda results: {}, "gives no params"),
    (lambda results: results | {"params": []}, "params holds 0 arrays, not 1"),
    (lambda results: results | {"params": [results["params"][0][1:]]}, r"params has shape \(999,\), not \(1000,\)"),
    (lambda results: results | {"params": [results["params"][0].astype(float)]}, "params is float64, not float32"),
    (lambda results: results | {"params": [results["params"][0] * np.nan]}, "params is off by nan"),
    (lambda results: results | {"params": [results["params"][0] + 1e-4]}, "params is off by 0.0001"),
])
def test_why_a_rival_is_refused(monkeypatch, alter, message):
    keeping = contests.keeping

    def altered(*args):
        rival = keeping(*args)
        return rival._replace(results=lambda: alter(rival.results()))

    contest = KernelContest(find("adam_step"), 1000, "float32")
    contest.check("in_place", "in_place")
    monkeypatch.setattr(contests, "keeping", altered)
    with pytest.raises(Refused, match=message):
        contest.check("in_place", "in_place")


def test_a_rival_that_forgets_an_operation_is_refused(monkeypatch):
    def without_decay(**arguments):
        return step(**arguments | {"weight_decay": 0.0})

    step = adam.in_place_adam_step
    monkeypatch.setattr(adam, "in_place_adam_step", without_decay)
    (row,) = measure.measure(KernelContest(find("adam_step adamw"), 1000, "float32"), plan())
    assert set(row["refused"]) == {"in_place"} and "in_place" not in row["seconds"]
    assert "params is off by" in row["refused"]["in_place"]


@pytest.mark.parametrize(("name", "message"), [
    ("y", "y is off by"), ("grad_x", "grad_x is off by"), ("grad_weight", "grad_weight is off by"),
    ("grad_bias", "grad_bias is off by"), ("running_mean", "running_mean is off by"),
    ("running_var", "running_var is off by"),
])
def test_a_block_with_another_result_is_refused(monkeypatch, name, message):
    layers = BlockContest._layers

    def altered(self, *args, **arguments):
        rival = layers(self, *args, **arguments)
        return rival._replace(results=lambda: {**rival.results(), name: rival.results()[name] / 2})

    monkeypatch.setattr(BlockContest, "_layers", altered)
    (row,) = measure.measure(BlockContest((100, 50)), plan())
    assert message in row["refused"]["textbook"] and "textbook" not in row["seconds"]


@pytest.mark.parametrize(("forward", "backward", "message"), [
    (0.0, True, "of 158 elements, not about 126"),
    (0.6, True, "of 158 elements, not about 126"),
    (0.2, False, "grad_x is off by"),
])
def test_a_block_with_other_dropout_is_refused(monkeypatch, forward, backward, message):
    class Altered(nn.Dropout):
        def forward(self, x):
            own, self.p = self.p, self.p and forward
            y, self.p = super().forward(x), own
            return y

        def backward(self, grad_y, accumulate=False):
            return super().backward(grad_y, accumulate) if backward or not self.p else grad_y

    monkeypatch.setattr(contests.nn, "Dropout", Altered)
    (row,) = measure.measure(BlockContest((100, 50)), plan())
    assert message in row["refused"]["textbook"]


@pytest.mark.parametrize("other", [{"lr": 2e-3}, {"eps": 1e-2}])
def test_another_training_step_is_refused(monkeypatch, other):
    ours = training.TrainingStep.ours

    def altered(self, params, x, y, backend):
        changed = replace(self, **other) if backend is textbook else self
        return ours(changed, params, x, y, backend)

    monkeypatch.setattr(training.TrainingStep, "ours", altered)
    (row,) = measure.measure(TINY, plan())
    assert "loss is off by" in row["refused"]["textbook"] and "textbook" not in row["seconds"]


@pytest.mark.parametrize("dropout", [0.0, 0.05, 0.6])
def test_a_training_step_with_other_dropout_is_refused(monkeypatch, dropout):
    ours = training.TrainingStep.ours

    def altered(self, params, x, y, backend):
        changed = replace(self, dropout=dropout) if backend is textbook and self.dropout else self
        return ours(changed, params, x, y, backend)

    monkeypatch.setattr(training.TrainingStep, "ours", altered)
    (row,) = measure.measure(TINY, plan())
    assert "under dropout" in row["refused"]["textbook"]


def test_a_rival_that_works_once_is_refused(monkeypatch):
    forward = batch_norm.in_place_batch_norm_forward

    def lazy(**arguments):
        step, done = forward(**arguments), []

        def run():
            done[:] = done or [step()]
            return done[0]
        return run

    monkeypatch.setattr(batch_norm, "in_place_batch_norm_forward", lazy)
    (row,) = measure.measure(KernelContest(find("batch_norm_forward"), 1000, "float32"), plan())
    assert "running_mean is off by" in row["refused"]["in_place"]


@pytest.mark.parametrize(("keep", "message"), [
    (lambda n: np.random.default_rng(0).random(n) < 0.8, "drops the same elements again"),
    (lambda n: np.arange(n) < 0.8 * n, "keeps 625 of 625"),
])
def test_dropout_without_chance_is_refused(monkeypatch, keep, message):
    def draw(x, *, p, **rest):
        mask = keep(x.size)
        return x * mask / np.float32(1 - p), mask

    monkeypatch.setattr(dropout, "textbook_dropout_forward", draw)
    (row,) = measure.measure(KernelContest(find("dropout_forward p=0.2"), 10_000, "float32"), plan())
    assert message in row["refused"]["textbook"]


def test_a_rival_that_steps_one_of_many_tensors_is_refused(monkeypatch):
    step = adam.textbook_adam_step
    monkeypatch.setattr(adam, "textbook_adam_step", lambda **arguments: step(
        **arguments | {"params": arguments["params"][:1], "grads": arguments["grads"][:1]}))
    (row,) = measure.measure(SmallTensorsContest(find("adam_step"), 16, "float32"), plan())
    assert "textbook" in row["refused"]


def test_dropout_that_keeps_too_many_is_refused(monkeypatch):
    forward = dropout.textbook_dropout_forward
    monkeypatch.setattr(dropout, "textbook_dropout_forward", lambda x, *, p, **rest: forward(x, p=p / 2, **rest))
    (row,) = measure.measure(KernelContest(find("dropout_forward p=0.2"), 10_000, "float32"), plan())
    assert "of 625 elements, not about 500" in row["refused"]["textbook"]


def test_a_rival_that_fails_is_left_out(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no such device\nsecond line")

    monkeypatch.setattr(dropout, "in_place_dropout_backward", fail)
    (row,) = measure.measure(KernelContest(find("dropout_backward p=0.5"), 1000, "float32"), plan())
    assert row["left_out"] == {"in_place": "failed: RuntimeError: no such device"}
    assert "in_place" not in row["seconds"]


# The measuring process and the load


def test_a_worker_keeps_to_its_threads_and_outlives_its_process():
    worker = Worker(2, ["sklearn"])
    contest = KernelContest(find("dropout_backward p=0.5"), 100, "float32")
    try:
        assert worker.versions["numpy"] == np.__version__
        (row,) = worker.measure(contest, plan())
        assert row["threads"] == 2 and "seconds" in row
        os.kill(worker._process.pid, signal.SIGKILL)
        (row,) = worker.measure(contest, plan())
        assert "killed" in row["error"] and row["case"] == "dropout_backward p=0.5" and row["shape"] == [100]
        assert "seconds" in worker.measure(contest, plan())[0]
    finally:
        worker.stop()
    assert not worker._process.is_alive()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the environment of a process from /proc")
def test_a_worker_tells_all_libraries_its_threads_and_malloc_to_keep_pages():
    worker = Worker(3, [])
    try:
        with open(f"/proc/{worker._process.pid}/environ") as file:
            environment = dict(line.split("=", 1) for line in file.read().split("\0") if line)
    finally:
        worker.stop()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC"):
        assert environment[name] == "3"
    assert "glibc.malloc.mmap_max=0" in environment["GLIBC_TUNABLES"]


def test_contests_are_known_again_in_another_process():
    contest = KernelContest(find("adam_step"), 100, "float32")
    assert pickle.loads(pickle.dumps(contest)) == contest
    assert hash(pickle.loads(pickle.dumps(contest))) == hash(contest)


def test_an_array_too_large_for_the_address_space_is_out_of_memory(monkeypatch):
    def fail(*args):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(places.mmap, "mmap", fail)
    rows = measure.measure(KernelContest(find("dropout_backward p=0.5"), 100, "float32"), plan(busy=(0, 1)))
    assert [(row["busy"], row["error"]) for row in rows] == [(0, "out of memory"), (1, "out of memory")]


def test_a_worker_shows_what_went_wrong_in_it():
    worker = Worker(1, [])
    try:
        with pytest.raises(RuntimeError, match="(?s)measuring dropout_backward p=0.5 failed.*'float99'"):
            worker.measure(KernelContest(find("dropout_backward p=0.5"), 100, "float99"), plan())
    finally:
        worker.stop()


def test_the_environment_of_a_worker_is_not_that_of_its_parent():
    before = dict(os.environ)
    Worker(1, []).stop()
    assert os.environ == before


def test_other_processes_are_busy_for_as_long_as_asked():
    with busy.busy(2) as hogs:
        assert [hog.poll() for hog in hogs] == [None, None]
    assert all(hog.poll() is not None for hog in hogs)


def test_a_busy_process_ends_when_nobody_wants_it_any_more():
    code = "import os; from numfuse.bench.busy import busy; busy(1).__enter__(); os._exit(0)"
    # It holds the other end of stderr: that this returns shows that it has gone.
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, timeout=60).returncode == 0


# The command


def test_quick_report_names_every_kernel(capsys, monkeypatch):
    monkeypatch.setattr(command, "QUICK_SIZES", (64,))
    assert bench("--quick") == 0
    out = capsys.readouterr().out
    assert native.isa() in out and np.__version__ in out and "optim.Adam.step" in out and "tiny" in out
    assert "BatchNorm ReLU Dropout" in out
    assert all(case.kernel in out for case in CASES)


def test_a_full_run_has_the_sizes_of_the_cases():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    work = command.contests(parser.parse_args(["--dtypes", "float32"]))
    sizes = {contest.size for contest in work if type(contest) is KernelContest and contest.case.name == "adam_step"}
    assert {1 << 10, 1 << 16, 1 << 26} <= sizes
    assert {contest.work.name for contest in work if isinstance(contest, TrainingContest)} >= {
        "tiny", "mlp", "wide", "tabular"}
    assert {contest.shape for contest in work if isinstance(contest, BlockContest)} >= {(128, 256), (1024, 512)}


def test_selection(tmp_path):
    rows = bench_rows(tmp_path, "dropout_backward", "sgd_step", "--sizes", "10,20",
                      "--dtypes", "float64,float32", "--isa", "all", "--threads", "1,2")
    cases = {case.name for case in CASES if case.kernel in ("dropout_backward", "sgd_step")}
    assert {row["case"] for row in rows} == cases | {"optim.SGD.step"}
    assert len(rows) == (5 * 2 + 2) * 2 * len(native.isas()) * 2
    assert {row["threads"] for row in rows} == {1, 2}


def test_all_but_large_arrays_are_measured_several_times_over(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "LARGE", 2000)
    rows = bench_rows(tmp_path, "dropout_backward", "--sizes", "1999,2000")
    assert [len(row["seconds"]["native"]) for row in rows] == [command.SWEEPS * MIN_ROUNDS, MIN_ROUNDS]


def test_threads_are_the_workers_alone(tmp_path):
    before = native.get_num_threads()
    rows = bench_rows(tmp_path, "dropout_backward", "--sizes", "10", "--threads", str(before + 1))
    assert {row["threads"] for row in rows} == {before + 1}
    assert native.get_num_threads() == before


@pytest.mark.parametrize("busy", ["1", "0,1", "1,0"])
def test_load_is_measured_beside_quiet(tmp_path, capsys, busy):
    rows = bench_rows(tmp_path, "dropout_backward", "--sizes", "100", "--busy", busy)
    assert [row["busy"] for row in rows] == [0, 1]
    assert "load" in capsys.readouterr().out


def test_missing_peers_are_named_before_anything_is_measured(capsys, monkeypatch):
    monkeypatch.setattr(command.peers, "NAMES", ["nosuchlibrary", "sklearn"])
    with pytest.raises(SystemExit):
        bench("dropout_backward", "--sizes", "10", "--peers", "sklearn,nosuchlibrary")
    wanted = 'nosuchlibrary is not installed: pip install "numfuse[peers]"'
    assert wanted in capsys.readouterr().err
    assert bench("dropout_backward", "--sizes", "10", "--peers", "all") == 0
    captured = capsys.readouterr()
    assert captured.err.startswith(f"numfuse: without nosuchlibrary: {wanted}\n")
    assert "scikit-learn took no part: has none of these operations" in captured.out


@pytest.mark.parametrize(("spinning", "slept"), [(0, 1), (3, 4), (1000, 50)])
def test_a_rest_ends_when_no_thread_computes(monkeypatch, spinning, slept):
    sleeps = []
    monkeypatch.setattr(measure, "time", types.SimpleNamespace(
        sleep=sleeps.append, perf_counter=lambda: sum(sleeps), process_time=lambda: sum(sleeps[:spinning])))
    measure._rest()
    assert len(sleeps) in (slept, slept + 1)  # a sum of thousandths may come short of the end


def test_quick_measures_one_case_of_each_kernel(monkeypatch):
    contests_of = {}
    for options in ([], ["--quick"]):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        args = parser.parse_args(options)
        args.dtypes = ["float32"]
        contests_of[len(options)] = command.contests(args)
    quick = [contest.case for contest in contests_of[1] if type(contest) is KernelContest]
    assert [case.kernel for case in quick[::2]] == [*dict.fromkeys(case.kernel for case in CASES)]
    assert len(contests_of[1]) < len(contests_of[0]) / 3


def test_quick_ends_in_time_and_names_what_it_had_no_time_for(tmp_path, capsys, monkeypatch):
    clock = iter([0.0, 0.0, 39.0, *[41.0] * 100])
    monkeypatch.setattr(command, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    rows = bench_rows(tmp_path, "dropout_backward", "--sizes", "64,128,256", "--quick")
    assert [row["shape"] for row in rows] == [[64], [128]]
    printed = " ".join(capsys.readouterr().out.split())
    assert "Quick: few rows and rounds, for a first look. All rows are measured without --quick. There was no time " \
        "for dropout_backward p=0.5 256 float32." in printed


def test_markdown(capsys):
    assert bench("dropout_forward", "--sizes", "64", "--markdown") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2
    assert len({line.count("|") for line in lines}) == 1


def test_a_saved_run_is_reported_and_drawn_without_measuring(tmp_path, capsys, monkeypatch):
    file, readme = tmp_path / "bench.json", tmp_path / "README.md"
    assert bench("dropout_backward", "--sizes", "64,128", "--json", str(file)) == 0
    printed = capsys.readouterr().out
    monkeypatch.setattr(command, "Worker", None)
    readme.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    assert bench("--from", str(file), "--update", str(readme), "--plot", str(tmp_path / "plots"),
                 "--html", str(tmp_path / "run.html")) == 0
    captured = capsys.readouterr()
    assert captured.out == printed
    assert "dropout_backward" in readme.read_text() and "old" not in readme.read_text()
    pictures = list((tmp_path / "plots").iterdir())
    assert {path.suffix for path in pictures} == {".png", ".svg"}
    assert all(str(path) in captured.err for path in [*pictures, tmp_path / "run.html"])
    assert "dropout_<wbr/>backward" in (tmp_path / "run.html").read_text()


def test_two_runs_are_compared(tmp_path, capsys):
    file = tmp_path / "bench.json"
    assert bench("dropout_backward", "--sizes", "64", "--json", str(file)) == 0
    capsys.readouterr()
    assert bench("--compare", str(file), str(file)) == 0
    assert "noise" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "message"), [
    (["adam"], "adam_step, adagrad_step, lion_step"),
    (["--isa", "sse9"], f"was 'sse9'; this CPU can run {', '.join(native.isas())} ('all' for each of these)"),
    (["--dtypes", "float32,float16"], "'float16' is none of float32, float64"),
    (["--sizes", "64,-1"], "'-1' is not an integer from 1"),
    (["--sizes", "64,"], "'' is not an integer from 1"),
    (["--sizes", str(2**51)], "from 1 to 2^50"),
    (["--threads", "1,0"], "'0' is not an integer from 1"),
    (["--busy", "0,-1"], "'-1' is not an integer from 1"),
    (["--peers", "torch,tensorflow"], "'tensorflow' is none of torch, jax"),
    (["--json", "no/such/folder/bench.json"], "there is no folder no/such/folder"),
    (["--json", "."], ". is a folder, not a file"),
    (["--html", "no/such/folder/bench.html"], "there is no folder no/such/folder"),
    (["--plot", "setup.py"], "cannot make the folder setup.py"),
    (["--busy", "100000"], "100000 is more than the"),
    (["--update", "pyproject.toml"], "pyproject.toml must have one line <!-- bench -->"),
    (["--update", "no.md"], "cannot read no.md: No such file"),
    (["--from", "no.json"], "cannot read no.json: No such file"),
    (["--from", "pyproject.toml"], "pyproject.toml is not a run of numfuse bench"),
    (["--compare", "no.json", "no.json"], "cannot read no.json: No such file"),
])
def test_bad_input_is_answered_with_what_is_valid(capsys, options, message, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    with pytest.raises(SystemExit) as exit:
        bench(*options)
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("options", "message"), [
    (["--from", "{}", "adam_step", "--quick"], "--from measures nothing and cannot be combined with KERNEL, --quick"),
    (["--from", "{}", "--json", "other.json"], "cannot be combined with --json"),
    (["training_step", "--dtypes", "float64"], "nothing to measure: blocks and training steps are float32 only"),
    (["--compare", "{}", "{}", "--markdown"], "--compare measures nothing and cannot be combined with --markdown"),
    (["--compare", "{}", "{}", "--html", "a.html"], "--compare measures nothing and cannot be combined with --html"),
])
def test_options_that_would_be_ignored_are_refused(tmp_path, capsys, options, message):
    results.save(tmp_path / "run.json", make_run(make_row()))
    assert bench(*(option.replace("{}", str(tmp_path / "run.json")) for option in options)) == 2
    assert message in capsys.readouterr().err


def test_a_peer_without_any_part_is_named(capsys):
    assert bench("dropout_backward", "--sizes", "10", "--peers", "sklearn") == 0
    assert "scikit-learn took no part: has none of these operations" in capsys.readouterr().out


def test_more_threads_than_the_pool_has(capsys):
    assert bench("adam_step", "--threads", "1,100000") == 2
    assert "--threads 100000: " in capsys.readouterr().err


def test_out_of_memory_is_a_row(tmp_path, capsys):
    rows = bench_rows(tmp_path, "dropout_backward", "--sizes", f"{2**50},64")
    assert rows[0]["error"] == "out of memory" and rows[0]["shape"] == [2**50]
    assert rows[1]["seconds"]["native"][0] > 0
    assert "out of memory" in capsys.readouterr().out


def test_what_was_measured_before_ctrl_c_is_reported_and_saved(monkeypatch, tmp_path, capsys):
    class Interrupted(Worker):
        def measure(self, contest, plan):
            if contest.size == 20:
                raise KeyboardInterrupt
            return super().measure(contest, plan)

    monkeypatch.setattr(command, "Worker", Interrupted)
    file = tmp_path / "bench.json"
    assert bench("dropout_backward", "--sizes", "10,20,30", "--json", str(file)) == 130
    assert [row["shape"] for row in results.load(file)["rows"]] == [[10]]
    captured = capsys.readouterr()
    assert "dropout_backward" in captured.out and "interrupted" in captured.err
    assert "Interrupted: not all was measured." in captured.out
    assert bench("--from", str(file)) == 0
    assert "Interrupted: not all was measured." in capsys.readouterr().out


def test_missing_rich_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "numfuse\[cli\]"'):
        bench("dropout_backward", "--sizes", "10")


@pytest.mark.parametrize("option", ["--plot", "--html"])
def test_missing_matplotlib_is_named_before_anything_is_measured(monkeypatch, tmp_path, option):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(command, "Worker", None)
    with pytest.raises(ModuleNotFoundError, match="matplotlib"):
        bench("dropout_backward", "--sizes", "10", option, str(tmp_path / "out"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_limits_of_every_case_can_be_timed_beyond_the_cache(case, monkeypatch):
    monkeypatch.setattr(limits, "l2_bytes", lambda: 0)
    contest = KernelContest(case, 1000, "float32")
    loops = contest.limits(contest.arguments())
    assert "stream" in loops
    for loop in loops.values():
        loop()
