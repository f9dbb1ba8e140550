"""What `onepass train` shows: the data and the net, progress, results, the comparison and curves."""

import contextlib
import statistics
import time

from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from . import native
from .files import replacing

SCORES = {"classification": "accuracy", "regression": "R^2"}
LOSSES = {"classification": "cross-entropy (nats)", "regression": "squared error (variances of the target)"}
LABELS = {"classification": "share of rows classified correctly", "regression": "R^2 (1 = perfect)"}
REFRESH = 0.05  # seconds between updates of the progress bar: more often would slow training down


def describe(console, source, dataset, model, optimizer):
    """Say what is trained on what."""
    sizes = [model.architecture["inputs"], *model.architecture["hidden"], model.architecture["outputs"]]
    layers = [
        "-".join(map(str, sizes)),
        f"batch norm {'on' if model.architecture['batch_norm'] else 'off'}",
        f"dropout {model.architecture['dropout']:g}",
        f"{sum(parameter.size for parameter in model.net.parameters()):,} parameters",
    ]
    options = optimizer.param_groups[0]
    decay = options["weight_decay"]
    steps = [type(optimizer).__name__, f"lr {options['lr']:g} falling to 0", f"weight decay {decay:g}"]
    target = f"{dataset.task}, {len(dataset.classes)} classes" if dataset.classes else dataset.task
    console.print(f"data       {source}: {target}", soft_wrap=True, markup=False)
    console.print(f"rows       {len(dataset.x_train):,} for training, {len(dataset.x_test):,} for testing")
    console.print(f"net        {', '.join(layers)}")
    console.print(f"optimizer  {', '.join(steps)}")
    kernels = model.net.kernels
    details = f" ({native.isa()}, threads: {native.get_num_threads()})" if kernels is native else ""
    console.print(f"kernels    {kernels.__name__}{details}")
    console.print()


@contextlib.contextmanager
def progress(console, epochs, task):
    """Callbacks (on_batch, on_epoch) for `fit`: a live bar on a terminal, else a line for each epoch."""
    score = SCORES[task]
    if not console.is_terminal:
        def line(epoch):
            console.print(
                f"epoch {epoch.number:>3}/{epochs}  loss {epoch.loss:.4f}  {score} {epoch.score:.4f}  "
                f"test {score} {epoch.test_score:.4f}  {epoch.seconds:.2f} s"
            )

        yield None, line
        return
    columns = (
        TextColumn("epoch"), MofNCompleteColumn(), BarColumn(bar_width=None),
        TextColumn("{task.description}"), TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task("", total=epochs)
        shown, test = 0.0, ""

        def on_batch(epoch):
            nonlocal shown
            now = time.perf_counter()
            if now - shown >= REFRESH:
                shown = now
                text = f"loss {epoch.loss:.4f}  {score} {epoch.score:.4f}{test}"
                bar.update(row, description=text, completed=epoch.number - 1 + epoch.batch / epoch.batches)

        def on_epoch(epoch):
            nonlocal test
            test = f"  test {epoch.test_score:.4f}"

        yield on_batch, on_epoch


def results(console, history, epochs, task, score):
    """The score on the test rows, and how long training took."""
    if len(history) < epochs:
        console.print(f"interrupted after {len(history)} of {epochs} epochs; the net stays as it was then\n")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_row(f"test {SCORES[task]}", f"[bold]{score:.4f}[/bold]")
    if history:
        seconds = [epoch.seconds for epoch in history]
        table.add_row("training time", f"{sum(seconds):.2f} s for {len(history)} epochs, evaluation excluded")
        table.add_row("time per epoch", f"{statistics.median(seconds):.3f} s (median)")
    console.print(table)


def comparison(console, names, timing, batches):
    """What `train.compare_backends` measured, the first backend being native."""
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
    left.plot(epochs, [epoch.loss for epoch in history], marker=".", label="training")
    right.plot(epochs, [epoch.score for epoch in history], marker=".", label="training, before each step")
    right.plot(epochs, [epoch.test_score for epoch in history], marker=".", label="test")
    left.set(xlabel="epoch", ylabel=LOSSES[task], title="Loss")
    right.set(xlabel="epoch", ylabel=LABELS[task], title=SCORES[task].capitalize())
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:])
