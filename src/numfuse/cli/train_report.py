"""The report of `numfuse train`: the data and the net, progress, results, the comparison and curves."""

import contextlib
import math
import statistics
import time

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from .. import native
from ..files import replacing

SCORES = {"classification": "accuracy", "regression": "R^2"}
LOSSES = {"classification": "cross-entropy (nats)", "regression": "squared error (variances of the target)"}
LABELS = {"classification": "share of rows classified correctly", "regression": "R^2 (1 = perfect)"}
FALLING = {"linear": " falling to 0", "cosine": " falling to 0 by a cosine", "constant": ""}
REFRESH = 0.05  # seconds between updates of the progress bar: more often would slow training down


def describe(console, args, dataset, model, optimizer, resumed=None):
    """Say what is trained on what; `resumed` is what `fit` wrote into the checkpoint to go on from, if any."""
    sizes = [model.architecture["inputs"], *model.architecture["hidden"], model.architecture["outputs"]]
    layers = [
        "-".join(map(str, sizes)),
        f"batch norm {'on' if model.architecture['batch_norm'] else 'off'}",
        f"dropout {model.architecture['dropout']:g}",
        f"{sum(parameter.size for parameter in model.net.parameters()):,} parameters",
    ]
    options = optimizer.param_groups[0]
    decay = options["weight_decay"]
    rate = f"lr {resumed['rates'][0] if resumed else options['lr']:g}{FALLING[args.schedule]}"
    steps = [type(optimizer).__name__, rate, f"weight decay {decay:g}"]
    aside = f" (less {args.validation:.4g} for validation)" if args.validation else ""
    target = f"{dataset.task}, {len(dataset.classes)} classes" if dataset.classes else dataset.task
    console.print(f"data       {args.data}: {target}", soft_wrap=True, markup=False)
    rows = f"{len(dataset.x_train):,} for training{aside}, {len(dataset.x_test):,} for testing"
    console.print(f"rows       {rows}", soft_wrap=True)
    console.print(f"net        {', '.join(layers)}")
    console.print(f"optimizer  {', '.join(steps)}")
    kernels = model.net.kernels
    details = f" ({native.isa()}, threads: {native.get_num_threads()})" if kernels is native else ""
    console.print(f"kernels    {kernels.__name__}{details}")
    if resumed:
        done = len(resumed["history"])
        rest = f"; there is nothing left to train of {args.epochs}" if done >= args.epochs else ""
        console.print(f"resumed    after epoch {done} of {args.checkpoint}{rest}", soft_wrap=True, markup=False)
    console.print()


@contextlib.contextmanager
def progress(console, epochs, task):
    """Callbacks (on_batch, on_epoch) for `fit`: a live bar on a terminal, else a line for each epoch."""
    score = SCORES[task]
    if not console.is_terminal:
        def line(epoch):
            console.print(
                f"epoch {epoch.number:>3}/{epochs}  loss {epoch.loss:.4f}  {score} {epoch.score:.4f}  "
                f"{_checked(epoch, score)}  {epoch.seconds:.2f} s"
            )

        yield None, line
        return
    columns = (
        TextColumn("epoch"), MofNCompleteColumn(), BarColumn(bar_width=None),
        TextColumn("{task.description}"), TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task("", total=epochs)
        shown, checked = 0.0, ""

        def on_batch(epoch):
            nonlocal shown
            now = time.perf_counter()
            if now - shown >= REFRESH:
                shown = now
                text = f"loss {epoch.loss:.4f}  {score} {epoch.score:.4f}{checked}"
                bar.update(row, description=text, completed=epoch.number - 1 + epoch.batch / epoch.batches)

        def on_epoch(epoch):
            nonlocal checked
            checked = f"  {_checked(epoch, score)}"

        yield on_batch, on_epoch


def _checked(epoch, score):
    """Loss and score of the rows that were set aside for validation, else the score of the test rows."""
    if math.isnan(epoch.validation_loss):
        return f"test {score} {epoch.test_score:.4f}"
    return f"validation {epoch.validation_loss:.4f}, {epoch.validation_score:.4f}"


def results(console, history, epochs, task, score):
    """The score on the test rows, and how long training took."""
    net = f"is that of epoch {history.best}" if history.best else "stays as it was then"
    if history.stop_reason:
        why = "interrupted" if history.stop_reason == "interrupt" else "stopped"
        console.print(f"{why} after {len(history)} of {epochs} epochs; the net {net}\n")
    elif history.best:
        console.print(f"the net {net}, the best in validation\n")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_row(f"test {SCORES[task]}", f"[bold]{score:.4f}[/bold]")
    if history:
        seconds = [epoch.seconds for epoch in history]
        table.add_row("training time", f"{sum(seconds):.2f} s for {len(history)} epochs, evaluation excluded")
        table.add_row("time per epoch", f"{statistics.median(seconds):.3f} s (median)")
    console.print(table)


def comparison(console, names, timing, batches):
    """The times that `compare_backends` measured, the first backend being native."""
    seconds, losses, done, epochs = timing
    part = "One epoch" if done == batches else f"The first {done} of an epoch's {batches} batches"
    often = f", median of {epochs}" if epochs > 1 else ""
    console.print(f"\n{part} with each backend{often}:")
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("backend")
    for column in ("time", "native is", "mean loss"):
        table.add_column(column, justify="right")
    for name, time_, loss in zip(names, seconds, losses):
        ratio = "" if name == names[0] else f"[bold]{time_ / seconds[0]:.2f}x[/bold] as fast"
        table.add_row(name, f"{time_:.3f} s", ratio, f"{loss:.6f}")
    console.print(table)
    console.print(
        "All train the same net on the same batches, in turns, and share NumPy's matrix products. Batch "
        "norm, dropout and optimizer are C kernels (native), or NumPy as one writes it from the papers, with "
        "dropout masks from its own generator (textbook), or NumPy doing what the C kernels do, "
        "operation by operation (the same bits, but for batch norm's sums)."
    )


def plot(path, history, task):
    """Draw loss and score over the epochs into `path`."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = [epoch.number for epoch in history]
    curves = [
        (left, "loss", "training"), (left, "validation_loss", "validation"),
        (right, "score", "training, before each step"), (right, "validation_score", "validation"),
        (right, "test_score", "test"),
    ]
    for axes, name, label in curves:
        values = [getattr(epoch, name) for epoch in history]
        if not all(map(math.isnan, values)):
            axes.plot(epochs, values, marker=".", label=label)
    if history.best:
        for axes in (left, right):
            axes.axvline(history.best, color="gray", linestyle="--", linewidth=1, label="best epoch")
    left.set(xlabel="epoch", ylabel=LOSSES[task], title="Loss")
    right.set(xlabel="epoch", ylabel=LABELS[task], title=SCORES[task].capitalize())
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:])
