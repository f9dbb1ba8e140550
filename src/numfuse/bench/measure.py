"""Timing that can be believed on a noisy machine: rivals take turns, and ratios are taken turn by turn."""

import functools
import gc
import itertools
import math
import time
from dataclasses import dataclass

import numpy as np

from .. import native
from .busy import busy
from .probe import Probe
from .results import ARITHMETIC, ONE_THREAD
from .rivals import Refused, Unsupported

MIN_ROUNDS, MAX_ROUNDS = 5, 200
TURN = 200e-6  # seconds a turn lasts at least: long against reading the clock
REST = 1e-3  # seconds in which all threads of the process together compute for less than a tenth of it
RESTLESS = 50e-3  # seconds after which no rest is waited for any more
PATIENCE = 0.8  # share of the budget in which turns wait for a quiet moment
LONG = 1e-3  # seconds of a call from which on a cache remembers little of the one before


@dataclass(frozen=True)
class Plan:
    """How to measure.

    isas : instruction sets, a row for each
    peers : names of installed peers
    busy : numbers of CPUs that other processes keep busy, a row for each
    budget : seconds a row
    seed : of the order of turns
    """

    isas: tuple
    peers: tuple
    busy: tuple
    budget: float
    seed: int = 0


def measure(contest, plan):
    """The rows of a contest, one for each load and instruction set; see `results` for what is in a row.

    Where there is no memory for the arrays there is one row with an "error".
    """
    row = {**contest.row, "threads": native.get_num_threads(), "refused": {}, "left_out": {}}
    rows = []
    for hogs in plan.busy:
        try:
            admitted, arguments = _admit(contest, plan.peers, row), contest.arguments()
            row |= contest.describe(arguments)
            rows += _race(contest, arguments, plan, admitted, row | {"busy": hogs})
        except MemoryError:
            rows += [row | {"busy": hogs, "isa": isa, "error": "out of memory"} for isa in plan.isas]
    return rows


def take_turns(calls, budget, seed=0, probe=None, alone=()):
    """Time some functions against each other, round by round, for about `budget` seconds.

    calls : {name: (instruction set, function without arguments)}
    probe : tells quiet moments; without one, all are. They are waited for during most of the budget.
    alone : the names of the functions for which numfuse has one thread only

    Before each turn on several threads all rest, until the threads of the rival before sleep: those of some
    libraries spin for milliseconds, on the CPU that others then want. The order changes from round to round. A turn of
    short calls begins with one that is not timed, so that the timed ones find in cache what fits there, and not what
    the rival before left behind.

    Returns ({name: list of the seconds per call, one a round}, {name: list of whether it was quiet}).
    """
    seconds, quiet = ({name: [] for name in calls} for _ in range(2))
    order = list(calls)
    shuffle = np.random.default_rng(seed).shuffle
    before, threads, collecting = native.isa(), native.get_num_threads(), gc.isenabled()
    gc.disable()
    try:
        repeats = {}
        for name, (isa, call) in calls.items():
            native.set_num_threads(1 if name in alone else threads)
            seconds_each, _ = _turn(isa, call, 1, True, None, 0.0, threads > 1)
            repeats[name] = math.ceil(TURN / (seconds_each + 1e-9))
        start = time.perf_counter()
        for done in range(MAX_ROUNDS):
            if done >= MIN_ROUNDS and time.perf_counter() > start + budget:
                break
            shuffle(order)
            for name in order:
                native.set_num_threads(1 if name in alone else threads)
                warm = not seconds[name] or seconds[name][-1] < LONG
                one, calm = _turn(*calls[name], repeats[name], warm, probe, start + PATIENCE * budget, threads > 1)
                seconds[name].append(one)
                quiet[name].append(calm)
    finally:
        native.use_isa(before)
        native.set_num_threads(threads)
        if collecting:
            gc.enable()
    return seconds, quiet


def _turn(isa, call, repeats, warm, probe, patience, rest):
    """(seconds per call, whether it was quiet before and after): of a quiet turn if there is one in time."""
    native.use_isa(isa)
    if rest:
        _rest()
    if warm:
        call()
    while True:
        quiet = probe is None or probe.wait(patience)
        seconds = _time(call, repeats)
        quiet = quiet and (probe is None or probe.quiet())
        if quiet or time.perf_counter() > patience:
            return seconds, quiet


def _rest():
    """Wait until no thread of this process computes."""
    end = time.perf_counter() + RESTLESS
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(REST)
        if time.process_time() - before < REST / 10:
            return


def _time(call, repeats):
    turn = itertools.repeat(None, repeats)
    start = time.perf_counter()
    for _ in turn:
        call()
    return (time.perf_counter() - start) / repeats


def _admit(contest, peers, row):
    """[(source, label)] of the rivals that do the same work. Why the others do not is noted in the row."""
    admitted = []
    for source in (*contest.in_numpy, *peers):
        labels, refused, left_out = _examine(contest.trial, source)
        admitted += [(source, label) for label in labels]
        row["refused"] |= refused
        row["left_out"] |= left_out
    return admitted


@functools.cache
def _examine(contest, source):
    """The labels of a source's rivals that do the same work, and why others do not: {label: text} twice."""
    labels, refused, left_out = [], {}, {}
    try:
        for label in contest.rivals(source, contest.arguments()):
            try:
                contest.check(source, label)
                labels.append(label)
            except Refused as reason:
                refused[label] = str(reason)
    except Unsupported as reason:
        left_out[source] = str(reason)
    except Exception as error:  # what other people's code cannot do must not end the run
        left_out[source] = _short(error)
    return labels, refused, left_out


def _race(contest, arguments, plan, admitted, row):
    """The rows of a contest under one load, one for each instruction set."""
    limits, ours = contest.limits(arguments), contest.ours(arguments)
    of_isa = {"native": ours}
    if row["threads"] > 1 and not contest.uses_blas:
        of_isa[ONE_THREAD] = ours
    in_l1 = {small.row["elements"]: small.ours(small.arguments()) for small in contest.in_l1(arguments)}
    with busy(row["busy"]):
        best = native.isa()
        others = limits | _rivals(contest, arguments, admitted, row)
        calls = {name: (best, call) for name, call in others.items()}
        calls |= {(isa, name): (isa, call) for isa in plan.isas for name, call in (of_isa | in_l1).items()}
        alone = {(isa, name) for isa in plan.isas for name in (ONE_THREAD, *in_l1)}
        probe = None if row["busy"] else _probe()
        seconds, quiet = take_turns(calls, plan.budget, plan.seed, probe, alone)
    rows = []
    for isa in plan.isas:
        labels = {name: (isa, name) for name in of_isa} | {name: name for name in others}
        measured = {"seconds": {name: seconds[label] for name, label in labels.items()},
                    "quiet": {name: quiet[label] for name, label in labels.items()}, "limits": list(limits)}
        if in_l1:
            (more, slow), (fewer, fast) = [(elements, seconds[isa, elements]) for elements in in_l1]
            share = row["elements"] / (more - fewer) / row["threads"]
            # A disturbed round may find the smaller one the slower.
            measured["seconds"][ARITHMETIC] = [max(a - b, a * 1e-3) * share for a, b in zip(slow, fast)]
            measured["quiet"][ARITHMETIC] = [min(pair) for pair in zip(*(quiet[isa, elements] for elements in in_l1))]
            measured["limits"].append(ARITHMETIC)
        rows.append(row | {"isa": isa} | measured)
    return rows


@functools.cache
def _probe():
    return Probe()


def _rivals(contest, arguments, admitted, row):
    """{label: call} of all that were admitted. Why one fails after all is noted in the row."""
    calls = {}
    for source in dict.fromkeys(source for source, _ in admitted):
        try:
            rivals = contest.rivals(source, arguments)
            for label in [label for other, label in admitted if other == source]:
                rivals[label].run()
                calls[label] = rivals[label].run
        except Exception as error:
            row["left_out"][source] = _short(error)
    return calls


def _short(error):
    lines = str(error).splitlines() or [""]
    return f"failed: {type(error).__name__}: {lines[0]}"[:200]
