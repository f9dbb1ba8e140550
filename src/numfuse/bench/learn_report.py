"""A run of `numfuse bench learn` as a table on the terminal, with what a reader must know to judge it."""

import math
import statistics

from .learn import EPS, LR, OURS, summary
from .texts import NAMES, fixed, machine_line, ratio_text, time_text

HEADINGS = "time", "least to most", "epochs", "vs\nnumfuse", "an\nepoch", "best"
DISPENSABLE = "least to most", "best", "epochs"  # what a narrow terminal does without, the first first
HOW = {
    OURS: "`train.fit`, an epoch a call like all",
    "torch": "a loop over batches of shuffled row numbers, tensors in memory, Adam with fused=True",
    "sklearn": "`MLPClassifier.partial_fit`; initial values of its own (Glorot and Bengio 2010), two "
               "classes as one logistic output; its checks of arguments are off",
    "keras": "`fit`; its backend may have one more thread that hands out work",
}


def print_report(console, run):
    """Print machine, table, legend and what was left out to a rich console."""
    for line in _head(run):
        console.print(line, highlight=False, markup=False)
    rows, dropped = [row for row in run["rows"] if row["runs"]], []
    if rows:
        while _width(console, table := _table(rows, dropped)) > console.width and len(dropped) < len(DISPENSABLE):
            dropped.append(DISPENSABLE[len(dropped)])
        console.print()
        console.print(table)
        console.print()
    if dropped:
        console.print(f"- Too wide for this terminal: {', '.join(dropped)}.", highlight=False, markup=False)
    for line in [*(_legend(run, rows) if rows else []), *_notes(run)]:
        console.print(f"- {line}", highlight=False, markup=False)


def _head(run):
    threads = fixed(run["rows"], "threads")
    yield machine_line(run)
    if threads:
        yield f"{run['machine']['cpus']} CPUs; {threads} thread{'s' * (threads != 1)} for every library."
    if run.get("interrupted"):
        yield "Interrupted: not all was measured."
    yield f"Reproduce with: {run['command']}"


def _width(console, table):
    """The columns of a terminal that the table would take."""
    return console.measure(table, options=console.options.update(width=1000)).maximum


def _table(rows, dropped):
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    threads = fixed(rows, "threads") is None
    table.add_column("data", overflow="fold")
    for heading in ["threads"] * threads + ["target"]:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("library", no_wrap=True)
    for heading in HEADINGS:
        if heading not in dropped:
            table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        names = [row["data"]] + [str(row["threads"])] * threads + [_percent(row["accuracy"])]
        libraries = list(row["runs"])
        for library in libraries:
            name = Text(NAMES.get(library, library), style="bold" if library == OURS else "")
            cells = [cell for heading, cell in zip(HEADINGS, _cells(row, library)) if heading not in dropped]
            table.add_row(*names, name, *cells, end_section=library == libraries[-1])
            names = [""] * len(names)
    return table


def _cells(row, library):
    """What stands below HEADINGS."""
    from rich.text import Text

    ours, found = summary(row, OURS), summary(row, library)
    seconds, ratio = statistics.median(found["seconds"]), None
    if ours and library != OURS and math.isfinite(seconds):
        own = statistics.median(ours["seconds"])
        ratio = seconds / own if math.isfinite(own) else None
    least, most, epochs = min(found["seconds"]), max(found["seconds"]), statistics.median(found["epochs"])
    return (
        _time(seconds),
        f"{_time(least)} to {_time(most)}" if len(found["seconds"]) > 1 else "",
        f"{epochs:g}" if math.isfinite(epochs) else "",
        Text(ratio_text(ratio), style="red" if ratio and ratio < 1 else ""),
        time_text(found["epoch_seconds"]),
        _percent(found["best"]),
    )


def _time(seconds):
    return time_text(seconds) if math.isfinite(seconds) else "never"


def _legend(run, rows):
    options = run["options"]
    seeds = max(len(runs) for row in rows for runs in row["runs"].values())
    given = options["accuracy"]
    return [
        "target: the accuracy on the test rows that was asked for." if given else
        "target: the accuracy on the test rows that all runs of all libraries reach: the lowest of their best ones, "
        "less the standard error of an accuracy on so many rows, rounded down to 0.1 %.",
        f"time: of training, until the accuracy, computed after each of at most {options['epochs']} epochs, is first "
        "the target; " + (f"the median of {seeds} seeds, and the least to the most." if seeds > 1 else "one seed."),
        "vs numfuse: that time divided by numfuse's: above 1x numfuse is faster.",
        "an epoch, best: the median time of an epoch, and the median over seeds of the best accuracy. Where a few "
        "epochs are enough, their number is luck: compare the times of an epoch, or give more --seeds.",
        f"The same for all: hidden layers ({', '.join(map(str, options['hidden'])) or 'none'}) of Linear and ReLU, "
        f"initial values uniform in +-1/sqrt(inputs), softmax cross-entropy, Adam with lr {LR:g} and eps {EPS:g}, "
        f"float32, batches of {options['batch']} rows shuffled anew each epoch, inputs scaled to mean 0 and "
        "deviation 1 (images all pixels alike). Each library has a process of its own, which waits while others train.",
        "Not timed: imports, reading and scaling the data, making the net, computing the accuracy, and a first epoch "
        "on thrown-away data, in which Keras compiles.",
        *(f"{NAMES.get(name, name)}: {HOW[name]}." for name in options["libraries"]
          if any(name in row["runs"] for row in rows)),
    ]


def _notes(run):
    for library, reason in run["left_out"].items():
        yield f"{NAMES.get(library, library)} took no part: {reason}"
    for row in run["rows"]:
        for library, reason in row["failed"].items():
            where = f"{row['data']}, threads {row['threads']}"
            yield f"{NAMES.get(library, library)} failed ({where}): {reason.splitlines()[0]}"


def _percent(share):
    return f"{share:.1%}"
