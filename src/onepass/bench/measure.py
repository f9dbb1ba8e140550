"""Timing that can be believed on a noisy machine: rivals take turns, and ratios are taken turn by turn."""

import math
import platform
import time
from functools import partial
from pathlib import Path

import numpy as np

from .. import __version__, native, optim
from . import cases

MIN_ROUNDS, MAX_ROUNDS = 5, 500
TURN = 200e-6  # seconds a turn lasts at least: long against reading the clock


def take_turns(rivals, budget):
    """Time some functions against each other, round by round, for about `budget` seconds.

    rivals : {name: (instruction set, function without arguments)}

    A rival's turn begins with a call that is not timed, so that the timed ones find in cache what
    fits there, and not what the rival before left behind.

    Returns {name: array of the seconds per call, one a round}.
    """
    seconds = {name: [] for name in rivals}
    repeats = {}
    for name, (isa, call) in rivals.items():
        native.use_isa(isa)
        call()
        start = time.perf_counter()
        call()
        repeats[name] = math.ceil(TURN / (time.perf_counter() - start + 1e-9))
    end = time.perf_counter() + budget
    for done in range(MAX_ROUNDS):
        if done >= MIN_ROUNDS and time.perf_counter() > end:
            break
        for name, (isa, call) in rivals.items():
            native.use_isa(isa)
            call()
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            seconds[name].append((time.perf_counter() - start) / repeats[name])
    return {name: np.array(values) for name, values in seconds.items()}


def measure(case, size, dtype, isas, budget):
    """Rows of the report, one per instruction set: the kernel of `case` against its rivals.

    A row is a dict. `textbook`, `in_place`, `native` and `stream` are the medians of the seconds
    per call; `speedup_textbook`, `speedup_in_place` and `share_of_streaming` are medians of the
    ratios to native, taken round by round. `hot` says whether the case's arrays fit in the L2
    cache together, and is None where its size is unknown. A size for which there is no memory
    gives one row with an `error`.
    """
    row = {"case": case.name, "dtype": np.dtype(dtype).name, "threads": native.get_num_threads()}
    try:
        arguments = case.steady_arguments(size, dtype, np.random.default_rng(0))
        cache = l2_bytes()
        first = cases.arrays(arguments)[0]
        row["shape"] = list(first.shape)
        row["hot"] = cache and sum(array.nbytes for array in cases.arrays(arguments)) <= cache
        rivals = _numpy_rivals(case, arguments)
        streams = [_ones(first.size, dtype, count) for count in (case.reads, case.updates, case.writes)]
        rivals["stream"] = native.isa(), partial(native.stream, *streams)
        for isa in isas:
            rivals[isa] = isa, partial(getattr(native, case.kernel), **arguments)
        return _rows(row, isas, _restoring_isa(take_turns, rivals, budget))
    except MemoryError:
        return [{**row, "shape": [size], "isa": isas[0], "error": "out of memory"}]


def measure_overhead(isas, budget):
    """The rows of an Adam step over ten tensors of 16 elements: what calling costs, not computing."""
    case = cases.find("adam_step")
    rng = np.random.default_rng(0)
    arguments = cases.merge([case.steady_arguments(16, np.float32, rng) for _ in range(10)])
    optimizer = optim.Adam(arguments["params"], lr=arguments["lr"])
    rivals = _numpy_rivals(case, arguments)
    for isa in isas:
        rivals[isa] = isa, partial(optimizer.step, arguments["grads"])
    row = {"case": "optim.Adam.step", "shape": [10, 16], "dtype": "float32", "hot": True,
           "threads": native.get_num_threads()}
    return _rows(row, isas, _restoring_isa(take_turns, rivals, budget))


def machine():
    """What a reader must know of the machine to judge the numbers, as a dict."""
    return {
        "cpu": _cpu(),
        "l2_bytes": l2_bytes(),
        "isas": native.isas(),
        "isa": native.isa(),
        "threads": native.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "onepass": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def l2_bytes():
    """The size of one CPU's level 2 cache in bytes, or None where the system does not say (Linux does)."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (index / "level").read_text().strip() == "2":
            return int((index / "size").read_text().strip().removesuffix("K")) * 1024
    return None


def _numpy_rivals(case, arguments):
    rivals = {}
    for name in ("textbook", "in_place"):
        # The arrays are shared, so that all rivals find the same memory; the lists are not, since
        # the textbook puts new arrays into them.
        own = {key: list(value) if isinstance(value, list) else value for key, value in arguments.items()}
        rivals[name] = native.isa(), getattr(case, name)(own)
    return rivals


def _ones(size, dtype, count):
    # Pages never written to are all one page of zeros, faster to read than any memory.
    return [np.ones(size, dtype=dtype) for _ in range(count)]


def _restoring_isa(call, *args):
    before = native.isa()
    try:
        return call(*args)
    finally:
        native.use_isa(before)


def _rows(row, isas, seconds):
    rows = []
    for isa in isas:
        times = {**seconds, "native": seconds[isa]}
        rivals = [name for name in ("textbook", "in_place", "native", "stream") if name in times]
        ratio = {name: float(np.median(times[name] / times["native"])) for name in rivals}
        rows.append({
            **row,
            "isa": isa,
            "rounds": len(times["native"]),
            **{name: float(np.median(times[name])) for name in rivals},
            "speedup_textbook": ratio["textbook"],
            "speedup_in_place": ratio["in_place"],
            "share_of_streaming": ratio.get("stream"),
        })
    return rows


def _cpu():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
