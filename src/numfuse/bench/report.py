"""A run as tables on the terminal, and as Markdown."""

import textwrap
from pathlib import Path

from ..files import replacing
from .columns import CLOSEST, choose, is_ahead
from .results import ONE_GROUP, ONE_THREAD, data, is_quiet, key, median, ratio, rivals, spread
from .summary import summary
from .texts import (
    NAMES,
    few,
    fixed,
    label,
    limit_text,
    machine_line,
    ordered,
    percent_text,
    ratio_text,
    row_text,
    shape_text,
    time_text,
)

GROUPS = ["optimizers", "batch norm", "dropout", "fused", "activations", "losses", "training steps"]
LEFT = ("case", "shape", "dtype", "isa", "data")  # columns of words
OURS = label("native")
LOADED, OF_ONE = "Under load", f"{OURS} of one thread"
ERROR_WIDTH = 16  # an error stands in our column, in as many lines as it takes
ROUGH, SMALL, BLOCK = "~", "optim", "BatchNorm ReLU Dropout"
LEGEND = {
    "NumPy": "the formula as the paper has it, in NumPy with temporary arrays; time per call",
    OURS: "the C kernels; time per call, and for a training step the layers and the optimizer on them",
    "+-": "half the distance between the quartiles of numfuse's rounds, as a share of their median",
    ROUGH: "something else used the CPU in nearly all rounds, so that the row is rough",
    SMALL: "a whole step of the optimizer class over ten tensors of 16 or 1000 elements",
    BLOCK: "a Sequential of these layers, forward and backward of a given gradient; PyTorch's modules with autograd",
    "vs": "time of that rival divided by numfuse's: above 1x numfuse is faster",
    ONE_THREAD: "numfuse on one thread",
    ONE_GROUP: "the same arrays in a single parameter group, against `decay_groups`",
    "in place": "NumPy with out= and scratch arrays",
    "foreach": "PyTorch's optimizer with foreach=True; fused, with fused=True",
    "of limit": "a time that cannot be saved, divided by numfuse's: of a plain loop that reads and writes the same "
                "bytes (L2, L3, DRAM: where the arrays lie); or, if longer, of the kernel's own arithmetic, as it "
                "takes in the L1 cache; for a training step, of its matrix products. Not known: numfuse is over 5%"
                " faster",
    "data": "the first of L2, L3 and DRAM in which all arrays of the row fit",
}
MARKERS = "<!-- bench -->", "<!-- /bench -->"


def print_report(console, run):
    """Print machine, tables, legend and what was left out to a rich console."""
    narrowed = {}
    for line in describe(run):
        console.print(line, highlight=False, markup=False)
    for title, columns in tables(run):
        chosen, left_out = choose(columns, console.width, _width)
        narrowed |= dict.fromkeys(left_out)
        console.print(f"\n[bold]{title}[/bold]")
        console.print(_grid(chosen))
    lines = notes(run)
    if narrowed:
        lines.append(f"Too wide for this terminal: {', '.join(narrowed)}. {CLOSEST.capitalize()}: the fastest one, of "
                     "all. A wider terminal, --html FILE or --markdown shows every column.")
    for line in lines:
        console.print(line, style="dim", highlight=False, markup=False)


def markdown(run):
    """The same as Markdown."""
    parts = ["  \n".join(describe(run))]
    for title, columns in tables(run):
        rule = ["---" if heading in LEFT else "---:" for heading in columns]
        lines = [columns, rule, *zip(*columns.values())]
        lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
        parts += [f"**{title}**", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    parts.append("\n".join(f"- {note}" for note in notes(run)))
    return "\n\n".join(parts) + "\n"


def update_markdown(path, run):
    """Put a run between the comments <!-- bench --> and <!-- /bench --> of a Markdown file."""
    before, after = check_markers(path)
    with replacing(path) as file:
        file.write(f"{before}{MARKERS[0]}\n{markdown(run)}{MARKERS[1]}{after}".encode())


def check_markers(path):
    """What stands before and after the two comments of a Markdown file; ValueError if it has not one of each."""
    text = Path(path).read_bytes().decode()
    start, end = (text.find(marker) for marker in MARKERS)
    if start < 0 or end < start or any(text.count(marker) > 1 for marker in MARKERS):
        raise ValueError(f"{path} must have one line {MARKERS[0]} and below it one {MARKERS[1]}")
    return text[:start], text[end + len(MARKERS[1]):]


def describe(run):
    """Machine, versions, method, and what is the same in all rows, in a few lines."""
    machine, rows = run["machine"], run["rows"]
    cache = machine.get("l2_bytes")
    same = [fixed(rows, name) for name in ("isa", "dtype") if fixed(rows, name)]
    threads = fixed(rows, "threads")
    same += [f"{threads} thread{'s' * (threads != 1)}"] if threads else []
    rounds = {len(next(iter(row["seconds"].values()))) for row in rows if row.get("seconds")}
    rounds = sorted({min(rounds), max(rounds)}) if rounds else []
    lines = [
        machine_line(run),
        f"{machine.get('cpus', '?')} CPUs, L2 cache {f'{cache // 1024} KiB' if cache else 'of unknown size'}"
        f", instruction sets {' '.join(machine.get('isas', []))}",
        machine.get("memory", ""),
        f"Measured: {', '.join(same)}." if same else "",
        f"Rivals took turns, {' to '.join(map(str, rounds))} rounds a row: times, and ratios within a round, "
        "are given as medians, of the quiet rounds in rows without ~. Each rival's result was first found to be "
        "numfuse's, up to rounding and the choice of dropout's masks." if rounds else "",
        "Interrupted: not all was measured." if run.get("interrupted") else "",
        run.get("quick", ""),
        *summary(run),
        f"Reproduce with: {run['command']}",
    ]
    return [line for line in lines if line]


def tables(run):
    """Pairs of a title and {heading: texts of the column}: one for each group, one for rows under load."""
    rows = ordered(run["rows"])
    settings = [name for name in ("dtype", "isa", "threads") if fixed(rows, name) is None]
    quiet = [row for row in rows if not row["busy"]]
    found = []
    for group in dict.fromkeys([*GROUPS, *(row["group"] for row in quiet)]):
        of_group = [row for row in quiet if row["group"] == group]
        if of_group:
            found.append((group[0].upper() + group[1:], _columns(of_group, settings)))
    busy = [row for row in rows if row["busy"]]
    if busy:
        settings += ["busy"] * (fixed(busy, "busy") is None)
        found.append((LOADED, _load_columns(busy, quiet, settings)))
    return found


def _columns(rows, settings):
    columns = {"case": lambda row: row["case"], "shape": shape_text}
    columns |= {name: lambda row, name=name: str(row[name]) for name in settings}
    columns |= {
        "NumPy": lambda row: time_text(median(row, "textbook")),
        OURS: lambda row: row.get("error") or ROUGH * (not is_quiet(row)) + time_text(median(row, "native")),
        "+-": lambda row: percent_text(spread(row)),
    }
    for rival in (ONE_THREAD, *rivals(*rows)):
        columns[f"vs {label(rival)}"] = lambda row, rival=rival: ratio_text((ratio(row, rival) or [None])[0])
    columns["of limit"] = limit_text
    columns["data"] = lambda row: data(row) or ""
    return _filled(columns, rows)


def _load_columns(busy, quiet, settings):
    partners = {key(row): row for row in quiet}

    def slowdown(row, rival, to=None):
        alone, loaded = median(partners.get(key(row | {"busy": 0}), {}), to or rival), median(row, rival)
        return ratio_text(loaded / alone if loaded and alone else None)

    columns = {"case": lambda row: row["case"], "shape": shape_text}
    columns |= {name: lambda row, name=name: str(row[name]) for name in settings}
    columns[OURS] = lambda row: row.get("error") or slowdown(row, "native")
    columns[OF_ONE] = lambda row: slowdown(row, "native", to=ONE_THREAD)
    columns |= {label(rival): lambda row, rival=rival: slowdown(row, rival) for rival in rivals(*busy)}
    return _filled(columns, busy)


def _filled(columns, rows):
    filled = {heading: [text(row) for row in rows] for heading, text in columns.items()}
    return {heading: cells for heading, cells in filled.items() if any(cells)}


def _heading(heading):
    return "\n".join(heading.rsplit(" ", 1))


def _folded(heading, cell):
    return textwrap.fill(cell, ERROR_WIDTH) if heading == OURS else cell


def _width(heading, cells):
    texts = [_heading(heading), *(_folded(heading, cell) for cell in cells)]
    return max(len(line) for text in texts for line in text.split("\n"))


def _grid(columns):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for heading in columns:
        words = heading in LEFT
        grid.add_column(_heading(heading), justify="left" if words else "right", no_wrap=not words,
                        overflow="fold")
    for cells in zip(*columns.values()):
        grid.add_row(*(Text(_folded(*pair), style=_style(*pair)) for pair in zip(columns, cells)))
    return grid


def _style(heading, cell):
    return "red" if is_ahead(heading, cell) else "bold" if heading == OURS else ""


def notes(run):
    """The legend of the tables, and who was left out or refused: a list of lines."""
    return _legend(run) + _left_out(run)


def _legend(run):
    """One line for each kind of column that the tables have."""
    shown = dict(tables(run))
    loaded = shown.pop(LOADED, None)
    headings = {heading.removeprefix("vs ") for columns in shown.values() for heading in columns}
    headings |= {"vs", "foreach"} if "torch foreach" in headings else {"vs"}
    texts = [cell for columns in shown.values() for name in ("case", OURS) for cell in columns.get(name, [])]
    headings |= {mark for mark in (ROUGH, SMALL, BLOCK) if any(text.startswith(mark) for text in texts)}
    lines = [f"{name}: {text}." for name, text in LEGEND.items() if name in headings]
    if loaded:
        busy = sorted({row["busy"] for row in run["rows"]} - {0})
        lines.append(f"{LOADED}: each one's time with {' or '.join(map(str, busy))} of the CPUs kept busy by "
                     "another process, divided by its own time without.")
        if OF_ONE in loaded:
            lines.append(f"{OF_ONE}: numfuse's time with these threads and CPUs kept busy, divided by its time on one "
                         "thread without.")
    return lines


def _left_out(run):
    """Who was left out or refused, and why: a line for each rival and reason."""
    notes = [f"{NAMES.get(rival, rival)} took no part: {reason}" for rival, reason in run["left_out"].items()]
    refused, left_out = {}, {}
    for row in run["rows"]:
        for pair in row.get("refused", {}).items():
            refused.setdefault(pair, {})[row_text(row, run["rows"])] = None
        for pair in row.get("left_out", {}).items():
            left_out.setdefault(pair, {})[row["case"]] = None
    for cases, what in ((left_out, "is left out"), (refused, "was refused, and not timed")):
        notes += [f"{NAMES.get(rival, rival)} {what}: {reason} ({few(list(names))})"
                  for (rival, reason), names in cases.items()]
    return notes
