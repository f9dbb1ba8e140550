"""`onepass bench`: what to measure, and the report."""

import argparse
import sys
from functools import partial

from .. import native
from .cases import CASES
from .measure import machine, measure, measure_overhead
from .report import markdown, print_report, write_json

KERNELS = list(dict.fromkeys(case.kernel for case in CASES))
DTYPES = ["float32", "float64"]
BUDGET, QUICK_BUDGET = 1.0, 0.25  # seconds a row


def add_arguments(parser):
    """Give an argparse parser the options of `onepass bench`."""
    parser.add_argument("kernels", nargs="*", type=_one_of(KERNELS), metavar="KERNEL",
                        help=f"kernels to time, all if none is named: {', '.join(KERNELS)}")
    parser.add_argument("--sizes", type=_list_of(_positive), default=[1 << 14, 1 << 20], metavar="N,...",
                        help="numbers of elements (16384,1048576)")
    parser.add_argument("--dtypes", type=_list_of(_one_of(DTYPES)), default=["float32"], metavar="TYPE,...",
                        help="float32 (the default), float64 or both")
    parser.add_argument("--threads", type=_positive, default=1, metavar="N", help="for the kernels (1)")
    parser.add_argument("--isa", type=_one_of([*native.isas(), "all"]), metavar="NAME",
                        help=f"instruction set: {', '.join(native.isas())}, or all; the best if not given")
    parser.add_argument("--quick", action="store_true", help="a quarter of the rounds")
    parser.add_argument("--json", type=_output, metavar="FILE",
                        help="write the rows and the machine to a file too")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")


def run(args):
    """Measure, report, and return the exit code: 0, 2 for bad input, 130 if Ctrl-C cut the measuring short.

    `args` is what a parser with `add_arguments` made of the command line.
    """
    try:
        from rich.console import Console
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('rich is not installed: pip install "onepass[cli]"', name="rich") from error
    isas = {None: [native.isa()], "all": native.isas()}.get(args.isa, [args.isa])
    threads = native.get_num_threads()
    rows = []
    try:
        native.set_num_threads(args.threads)
    except ValueError as error:
        print(f"onepass: error: --threads {args.threads}: {error}", file=sys.stderr)
        return 2
    try:
        about = machine()
        finished = _measure_all(_work(args, isas), rows)
    finally:
        native.set_num_threads(threads)
    if args.markdown:
        print(markdown(about, rows), end="")
    else:
        print_report(Console(width=None if sys.stdout.isatty() else 130), about, rows)
    if args.json:
        write_json(args.json, about, rows)
    if not finished:
        print("onepass: interrupted: the report is incomplete", file=sys.stderr)
    return 0 if finished else 130


def _work(args, isas):
    """What to measure: pairs of a name and a function that returns rows."""
    budget = QUICK_BUDGET if args.quick else BUDGET
    work = []
    for case in CASES:
        if args.kernels and case.kernel not in args.kernels:
            continue
        for dtype in args.dtypes:
            for size in args.sizes:
                job = partial(measure, case, size, dtype, isas, budget)
                work.append((f"{case.name} {size} {dtype}", job))
    if not args.kernels or "adam_step" in args.kernels:
        work.append(("optim.Adam.step", partial(measure_overhead, isas, budget)))
    return work


def _measure_all(work, rows):
    """Do the work with a progress bar, adding to `rows`. Returns whether all was done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    # Not refreshed while measuring: a thread that draws would be measured too.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=len(work))
        try:
            for name, job in work:
                progress.update(task, description=name, refresh=True)
                rows += job()
                progress.advance(task)
        except KeyboardInterrupt:
            return False
    return True


def _positive(text):
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 2**50):  # beyond, NumPy counts no bytes
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to 2^50")
    return int(text)


def _one_of(names):
    def parse(text):
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text
    return parse


def _list_of(parse):
    return lambda text: [parse(part.strip()) for part in text.split(",")]


def _output(path):
    """Find out before the measuring whether the file can be written."""
    try:
        open(path, "a", encoding="utf-8").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write to {path}: {error.strerror}") from error
    return path
