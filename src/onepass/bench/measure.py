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
from .rivals import Refused, Unsupported

MIN_ROUNDS, MAX_ROUNDS = 5, 200
LAYOUTS = 3  # times that arrays are allocated anew: where they happen to lie changes speed by several percent
LARGE = 1 << 22  # elements from which on it does not
TURN = 200e-6  # seconds a turn lasts at least: long against reading the clock
LONG = 20e-3  # seconds of a call from which on no cache remembers the one before


@dataclass(frozen=True)
class Plan:
    """How to measure.

    isas : instruction sets, a row for each
    peers : names of installed peers
    busy : numbers of CPUs that other processes keep busy, a row for each
    budget : seconds a row
    """

    isas: tuple
    peers: tuple
    busy: tuple
    budget: float


def measure(contest, plan):
    """The rows of a contest, one for each load and instruction set; see `results` for what is in a row.

    Where there is no memory for the arrays there is one row with an "error".
    """
    row = {**contest.row, "threads": native.get_num_threads(), "busy": plan.busy[0], "isa": plan.isas[0],
           "refused": {}, "left_out": {}}
    try:
        admitted = _admit(contest, plan.peers, row)
        row |= contest.describe(contest.arguments())
        return [line for hogs in plan.busy for line in _race(contest, plan, admitted, row | {"busy": hogs})]
    except MemoryError:
        return [row | {"error": "out of memory"}]


def take_turns(calls, budget, seed=0):
    """Time some functions against each other, round by round, for about `budget` seconds.

    calls : {name: (instruction set, function without arguments)}

    The order changes from round to round. A turn begins with a call that is not timed, so that the
    timed ones find in cache what fits there, and not what the rival before left behind.

    Returns {name: list of the seconds per call, one a round}.
    """
    seconds = {name: [] for name in calls}
    order = list(calls)
    shuffle = np.random.default_rng(seed).shuffle
    before, collecting = native.isa(), gc.isenabled()
    gc.disable()
    try:
        repeats = {name: math.ceil(TURN / (_time(*call, 1) + 1e-9)) for name, call in calls.items()}
        end = time.perf_counter() + budget
        for done in range(MAX_ROUNDS):
            if done >= MIN_ROUNDS and time.perf_counter() > end:
                break
            shuffle(order)
            for name in order:
                warm = not seconds[name] or seconds[name][-1] < LONG
                seconds[name].append(_time(*calls[name], repeats[name], warm))
    finally:
        native.use_isa(before)
        if collecting:
            gc.enable()
    return seconds


def _time(isa, call, repeats, warm=True):
    native.use_isa(isa)
    if warm:
        call()
    turn = itertools.repeat(None, repeats)
    start = time.perf_counter()
    for _ in turn:
        call()
    return (time.perf_counter() - start) / repeats


def _admit(contest, peers, row):
    """[(source, label)] of the rivals that do the same work. Why the others do not is noted in the row."""
    admitted = []
    for source in (*contest.in_numpy, *peers):
        labels, refused, left_out = _verdict(contest.trial, source)
        admitted += [(source, label) for label in labels]
        row["refused"] |= refused
        row["left_out"] |= left_out
    return admitted


@functools.cache
def _verdict(contest, source):
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


def _race(contest, plan, admitted, row):
    """The rows of a contest under one load, one for each instruction set."""
    layouts = LAYOUTS if row["elements"] < LARGE else 1
    seconds = {}
    with busy(row["busy"]):
        for layout in range(layouts):
            calls = _calls(contest, plan, admitted, row)
            for name, values in take_turns(calls, plan.budget / layouts, seed=layout).items():
                seconds.setdefault(name, []).extend(values)
    rounds = max(map(len, seconds.values()))
    seconds = {name: values for name, values in seconds.items() if len(values) == rounds}
    ours = {isa: seconds.pop(isa) for isa in plan.isas}
    limits = [name for name in contest.limits(contest.arguments()) if name in seconds]
    return [row | {"isa": isa, "limits": limits, "seconds": {"native": ours[isa], **seconds}} for isa in plan.isas]


def _calls(contest, plan, admitted, row):
    """Whom to time, on new arrays: what `take_turns` takes."""
    arguments, best = contest.arguments(), native.isa()
    calls = {name: (best, call) for name, call in contest.limits(arguments).items()}
    ours = contest.ours(arguments)
    calls |= {isa: (isa, ours) for isa in plan.isas}
    for source in dict.fromkeys(source for source, _ in admitted):
        try:
            rivals = contest.rivals(source, arguments)
            for label in [label for other, label in admitted if other == source]:
                rivals[label].run()
                calls[label] = best, rivals[label].run
        except Exception as error:
            row["left_out"][source] = _short(error)
    return calls


def _short(error):
    lines = str(error).splitlines() or [""]
    return f"failed: {type(error).__name__}: {lines[0]}"[:200]
