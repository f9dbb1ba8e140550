"""What changed in native between two runs, beyond noise.

Times of two runs cannot be compared: the machine, or what else runs on it, is another. Native is therefore
measured against yardsticks, the limits and rivals of the same row. The change of a row is the median over
its yardsticks of how much native's time, as a multiple of the yardstick's, has grown; one yardstick that
is fast today and slow tomorrow does not move it.

How much a row changes by chance is seen from the runs themselves: a changed kernel changes in all its rows,
so what the rows of one case differ in is noise. A change counts beyond SIGMAS times that noise, and beyond
a floor: any row may jump by 10 % in either run, with where its arrays happen to lie in memory, so that
one row alone says little. The median of several is what finds a kernel that was slowed by some percent.
Where the machine ran at another pace, as when the other half of its core was busy, all slow down, but not by
the same factor; as much as RESPONSE of the change of pace is then noise too.
"""

import math
from itertools import combinations
from typing import NamedTuple

import numpy as np

from .report import few, label, percent_text, row_text
from .results import MEDIAN_ERROR, NORMAL_IQR, key, limits, log_ratios, median, rivals, share_of_limit

FLOORS = {1: math.log(1.30), 2: math.log(1.15)}  # by the number of rows; FLOOR for more
FLOOR = math.log(1.05)
# Cases differ by more than their rows tell when the machine changes in the middle of a run, but also when
# many kernels were changed: their spread raises the floor, and no further than this.
HIGHEST_FLOOR = math.log(1.10)
SIGMAS, ROW_SIGMAS = 3, 4  # there are many more rows than cases, and the first of them to alarm counts
RESPONSE = 0.5
LEGEND = (
    "Change: of native's time, measured with the rivals and limits of the same rows. Noise: up to which it "
    "may be chance. Of limit: the limit's time as a share of native's, before and now, median of the rows."
)
NORMAL = 2 / NORMAL_IQR  # standard deviation of normal noise, by its median distance from the median


class Change(NamedTuple):
    """One thing that takes another time than before.

    what : a kernel, a case or a row; factor : its new time by its old one, measured with the yardsticks;
    noise : a factor (above 1) up to which it could be chance; rows : how many rows it is the median of;
    shares : native's share of the limit in the old and in the new run, or None
    """

    what: str
    factor: float
    noise: float
    rows: int
    shares: tuple


class _Pair(NamedTuple):
    """A row of both runs, and how the ratios of its `names`, yardsticks and native, have shifted."""

    old: dict
    new: dict
    names: list
    shifts: np.ndarray  # [i, j] is the new logarithm of the ratio of i to j, less the old one
    errors: np.ndarray
    paces: np.ndarray  # logarithms of the new times by the old


class _Row(NamedTuple):
    pair: _Pair
    shift: float  # logarithm of the factor
    error: float  # its standard error, as far as rounds and yardsticks tell
    pace: float  # logarithm of the yardsticks' new time by the old


def compare(old, new):
    """The changes of native from one run to another, a list of `Change`: empty if all may be noise."""
    pairs = _pairs(old, new)
    return _changes(_rows(pairs, _yardstick_changes(pairs)))


def print_comparison(console, old, new):
    """Print what changed to a rich console. Returns the changes of native."""
    from rich.markup import escape

    for line in _differences(old, new):
        console.print(f"[yellow]{escape(line)}[/yellow]", highlight=False)
    pairs = _pairs(old, new)
    yardsticks = _yardstick_changes(pairs)
    rows = _rows(pairs, yardsticks)
    changes = _changes(rows)
    for change in yardsticks:
        text = f"{label(change.what)} itself changed: {_percent(change.factor)} of time against the others."
        console.print(text, highlight=False, markup=False)
    if changes:
        console.print(_table(changes))
        console.print(LEGEND, style="dim", highlight=False)
    for line in _summary(rows, len(pairs), changes) + _missing(old, new):
        console.print(line, highlight=False, markup=False)
    return changes


def _pairs(old, new):
    """What both runs have measured on a quiet machine."""
    before = _measured(old)
    return [_pair(before[name], row) for name, row in _measured(new).items() if name in before]


def _measured(run):
    return {key(row): row for row in run["rows"] if not row["busy"] and "native" in row.get("seconds", {})}


def _pair(old, new):
    names = [name for name in ["native", *limits(old), *rivals(old)] if name in new["seconds"]]
    (before, old_errors), (after, new_errors) = (log_ratios(row, names) for row in (old, new))
    paces = np.log([median(new, name) / median(old, name) for name in names])
    return _Pair(old, new, names, after - before, np.hypot(old_errors, new_errors), paces)


def _yardstick_changes(pairs):
    """The rivals and limits that changed against most of them."""
    rows = {}
    for pair in pairs:
        for name in pair.names[1:] if len(pair.names) > 3 else ():  # of two none is the odd one out
            rows.setdefault(name, []).append(_row(pair, name, pair.names[1:]))
    changes = []
    for name, of_name in rows.items():
        changes += _judge(name, of_name, 0, HIGHEST_FLOOR, {})
    return changes


def _rows(pairs, yardstick_changes):
    """Native's shifts, by the yardsticks that did not change themselves where there are two of those."""
    changed = {change.what for change in yardstick_changes}
    rows = []
    for pair in pairs:
        steady = [name for name in pair.names[1:] if name not in changed]
        rows.append(_row(pair, "native", steady if len(steady) > 1 else pair.names[1:]))
    return [row for row in rows if row]


def _row(pair, name, yardsticks):
    if len(yardsticks) < 2:  # a single one may be what changed
        return None
    index = pair.names.index(name), [pair.names.index(yardstick) for yardstick in yardsticks]
    shifts = pair.shifts[index]
    shift = _median(shifts)
    disagreement = MEDIAN_ERROR * NORMAL * _median(np.abs(shifts - shift)) / math.sqrt(len(shifts))
    error = math.hypot(disagreement, _median(pair.errors[index]))
    return _Row(pair, shift, error, _median(pair.paces[index[1]]))


def _spread(groups):
    """The standard deviation of a row's shift, from what rows of the same group differ in."""
    differences = [abs(a.shift - b.shift) for rows in groups for a, b in combinations(rows, 2)]
    return NORMAL * float(np.median(differences)) / math.sqrt(2) if differences else 0.0


def _changes(rows):
    """Kernels that changed, then cases and rows that changed in another way than what they belong to."""
    by_case = _grouped(rows, lambda row: row.pair.new["case"])
    noise = _spread(by_case.values())
    floor = _floor(by_case.values())
    changes, known = [], {}
    for name, of_kernel in _grouped(rows, _kernel).items():
        if _is_whole(of_kernel):
            changes += _judge(f"{name}, all cases", of_kernel, noise, floor, known)
    for name, of_case in by_case.items():
        changes += _judge(name, of_case, noise, floor, known)
    everything = [row.pair.new for row in rows]
    for row in rows:
        changes += _judge(row_text(row.pair.new, everything), [row], noise, floor, known)
    return sorted(changes, key=lambda change: -abs(math.log(change.factor)))


def _is_whole(rows):
    """Whether several cases changed together: each by half of what all did at least."""
    shift = _median([row.shift for row in rows])
    cases = _grouped(rows, lambda row: row.pair.new["case"]).values()
    together = all(_median([row.shift for row in case]) * shift > 0.5 * shift**2 for case in cases)
    return together and len(cases) > 1


def _judge(what, rows, noise, floor, known):
    """The change of some rows in a list, or none if it may be noise.

    `known` has the logarithms of the changes that were found for rows before, and gets this one.
    """
    shift = _median([row.shift for row in rows])
    if len(rows) == 1:
        limit = ROW_SIGMAS * max(noise, rows[0].error)
    else:  # their own spread tells little if they are few, but a case may be noisier than others
        spread = max(noise, math.hypot(noise, _spread([rows])) / math.sqrt(2))
        limit = SIGMAS * MEDIAN_ERROR * spread / math.sqrt(len(rows))
    pace = _median([row.pace for row in rows])
    limit = math.hypot(max(FLOORS.get(len(rows), floor), limit), RESPONSE * pace)
    news = max(abs(shift - known.get(key(row.pair.new), 0)) for row in rows)
    if min(abs(shift), news) <= limit:
        return []
    known.update((key(row.pair.new), shift) for row in rows)
    shares = [_median([share_of_limit(row) for row in side]) for side in
              ([row.pair.old for row in rows], [row.pair.new for row in rows])]
    return [Change(what, math.exp(shift), math.exp(limit), len(rows), tuple(shares))]


def _floor(cases):
    """What a median of rows must exceed at least: more where unrelated cases move together."""
    medians = np.array([_median([row.shift for row in rows]) for rows in cases])
    spread = NORMAL * _median(np.abs(medians - np.median(medians))) if len(medians) else 0
    return min(max(FLOOR, SIGMAS * spread), HIGHEST_FLOOR)


def _kernel(row):
    new = row.pair.new
    if new["group"] == "training steps":
        return new["group"]
    return new["case"].split()[0].split(".")[0]  # optim.Adam.step shares its code with the other optimizers


def _median(values):
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _grouped(rows, group):
    groups = {}
    for row in rows:
        groups.setdefault(group(row), []).append(row)
    return groups


def _differences(old, new):
    """What makes the runs hard to compare: another machine, other versions."""
    lines = []
    for part, what in (("machine", "machine"), ("versions", "version of")):
        for name in {**old[part], **new[part]}:
            before, after = (str(run[part].get(name, "none")) for run in (old, new))
            if before != after:
                lines.append(f"Different {what} {name}: {before}, now {after}.")
    return lines


def _summary(rows, matched, changes):
    if not rows:
        return ["Nothing to compare: the runs have no row in common that both have measured."]
    largest = max(rows, key=lambda row: abs(row.shift))
    text = row_text(largest.pair.new, [row.pair.new for row in rows])
    lines = [] if changes else ["Nothing changed beyond noise."]
    lines.append(f"{len(rows)} rows compared; the largest change of a single one is "
                 f"{_percent(math.exp(largest.shift))} ({text}).")
    if matched > len(rows):
        lines.append(f"{matched - len(rows)} rows have less than two yardsticks and are not judged.")
    return lines


def _missing(old, new):
    """The rows that only one of the runs has, in a line for each run, and those that are not judged."""
    lines = []
    before, after = _measured(old), _measured(new)
    for what, these, others in (("old", before, after), ("new", after, before)):
        names = [row_text(row, [*these.values()]) for name, row in these.items() if name not in others]
        if names:
            lines.append(f"Measured in the {what} run alone ({len(names)}): {few(names)}.")
    busy = sum(row["busy"] > 0 for row in new["rows"])
    if busy:
        lines.append(f"{busy} rows under load are not judged: they depend on the other process.")
    return lines


def _table(changes):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("native")
    for heading in ("rows", "change", "noise", "of limit"):
        table.add_column(heading, justify="right")
    for change in changes:
        shares = " to ".join(map(percent_text, change.shares)) if None not in change.shares else ""
        table.add_row(Text(change.what), str(change.rows),
                      Text(_percent(change.factor), style="red" if change.factor > 1 else "green"),
                      f"+-{change.noise - 1:.0%}", shares)
    return table


def _percent(factor):
    return f"{factor - 1:+.0%}"
