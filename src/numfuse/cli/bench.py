"""`numfuse bench`: the options, the measuring and the report."""

import argparse
import importlib
import os
import shlex
import signal
import sys
import time
from pathlib import Path

from .. import native
from ..bench import machine, peers, results
from ..bench.contests import (
    BLOCKS,
    BlockContest,
    GroupsContest,
    KernelContest,
    RegularizedStepContest,
    SmallTensorsContest,
    TrainingContest,
)
from ..bench.measure import Plan
from ..bench.operations import CASES, OPTIMIZERS, find
from ..bench.training import TRAINING_STEPS
from ..bench.worker import MEMORY, Worker

OF_CASES = [*dict.fromkeys(case.kernel for case in CASES)]
KERNELS = [*OF_CASES, "block", "training_step"]
DTYPES = ["float32", "float64"]
BUDGET, QUICK_BUDGET = 2.0, 0.2  # seconds a row
QUICK_SECONDS = 40  # after which --quick begins no other row; the last one, and starting, take a few more
# All is measured several times over, with new arrays: what disturbs a machine lasts for seconds, and where arrays
# happen to lie makes a difference of several percent. Large arrays take long enough in themselves.
SWEEPS, LARGE = 5, 1 << 22
QUICK_SIZES = 1 << 14, 1 << 20
SMALL_SIZES = 16, 1000
MANY_TENSORS = 10, 50, 200
QUICK_STEPS = "tiny", "mlp"
ALL = "all"


def add_arguments(parser):
    """Give an argparse parser the options of `numfuse bench`."""
    parser.epilog = '"numfuse bench learn FILE ..." times training to the same accuracy in several libraries.'
    add = parser.add_argument
    add("kernels", nargs="*", type=_one_of(KERNELS), metavar="KERNEL",
        help=f"what to time, all if nothing is named: {', '.join(KERNELS)}")
    add("--sizes", type=_list_of(_positive), metavar="N,...",
        help="numbers of elements (1 Ki to 64 Mi, and typical shapes for batch normalisation); small tensors, blocks "
        "and training steps have sizes of their own")
    add("--dtypes", type=_list_of(_one_of(DTYPES)), metavar="TYPE,...",
        help="float32 (the default), float64 or both")
    add("--threads", type=_list_of(_positive), metavar="N,...", help="for all rivals alike (1)")
    add("--isa", type=_isa, metavar="NAME",
        help=f"instruction set: {', '.join(native.isas())}, or all; the best if not given")
    add("--peers", type=_peers_of(peers.NAMES), default=[], metavar="NAME,...",
        help=f"other libraries to take part: {', '.join(peers.NAMES)}, or all that are installed")
    add("--busy", type=_list_of(_cpus), metavar="N,...",
        help="measure once more while other processes keep N CPUs busy")
    add("--quick", action="store_true",
        help="less than a minute: one case of each kernel, two sizes, fewer rounds, and what there is time for")
    add("--json", type=_output, metavar="FILE", help="save all rounds, the machine and the versions")
    add("--markdown", action="store_true", help="print the tables as Markdown")
    add("--plot", type=_folder, metavar="DIR", help="draw pictures (PNG and SVG)")
    add("--html", type=_output, metavar="FILE", help="write one page with tables and pictures")
    add("--from", dest="saved", type=_run, metavar="FILE", help="report what --json saved, instead of measuring")
    add("--update", type=_with_markers, metavar="FILE",
        help="write the tables into a Markdown file, between <!-- bench --> and <!-- /bench -->")
    add("--compare", nargs=2, type=_run, metavar=("OLD", "NEW"),
        help="show what changed between two runs that --json saved, beyond noise")


def run(args):
    """Measure, report, and return the exit code: 0, 2 for bad input, 130 if Ctrl-C cut the measuring short.

    `args` is what a parser with `add_arguments` made of the command line.
    """
    try:
        from rich.console import Console

        from ..bench import report
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('rich is not installed: pip install "numfuse[cli]"', name="rich") from error
    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 130)
    if problem := _contradiction(args):
        print(f"numfuse: error: {problem}", file=sys.stderr)
        return 2
    args.threads, args.dtypes = args.threads or [1], args.dtypes or ["float32"]
    if args.peers == ALL:
        args.peers, _ = _installed(peers.NAMES)
    if args.compare:
        from ..bench import compare

        compare.print_comparison(console, *args.compare)
        return 0
    if args.plot or args.html:
        importlib.import_module("matplotlib")
    finished, data = True, args.saved
    if not data:
        if problem := _refused_threads(args.threads):
            print(f"numfuse: error: --threads {problem}", file=sys.stderr)
            return 2
        if not contests(args):
            print("numfuse: error: nothing to measure: blocks and training steps are float32 only", file=sys.stderr)
            return 2
        finished, data = _measure(args)
    if args.markdown:
        print(report.markdown(data), end="")
    else:
        report.print_report(console, data)
    if args.plot:
        from ..bench import plot

        for path in plot.draw(args.plot, data):
            print(f"drawn: {path}", file=sys.stderr)
    if args.html:
        from ..bench import page

        page.write(args.html, data)
        print(f"written: {args.html}", file=sys.stderr)
    if args.update:
        report.update_markdown(args.update, data)
    if not finished:
        print("numfuse: interrupted: the report is incomplete", file=sys.stderr)
    return 0 if finished else 130


def _contradiction(args):
    """The fault of the options taken together, or None."""
    measuring = {"KERNEL": args.kernels, "--sizes": args.sizes, "--dtypes": args.dtypes, "--threads": args.threads,
                 "--isa": args.isa, "--peers": args.peers, "--busy": args.busy, "--quick": args.quick,
                 "--json": args.json}
    reporting = {"--from": args.saved, "--markdown": args.markdown, "--plot": args.plot, "--html": args.html,
                 "--update": args.update}
    alone = {"--from": (args.saved, measuring), "--compare": (args.compare, measuring | reporting)}
    for option, (given, others) in alone.items():
        if given and any(others.values()):
            return f"{option} measures nothing and cannot be combined with " + ", ".join(
                name for name, value in others.items() if value)


def contests(args):
    """All that the options ask to measure."""
    chosen = args.kernels or KERNELS
    found, cases = [], CASES
    if args.quick and not args.kernels:
        cases = [next(case for case in CASES if case.kernel == kernel) for kernel in OF_CASES]
    for case in cases:
        if case.kernel in chosen:
            sizes = args.sizes or (QUICK_SIZES if args.quick else case.sizes)
            found += [KernelContest(case, size, dtype) for dtype in args.dtypes for size in sizes]
            if case.name == "adam_step regularized" and not args.quick:
                found += [RegularizedStepContest(case, size, dtype) for dtype in args.dtypes for size in sizes]
    for name in OPTIMIZERS:
        if find(name).kernel in chosen:
            found += [SmallTensorsContest(find(name), size, dtype) for dtype in args.dtypes for size in SMALL_SIZES]
    if "adam_step" in chosen and "float32" in args.dtypes:
        counts = MANY_TENSORS[:1] if args.quick else MANY_TENSORS
        found += [GroupsContest(find("adam_step adamw"), 16, "float32", count) for count in counts]
    if "block" in chosen and "float32" in args.dtypes:
        found += map(BlockContest, BLOCKS[:2] if args.quick else BLOCKS)
    if "training_step" in chosen and "float32" in args.dtypes:
        steps = [step for step in TRAINING_STEPS if step.name in QUICK_STEPS or not args.quick]
        found += map(TrainingContest, steps)
    return found


def _measure(args):
    """(whether all was measured, the run); saved if asked for, whatever happens."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    isas = {None: [native.isa()], "all": native.isas()}.get(args.isa, [args.isa])
    busy = tuple(dict.fromkeys([0, *(args.busy or [])]))
    budget = QUICK_BUDGET if args.quick else BUDGET
    work = contests(args)
    data = {"numfuse_bench": results.FORMAT, "machine": {**machine.describe(), "memory": MEMORY}, "versions": {},
            "command": shlex.join(["numfuse", *sys.argv[1:]]), "left_out": {}, "rows": []}
    end, late = time.monotonic() + QUICK_SECONDS, []
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    # Not refreshed while measuring: a thread that draws would be measured too.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=len(args.threads) * sum(map(_sweeps, work)))
        worker = None
        try:
            for threads in args.threads:
                progress.update(task, description="starting", refresh=True)
                worker = Worker(threads, args.peers)
                data["versions"], data["left_out"] = worker.versions, worker.left_out
                there = tuple(name for name in args.peers if name not in worker.left_out)
                for sweep in range(SWEEPS):
                    for contest in [contest for contest in work if sweep < _sweeps(contest)]:
                        if args.quick and time.monotonic() > end:
                            late += [_description(contest)] * (sweep == 0)
                            continue
                        progress.update(task, description=_description(contest), refresh=True)
                        plan = Plan(tuple(isas), there, busy, budget / _sweeps(contest), seed=sweep)
                        results.add(data["rows"], map(results.rounded, worker.measure(contest, plan)))
                        progress.advance(task)
                    if args.quick:
                        data["quick"] = _quick_text(late)
                    if args.json:
                        results.save(args.json, data | {"interrupted": True})
                worker.stop()
        except KeyboardInterrupt:
            data["interrupted"] = True
            return False, data
        finally:
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not cost the results
            if args.json:
                results.save(args.json, data)
            if worker:
                worker.stop()
            signal.signal(signal.SIGINT, before)
    seen = {name for row in data["rows"] for kind in ("seconds", "refused", "left_out") for name in row.get(kind, ())}
    idle = set(args.peers) - data["left_out"].keys() - {name.split()[0] for name in seen}
    data["left_out"] |= dict.fromkeys(sorted(idle), "has none of these operations")
    return True, data


def _sweeps(contest):
    return SWEEPS if contest.row["elements"] < LARGE else 1


def _description(contest):
    return f"{contest.row['case']} {'x'.join(map(str, contest.row['shape']))} {contest.row['dtype']}"


def _quick_text(late):
    text = "Quick: few rows and rounds, for a first look. All rows are measured without --quick."
    return f"{text} There was no time for {', '.join(dict.fromkeys(late))}." if late else text


def _refused_threads(counts):
    before = native.get_num_threads()
    try:
        for count in counts:
            native.set_num_threads(count)
    except ValueError as error:
        return f"{count}: {error}"
    finally:
        native.set_num_threads(before)


def _isa(text):
    before = native.isa()
    try:
        if text != "all":
            native.use_isa(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error} ('all' for each of these)") from error
    finally:
        native.use_isa(before)
    return text


def _peers_of(known):
    def parse(text):
        if text == ALL:
            return ALL
        names = _list_of(_one_of([*known]))(text)
        for name in names:
            if library := peers.missing(name):
                raise argparse.ArgumentTypeError(f"{library} is not installed: {peers.INSTALL}")
        return names
    return parse


def _installed(known):
    """The names of the peers that are there, and why others are not; which is printed."""
    left_out = {name: f"{library} is not installed: {peers.INSTALL}"
                for name in known if (library := peers.missing(name))}
    for name, reason in left_out.items():
        print(f"numfuse: without {name}: {reason}", file=sys.stderr)
    return [name for name in known if name not in left_out], left_out


def _positive(text):
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 2**50):  # beyond, NumPy counts no bytes
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to 2^50")
    return int(text)


def _cpus(text):
    cpus = machine.describe()["cpus"]
    if text != "0" and _positive(text) > cpus:
        raise argparse.ArgumentTypeError(f"{text} is more than the {cpus} CPUs there are")
    return int(text)


def _with_markers(text):
    from ..bench.report import check_markers

    try:
        check_markers(Path(text))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {text}: {error.strerror}") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)


def _one_of(names):
    def parse(text):
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text
    return parse


def _list_of(parse):
    return lambda text: list(dict.fromkeys(parse(part.strip()) for part in text.split(",")))


def _output(text):
    """Find out before the measuring whether the file can be written."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder, not a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"cannot write to {text}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write to {text}: no permission")
    return path


def _folder(text):
    try:
        Path(text).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot make the folder {text}: {error.strerror}") from error
    return Path(text)


def _run(path):
    try:
        return results.load(path)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
