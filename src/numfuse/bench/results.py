"""The data of a run of `numfuse bench`: reading and writing it, and every number derived from it.

A run is a dict: what was measured on (`machine`, `versions`), how (`command`), which peers took no part
and why (`left_out`), and `rows`. A row is one case of one shape: `seconds` holds, for each rival and each
limit, the seconds per call of every round; round i of all was measured side by side. `quiet` says of each
whether the CPU was seen to do nothing else. The limits are plain loops over the same memory ("stream"), the
kernel's own arithmetic where its arrays lie in the L1 cache ("arithmetic"), and for a training step its matrix
products alone ("matmul"). `data` says where the arrays lie. "one thread" is native on one where there are several.
A row that could not be measured has an `error` and no `seconds`.
"""

import json
import math

import numpy as np

from ..files import replacing

FORMAT = 1
ENOUGH, RELIABLE = 5, 20  # quiet rounds, for the others to be left out, and for the row not to be called rough
ONE_THREAD = "one thread"
ARITHMETIC, PRODUCTS = "arithmetic", "matmul"
KNOWN = 1.05  # share of a limit above which it is none
ONE_GROUP = "one group"  # an optimizer's step with all parameters in a single group
RIVALS = ["textbook", "in_place", "torch", "torch foreach", "torch fused", "jax", "numba", "sklearn", ONE_GROUP]
_RUN = {"numfuse_bench": int, "machine": dict, "versions": dict, "command": str, "left_out": dict,
        "rows": list}
_ROW = {"case": str, "group": str, "shape": list, "elements": int, "dtype": str, "threads": int, "busy": int,
        "isa": str}


def load(path):
    """Read the run in a JSON file. ValueError for a file that `save` has not written."""
    with open(path, "rb") as file:
        try:
            run = json.load(file)
            _check(run)
        except ValueError as error:
            raise ValueError(f"{path} is not a run of numfuse bench: {error}") from error
    return run


def save(path, run):
    """Write a run as JSON with one row a line, and seconds to 4 significant digits."""
    head = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in run.items() if name != "rows"]
    rows = ",\n".join(json.dumps(rounded(row)) for row in run["rows"])
    text = "{\n" + ",\n".join([*head, f'"rows": [\n{rows}\n]']) + "\n}\n"
    with replacing(path) as file:
        file.write(text.encode())


def rounded(row):
    """The row as it is saved, with seconds to 4 significant digits and 1 for a quiet round."""
    if "seconds" not in row:
        return row
    seconds = {name: [float(f"{value:.4g}") for value in rounds] for name, rounds in row["seconds"].items()}
    quiet = {name: [int(value) for value in rounds] for name, rounds in row["quiet"].items()}
    return row | {"seconds": seconds, "quiet": quiet}


def key(row):
    """What a row has in common with the row of the same thing in another run."""
    return (row["case"], tuple(row["shape"]), *(row[name] for name in ("dtype", "threads", "busy", "isa")))


def add(rows, more):
    """Add rows to a list in place; the rounds of a row that is there already are added to its own."""
    there = {key(row): row for row in rows}
    for row in more:
        known = there.get(key(row))
        if known is None:
            rows.append(row)
        else:
            merged = {kind: {**known[kind], **row[kind]} for kind in ("refused", "left_out")}
            if "seconds" in row and "seconds" in known:
                both = [name for name in known["seconds"] if name in row["seconds"]]
                for kind in ("seconds", "quiet"):
                    merged[kind] = {name: known[kind][name] + row[kind][name] for name in both}
                merged["limits"] = [name for name in known["limits"] if name in both]
            known.update(merged)  # at once, for an interruption may come at any time


def limits(row):
    """The names of the row's limits."""
    return [name for name in row.get("limits", []) if name in row.get("seconds", {})]


def rivals(*rows):
    """The names of all others that were measured beside native, limits excepted, in the order of `RIVALS`."""
    names = dict.fromkeys(name for row in rows for name in row.get("seconds", {}) if name not in limits(row))
    others = [name for name in names if name not in ("native", ONE_THREAD)]
    return sorted(others, key=lambda name: RIVALS.index(name) if name in RIVALS else len(RIVALS))


def is_quiet(row):
    """Whether native had the CPU for itself in so many rounds that their median is to be relied upon."""
    return sum(row["quiet"]["native"]) >= RELIABLE


def rounds(row, *names):
    """The seconds of some rivals, (names, rounds): of the rounds in which all had the CPU for themselves.

    Of all rounds where these are too few, as they are for what takes longer than a CPU stays quiet.
    """
    seconds = np.array([row["seconds"][name] for name in names])
    quiet = np.all([row["quiet"][name] for name in names], axis=0)
    return seconds[:, quiet] if np.count_nonzero(quiet) >= ENOUGH else seconds


def median(row, rival):
    """Seconds per call, or None where the rival was not measured.

    Those of another than native follow from native's and the ratio, so that times and ratios agree.
    """
    if not _has(row, rival, "native"):
        return None
    native = float(np.median(rounds(row, "native")))
    return native if rival == "native" else native * ratio(row, rival)[0]


def spread(row):
    """Half the distance between the quartiles of native's seconds, as a share of their median, or None."""
    if not _has(row, "native"):
        return None
    low, high = np.quantile(rounds(row, "native"), [0.25, 0.75])
    return float(high - low) / 2 / median(row, "native")


def ratio(row, rival, to="native"):
    """How many times the seconds of `to` the rival takes, round by round: (median, lower, upper quartile).

    None where either was not measured.
    """
    if not _has(row, rival, to):
        return None
    seconds, others = rounds(row, rival, to)
    return tuple(np.quantile(seconds / others, [0.5, 0.25, 0.75]).tolist())


def loop(row):
    """The name of the fastest plain loop over the row's memory, or of a training step's products, or None."""
    loops = [name for name in limits(row) if name != ARITHMETIC]
    return min(loops, key=lambda name: median(row, name), default=None)


def limit(row):
    """The name of the limit that binds the row, the slower of memory and arithmetic, or None."""
    binding = [name for name in limits(row) if name in (loop(row), ARITHMETIC)]
    return max(binding, key=lambda name: median(row, name), default=None)


def share_of_limit(row):
    """The time of the limit that binds the row as a share of native's; None where either was not measured."""
    share = ratio(row, limit(row))
    return share and share[0]


def data(row):
    """Where the row's arrays lie: "L2", "L3", "DRAM", or None if unknown."""
    old = {True: "L2", False: "beyond L2"}.get(row.get("hot"))  # of runs before L3 was told from DRAM
    return row.get("data", old)


def _has(row, *names):
    return all(name in row.get("seconds", {}) for name in names)


def _check(run):
    _check_types("it", run, _RUN)
    if run["numfuse_bench"] != FORMAT:
        raise ValueError(f"its format is {run['numfuse_bench']}, and this version reads {FORMAT}")
    for number, row in enumerate(run["rows"], start=1):
        _check_types(f"row {number}", row, _ROW)
        if "error" not in row:
            _check_types(f"row {number}", row, {"seconds": dict, "quiet": dict, "limits": list})
            _check_rounds(f"row {number}", row["seconds"], row["quiet"])


def _check_types(what, value, types):
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")
    for name, kind in types.items():
        if name not in value:
            raise ValueError(f"{what} has no {name!r}")
        if not isinstance(value[name], kind):
            raise ValueError(f"{name!r} of {what} is {value[name]!r:.40}, not of type {kind.__name__}")


def _check_rounds(what, seconds, quiet):
    for name, rounds in seconds.items():
        good = isinstance(rounds, list) and all(
            isinstance(value, (int, float)) and 0 < value < math.inf for value in rounds)
        if not (good and rounds):
            raise ValueError(f"the seconds of {name!r} of {what} are not a list of positive numbers")
    lengths = {len(rounds) for kind in (seconds, quiet) for rounds in kind.values()}
    if len(lengths) > 1 or quiet.keys() != seconds.keys():
        raise ValueError(f"not all seconds of {what} have the same number of rounds")
