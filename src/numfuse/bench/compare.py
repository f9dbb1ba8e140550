"""What changed in native between two runs, beyond noise.

Times of two runs cannot be compared: the machine, or what else runs on it, is another. Native is therefore
measured against yardsticks, the limits and rivals of the same row. The change of a row is the median over
its yardsticks of how much native's time, as a multiple of the yardstick's, has grown, or of two the smaller;
one yardstick that is fast today and slow tomorrow does not move it.

How much a row changes by chance is seen from the runs themselves: the rows of one case share their code, so
that what they differ in is noise. Rows for which the CPU was quiet have less of it than the others, and are
all that their case is judged by. The median of a case's rows comes first, as it is known best; then every
row that changed otherwise than its case.
"""

import math
from typing import NamedTuple

import numpy as np

from .results import ARITHMETIC, is_quiet, key, limits, loop, ratio, rivals
from .texts import few, label, percent_text, row_text

SIGMAS = 6  # of noise that a change must exceed; noise has outliers
# What the change of one row, quiet or not, and the median of any number, must exceed in any case.
ROW, FLOOR = {True: 0.17, False: 0.25}, 0.05
UNKNOWN = 0.05  # noise of a row where runs do not show it
NORMAL = 1.4826  # standard deviation of normal noise, by its median distance from the median
LEGEND = (
    "Change: of numfuse's time, measured with the rivals and limits of the same rows. Noise: up to which it "
    "may be chance. Of limit: the limit's time as a share of numfuse's, before and now, median of the rows."
)


class Change(NamedTuple):
    """One thing that takes another time than before.

    what : a case or a row; rows : how many rows it is the median of; factor : its new time by its old one;
    noise : a factor (above 1) up to which it could be chance; shares : native's share of the limit in the
    old and in the new run, or None
    """

    what: str
    rows: int
    factor: float
    noise: float
    shares: tuple


class _Pair(NamedTuple):
    """A row of both runs, the logarithm of its change, and whether both had quiet rounds enough."""

    old: dict
    new: dict
    shift: float
    quiet: bool


def compare(old, new):
    """The changes of native from one run to another, a list of `Change`: empty if all may be noise."""
    return _changes(_pairs(old, new))


def print_comparison(console, old, new):
    """Print what changed to a rich console. Returns the changes."""
    for line in _differences(old, new):
        console.print(line, style="yellow", highlight=False, markup=False)
    pairs = _pairs(old, new)
    changes = _changes(pairs)
    if changes:
        console.print(_table(changes))
        console.print(LEGEND, style="dim", highlight=False)
    for line in _summary(pairs, changes) + _missing(old, new):
        console.print(line, highlight=False, markup=False)
    return changes


def _pairs(old, new):
    """What both runs have measured on a quiet machine, with two yardsticks or more."""
    before, pairs = _measured(old), []
    for name, row in _measured(new).items():
        shifts = _shifts(before[name], row) if name in before else []
        if len(shifts) > 2:
            shift = float(np.median(shifts))
        elif len(shifts) == 2:  # one may have changed itself: what both show counts
            shift = min(shifts, key=abs) if shifts[0] * shifts[1] > 0 else 0.0
        else:
            continue
        pairs.append(_Pair(before[name], row, shift, is_quiet(before[name]) and is_quiet(row)))
    return pairs


def _shifts(old, new):
    """The logarithms of native's change, one by each yardstick. All of NumPy, of a peer, of streaming is one."""
    shifts = {}
    for name in (*limits(new), *rivals(new)):
        if name in old["seconds"] and name != ARITHMETIC:  # which is native's own
            source = "numpy" if name in ("textbook", "in_place") else name.split()[0]
            shifts.setdefault(source, []).append(math.log(ratio(old, name)[0] / ratio(new, name)[0]))
    if len(shifts) == 1:
        return next(iter(shifts.values()))
    return [float(np.median(forms)) for forms in shifts.values()]


def _measured(run):
    return {key(row): row for row in run["rows"] if not row["busy"] and "native" in row.get("seconds", {})}


def _changes(pairs):
    cases = {}
    for pair in pairs:
        cases.setdefault(pair.new["case"], []).append(pair)
    noise = {quiet: _noise(cases.values(), quiet) for quiet in (True, False)}
    everything = [pair.new for pair in pairs]
    changes = []
    for name, rows in cases.items():
        change = _judge(name, [pair for pair in rows if pair.quiet] or rows, noise)
        changes += change
        expected = math.log(change[0].factor) if change else 0.0
        for pair in rows if len(rows) > 1 else []:
            if abs(pair.shift - expected) > _limit([pair], noise):
                changes += _judge(row_text(pair.new, everything), [pair], noise)
    return sorted(changes, key=lambda change: -abs(math.log(change.factor)))


def _judge(what, rows, noise):
    """The change of some rows as a list of one, or of none if it may be noise."""
    shift, limit = float(np.median([pair.shift for pair in rows])), _limit(rows, noise)
    if abs(shift) <= limit:
        return []
    shares = []
    for side in ([pair.old for pair in rows], [pair.new for pair in rows]):
        known = [ratio(row, loop(row))[0] for row in side if loop(row)]
        shares.append(float(np.median(known)) if known else None)
    return [Change(what, len(rows), math.exp(shift), math.exp(limit), tuple(shares))]


def _noise(cases, quiet):
    """The standard deviation of the shift of a row, quiet or not, from how far rows are from their case's median."""
    distances = []
    for rows in cases:
        if len(rows) > 1:
            # The median of n values is closer to them than their true centre is.
            closer = math.sqrt(len(rows) / (len(rows) - 1))
            centre = np.median([pair.shift for pair in rows])
            distances += [closer * abs(pair.shift - centre) for pair in rows if pair.quiet == quiet]
    if not distances:  # no case has two rows
        return UNKNOWN
    return NORMAL * float(np.median(distances))


def _limit(rows, noise):
    """How large the logarithm of the median change of some rows may be by chance."""
    quiet = rows[0].quiet
    return max(FLOOR, max(ROW[quiet], SIGMAS * noise[quiet]) / math.sqrt(len(rows)))


def _differences(old, new):
    """What makes the runs hard to compare: another machine, other versions."""
    lines = []
    for part, what in (("machine", "machine"), ("versions", "version of")):
        for name in {**old[part], **new[part]}:
            before, after = (str(run[part].get(name, "none")) for run in (old, new))
            if before != after:
                lines.append(f"Different {what} {name}: {before}, now {after}.")
    return lines


def _summary(pairs, changes):
    if not pairs:
        return ["Nothing to compare: the runs have no row in common that both have measured beside two others."]
    largest = max(pairs, key=lambda pair: abs(pair.shift))
    text = row_text(largest.new, [pair.new for pair in pairs])
    lines = [] if changes else ["Nothing changed beyond noise."]
    return lines + [f"{len(pairs)} rows compared; the largest change of a single one is "
                    f"{_percent(math.exp(largest.shift))} ({text})."]


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
    table.add_column(label("native"))
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
