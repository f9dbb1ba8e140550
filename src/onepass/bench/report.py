"""The rows of `measure` as a terminal table, as Markdown and as JSON."""

import json

LEGEND = (
    "NumPy: the textbook expressions with their temporary arrays. In place: NumPy with out= and scratch. "
    "Of stream: the time that a plain loop over the same bytes takes, as a share of native's; more than 100 % is "
    "better than that loop. Data: whether "
    "the arrays fit together in the L2 cache, and are hot there. Times are medians of rounds in which the "
    "rivals took turns, and ratios are medians of the rounds' ratios."
)


LEFT = ("case", "shape", "dtype", "isa", "data")  # columns of words
DISPENSABLE = ("in place", "data")  # what a narrow terminal does without


def describe(machine, rows):
    """The machine, and what is the same in all rows, in a few lines of text."""
    cache = machine["l2_bytes"]
    return [
        f"onepass {machine['onepass']}, NumPy {machine['numpy']}, Python {machine['python']}, "
        f"{machine['system']}",
        f"{machine['cpu']}, L2 cache {f'{cache // 1024} KiB' if cache else 'of unknown size'}",
        f"instruction sets {' '.join(machine['isas'])}, measured: {_all(rows, 'isa')}; "
        f"kernel threads: {machine['threads']}; dtype: {_all(rows, 'dtype')}",
    ]


def table(rows):
    """Headings, and one list of texts for each row. What is the same in all rows has no column."""
    columns = {
        "case": lambda row: row["case"],
        "shape": lambda row: "x".join(map(str, row["shape"])),
        "dtype": lambda row: row["dtype"],
        "isa": lambda row: row["isa"],
        "NumPy": lambda row: row.get("error") or _time(row["textbook"]),
        "in place": lambda row: _time(row.get("in_place")),
        "native": lambda row: _time(row.get("native")),
        "vs NumPy": lambda row: _ratio(row.get("speedup_textbook")),
        "vs in place": lambda row: _ratio(row.get("speedup_in_place")),
        "of stream": lambda row: _percent(row.get("share_of_streaming")),
        "data": lambda row: {True: "hot", False: "beyond L2", None: ""}[row.get("hot")],
    }
    for name in ("dtype", "isa"):
        if len({row[name] for row in rows}) <= 1:
            del columns[name]
    return list(columns), [[text(row) for text in columns.values()] for row in rows]


def print_report(console, machine, rows):
    """Print machine, table and legend to a rich console."""
    from rich import box
    from rich.table import Table

    headings, body = table(rows)
    width = sum(1 + max(map(len, column)) for column in zip(headings, *body))
    left_out = DISPENSABLE if width > console.width else ()
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        words = heading in LEFT
        if heading not in left_out:
            grid.add_column(heading, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for cells in body:
        grid.add_row(*(cell for heading, cell in zip(headings, cells) if heading not in left_out))
    for line in describe(machine, rows):
        console.print(line, highlight=False, markup=False)
    console.print(grid)
    console.print(LEGEND, style="dim", highlight=False, markup=False)


def markdown(machine, rows):
    """The same as Markdown text."""
    headings, body = table(rows)
    lines = [[*headings], ["---" if heading in LEFT else "---:" for heading in headings], *body]
    grid = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return "\n\n".join(["  \n".join(describe(machine, rows)), grid, LEGEND]) + "\n"


def write_json(path, machine, rows):
    """Write {"machine": ..., "rows": [...]} to a file; times are in seconds."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"machine": machine, "rows": rows}, file, indent=1)
        file.write("\n")


def _all(rows, name):
    return " ".join(dict.fromkeys(row[name] for row in rows))


def _time(seconds):
    if seconds is None:
        return ""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us" if seconds < 999.5e-6 else "1 ms"
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"


def _ratio(ratio):
    return "" if ratio is None else f"{ratio:.3g}x" if ratio < 100 else f"{ratio:.0f}x"


def _percent(share):
    return "" if share is None else f"{share:.0%}"
