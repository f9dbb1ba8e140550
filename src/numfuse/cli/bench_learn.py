"""`numfuse bench learn`: the options, and the training of the same net in several libraries."""

import os
import shlex
import sys
from functools import partial
from pathlib import Path

from ..bench import learn, machine, results
from ..data import Standardize, load
from . import CommandError
from .bench import ALL, _installed, _list_of, _output, _peers_of, _positive, _refused_threads
from .train import _integer, _number, _sizes


def add_arguments(parser):
    """Give an argparse parser the options of `numfuse bench learn`."""
    parser.description = (
        "Train the same net on the same data in numfuse and other libraries, each as its users do, and print the "
        "seconds until all reach the same accuracy on the same test rows, which no one trains on.")
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE",
        help='"digits", a folder of idx files (MNIST layout), or an .npz, .csv or .tsv file (also .gz), of classes')
    add("--target", metavar="COLUMN", help='the column of tables to predict (default: "target")')
    add("--accuracy", type=_list_of_accuracies, metavar="SHARE,...",
        help="the accuracy to reach, one for all files or one for each (default: what all runs reach)")
    add("--epochs", type=_integer(1), default=15, metavar="N", help="at most (default: %(default)s)")
    add("--seeds", type=_integer(1), default=5, metavar="N",
        help="how often to train, for the median (default: %(default)s)")
    add("--hidden", type=_sizes, default=[128, 64], metavar="SIZE,...",
        help="sizes of the hidden layers, or none (default: 128,64)")
    add("--batch", type=_integer(2), default=128, metavar="ROWS", help="(default: %(default)s)")
    add("--threads", type=_list_of(_positive), default=[1], metavar="N,...",
        help="for all libraries alike (default: 1)")
    add("--peers", type=_peers_of(learn.PEERS), default=ALL, metavar="NAME,...",
        help=f"other libraries to take part: {', '.join(learn.PEERS)}, or all that are installed (default: all)")
    add("--json", type=_output, metavar="FILE", help="save the seconds and the accuracy of every epoch")


def run(args):
    """Measure, report, and return the exit code: 0, 2 for bad input, 130 if Ctrl-C cut the measuring short."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 130)
    if problem := _refused_threads(args.threads):
        raise CommandError(f"--threads {problem}")
    if args.accuracy and len(args.accuracy) not in (1, len(args.files)):
        raise CommandError(f"--accuracy has {len(args.accuracy)} numbers for {len(args.files)} files: give one, or one "
                           "for each file")
    left_out = {}
    if args.peers == ALL:
        args.peers, left_out = _installed(learn.PEERS)
    tasks = [_task(args, path) for path in args.files]
    finished, data = _measure(args, tasks, left_out)
    from ..bench import learn_report

    learn_report.print_report(console, data)
    if not finished:
        print("numfuse: interrupted: the report is incomplete", file=sys.stderr)
    return 0 if finished else 130


def _task(args, path):
    """The data of a file, scaled, as a task for all."""
    dataset = load(path, target=args.target)
    if not dataset.classes:
        raise CommandError(f"{path}: the target is a quantity, but learn compares accuracies of classes: name a column "
                           "of classes by --target")
    rows = len(dataset.y_train)
    if rows < args.batch:
        raise CommandError(f"{path}: --batch {args.batch} is more than the {rows} training rows: give at most {rows}")
    scale = Standardize().fit(dataset.x_train)
    return learn.Task(_name(path), scale(dataset.x_train), dataset.y_train, scale(dataset.x_test), dataset.y_test,
                      len(dataset.classes), tuple(args.hidden), args.batch)


def _name(path):
    """What a table calls a file: its name without the endings."""
    return path if path == "digits" else Path(path).resolve().name.partition(".")[0] or path


def _measure(args, tasks, left_out):
    """(whether all was measured, the run); saved if asked for, whatever happens."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    libraries = [learn.OURS, *args.peers]
    accuracies = args.accuracy or [None]
    accuracies = accuracies * len(tasks) if len(accuracies) == 1 else accuracies
    options = {"libraries": libraries, "epochs": args.epochs, "seeds": args.seeds, "hidden": args.hidden,
               "batch": args.batch, "accuracy": args.accuracy}
    data = {"numfuse_bench_learn": learn.FORMAT, "machine": machine.describe(), "versions": {},
            "command": shlex.join(["numfuse", *sys.argv[1:]]), "options": options, "left_out": left_out, "rows": []}
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    # Not refreshed while measuring: a thread that draws would be measured too.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        bar = progress.add_task("", total=len(tasks) * len(args.threads) * len(libraries) * args.seeds * args.epochs)
        try:
            for task, accuracy in zip(tasks, accuracies):
                for threads in args.threads:
                    row = {"data": task.name, "threads": threads, "train_rows": len(task.y_train),
                           "test_rows": len(task.y_test), "features": task.x_train.shape[1], "classes": task.classes,
                           "accuracy": accuracy, "runs": {}, "failed": {}}
                    data["rows"].append(row)

                    def show(library, advance, name=f"{task.name}, threads {threads}"):
                        progress.update(bar, description=f"{name}: {library}", advance=advance, refresh=True)

                    learn.measure(row, task, libraries, data["versions"], seeds=args.seeds, epochs=args.epochs,
                                  on_start=partial(show, advance=0), on_epoch=partial(show, advance=1))
        except KeyboardInterrupt:
            data["interrupted"] = True
    if not args.accuracy:
        for row in data["rows"]:
            row["accuracy"] = learn.common_accuracy(row)
    if args.json:
        results.save(args.json, data)
    return "interrupted" not in data, data


def _list_of_accuracies(text):
    return [_number(0, 1, positive=True)(part.strip()) for part in text.split(",")]
