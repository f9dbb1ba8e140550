"""`numfuse train`: the options, and a training of a net on a data set."""

import argparse
import contextlib
import importlib
import math
import tempfile
from pathlib import Path

import numpy as np

import numfuse

from .. import nn, optim
from ..bench import textbook
from ..bench.backends import compare_backends
from ..data import SCALERS, Standardize, batch_rows, load
from ..train import SCHEDULES, Model, evaluate, fit, load_checkpoint, mlp
from . import CommandError

OPTIMIZERS = {  # the class, and the options that `--lr` and `--weight-decay` replace
    "sgd": (optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0}),
    "rmsprop": (optim.RMSProp, {"lr": 1e-3, "weight_decay": 0.0}),
    "adam": (optim.Adam, {"lr": 3e-3, "weight_decay": 0.0}),
    "adamw": (optim.AdamW, {"lr": 3e-3, "weight_decay": 0.01}),
}
BACKENDS = {"native": numfuse.native, "numpy": numfuse.reference}
COMPARED = {
    "native": numfuse.native, "NumPy, textbook": textbook, "NumPy, the same bits": numfuse.reference
}
FIT_OPTIONS = ("epochs", "batch_size", "accumulate", "schedule", "validation", "patience", "checkpoint", "resume")
PLOTS = (".png", ".svg", ".pdf")


def add_arguments(parser):
    """Give an argparse parser the options of `numfuse train`."""
    add = parser.add_argument
    add("data", nargs="?", default="digits", metavar="DATA",
        help='"digits" (the default), a folder of idx files, or an .npz, .csv or .tsv file (also .gz)')
    add("--target", metavar="COLUMN", help='the column of a table to predict (default: "target")')
    add("--task", choices=("classification", "regression"),
        help="what the target is (default: classification if it is text or few different integers)")
    add("--hidden", type=_sizes, default=[256, 128], metavar="SIZE,...",
        help="sizes of the hidden layers, or none (default: 256,128)")
    add("--no-batch-norm", action="store_true", help="leave batch normalisation out")
    add("--dropout", type=_number(0, 1), default=0.2, metavar="P",
        help="probability of zeroing a hidden value (default: %(default)s)")
    add("--optimizer", choices=OPTIMIZERS, default="adamw", help="sgd has momentum 0.9 (default: adamw)")
    add("--lr", type=_number(0), help="learning rate (default: "
        + ", ".join(f"{name} {options['lr']:g}" for name, (_, options) in OPTIMIZERS.items()) + ")")
    add("--schedule", choices=SCHEDULES, default="linear",
        help="how the learning rate goes: falling to 0 in a line or half a cosine, or staying (default: %(default)s)")
    add("--weight-decay", type=_number(0), metavar="DECAY",
        help="decoupled in adamw, else L2 (default: 0.01 for adamw, else 0)")
    add("--max-grad-norm", type=_number(0, positive=True), metavar="NORM",
        help="scale the gradients of a step down to this L2 norm (default: do not)")
    add("--batch-size", type=_integer(2), default=128, metavar="ROWS", help="(default: %(default)s)")
    add("--accumulate", type=_integer(1), default=1, metavar="N",
        help="add up the gradients of this many batches for a step (default: %(default)s)")
    add("--epochs", type=_integer(1), default=20, metavar="N", help="(default: %(default)s)")
    add("--validation", type=_number(0, 1, positive=True), metavar="SHARE",
        help="share of the training rows to validate with after each epoch, not to train on (default: none)")
    add("--patience", type=_integer(1), metavar="N",
        help="stop after this many epochs without a better validation loss; the best epoch's net is kept")
    add("--scale", choices=SCALERS, default="standard",
        help="inputs to mean 0 and deviation 1, or to the range 0 to 1 (default: %(default)s)")
    add("--seed", type=_integer(0), metavar="N",
        help="of initial values, shuffling and dropout; test rows are always the same (default: 0)")
    add("--threads", type=_integer(1, 256), default=1, metavar="N",
        help="for the kernels and the matrix products; small nets gain little from more, and lose much on a "
        "busy machine (default: %(default)s)")
    add("--backend", choices=BACKENDS, default="native", help="kernels to train with (default: %(default)s)")
    add("--plot", type=Path, metavar="FILE", help=f"draw loss and score per epoch ({', '.join(PLOTS)})")
    add("--save", type=Path, metavar="FILE", help="write the model to an .npz file")
    add("--checkpoint", type=Path, metavar="FILE", help="write all it takes to go on to an .npz file after each epoch")
    add("--resume", action="store_true", help="go on from the checkpoint, with its learning rate, weight decay and "
        "order of rows; give the other options as before")


def run(args):
    """Train, report, and return the exit code: 0, or 130 if Ctrl-C ended the training."""
    from rich.console import Console

    from . import train_report as report

    console = Console(highlight=False)
    _check_outputs(args)
    dataset = load(args.data, target=args.target, task=args.task)
    seed = args.seed or 0
    rng = np.random.default_rng(seed)
    model, loss, y_train, y_test = _build(args, dataset, rng)
    net = model.net.set_backend(BACKENDS[args.backend])
    optimizer = _optimizer(args, net)
    x_train, x_test = model.inputs(dataset.x_train), model.inputs(dataset.x_test)
    training = (net, loss, optimizer, x_train, y_train)
    options = {name: getattr(args, name) for name in FIT_OPTIONS}

    def finish_epoch(epoch):
        if not math.isfinite(epoch.loss):
            raise CommandError(f"the loss is {epoch.loss} in epoch {epoch.number}: try a smaller --lr")
        if args.validation is None:
            epoch.test_score = evaluate(net, x_test, y_test)
        on_epoch(epoch)

    resumed = load_checkpoint(args.checkpoint, net=net, optimizer=optimizer) if args.resume else None
    with _threads(console, args.threads):
        report.describe(console, args, dataset, model, optimizer, resumed)
        progress = report.progress(console, args.epochs, dataset.task)
        with np.errstate(all="ignore"), progress as (on_batch, on_epoch):
            history = fit(*training, **options, rng=seed, on_batch=on_batch, on_epoch=finish_epoch)
        report.results(console, history, args.epochs, dataset.task, evaluate(net, x_test, y_test))
        if args.save:
            model.save(args.save)
            console.print(f"model saved to {args.save}", soft_wrap=True, markup=False)
        if args.plot and history:
            report.plot(args.plot, history, dataset.task)
            console.print(f"curves drawn in {args.plot}", soft_wrap=True, markup=False)
        if history.stop_reason == "interrupt":
            return 130
        timing = compare_backends(*training, batch_size=args.batch_size, rng=rng, backends=COMPARED.values())
        report.comparison(console, list(COMPARED), timing, len(batch_rows(len(x_train), args.batch_size)))
    return 0


def _check_outputs(args):
    """Find out before the training whether its results can be written."""
    for name in ("lr", "weight_decay", "seed"):
        if args.resume and getattr(args, name) is not None:
            raise CommandError(f"--{name.replace('_', '-')} cannot go with --resume: it is the checkpoint's")
    for name, path in (("save", args.save), ("checkpoint", args.checkpoint)):
        if path and path.suffix != ".npz":
            raise CommandError(f"--{name} {path}: the name must end in .npz")
    for name, other in (("patience", "validation"), ("resume", "checkpoint")):
        if getattr(args, name) and not getattr(args, other):
            raise CommandError(f"--{name} needs --{other}")
    if args.plot:
        importlib.import_module("matplotlib")
        if args.plot.suffix not in PLOTS:
            raise CommandError(f"--plot {args.plot}: the name must end in {', '.join(PLOTS)}")
    if args.checkpoint and not args.resume and args.checkpoint.is_file():
        raise CommandError(f"--checkpoint {args.checkpoint} exists: add --resume to go on from it, or remove it")
    for path in filter(None, (args.save, args.plot, args.checkpoint)):
        try:
            if path.is_dir():
                raise CommandError(f"{path} is a folder, not a file")
            # A name as long as that of the file that `replacing` writes first.
            tempfile.NamedTemporaryFile(prefix=path.name, suffix=".tmp", dir=path.parent).close()
        except OSError as error:
            raise CommandError(f"cannot write to {path}: {error.strerror}") from error


def _build(args, dataset, rng):
    """The model, its loss, and both targets as the loss wants them."""
    classes = dataset.classes
    architecture = {
        "inputs": math.prod(dataset.x_train.shape[1:]),
        "outputs": len(classes) if classes else 1,
        "hidden": args.hidden,
        "batch_norm": not args.no_batch_norm,
        "dropout": args.dropout,
    }
    targets = None if classes else Standardize().fit(dataset.y_train[:, None])
    inputs = SCALERS[args.scale]().fit(dataset.x_train)
    model = Model(mlp(**architecture, rng=rng), architecture, inputs, targets, classes, dataset.features)
    if classes:
        return model, nn.CrossEntropyLoss(), dataset.y_train, dataset.y_test
    return model, nn.MSELoss(), targets(dataset.y_train[:, None]), targets(dataset.y_test[:, None])


def _optimizer(args, net):
    make, options = OPTIMIZERS[args.optimizer]
    given = {"lr": args.lr, "weight_decay": args.weight_decay}
    options = options | {name: value for name, value in given.items() if value is not None}
    return make(net.parameters(), **options, max_grad_norm=args.max_grad_norm).set_backend(BACKENDS[args.backend])


@contextlib.contextmanager
def _threads(console, n):
    """Let the kernels, and if threadpoolctl is there the BLAS, use n threads for a while."""
    try:
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        console.print("threadpoolctl is missing: OPENBLAS_NUM_THREADS sets the threads of matrix products")
        limits = contextlib.nullcontext()
    else:
        limits = threadpool_limits(n, user_api="blas")
    before = numfuse.get_num_threads()
    numfuse.set_num_threads(n)
    try:
        with limits:
            yield
    finally:
        numfuse.set_num_threads(before)


def _integer(minimum, maximum=math.inf):
    def parse(text):
        if not (text.isascii() and text.isdigit() and minimum <= int(text) <= maximum):
            wanted = f"of at least {minimum}" if maximum == math.inf else f"from {minimum} to {maximum}"
            raise argparse.ArgumentTypeError(f"{text!r} is not an integer {wanted}")
        return int(text)

    return parse


def _number(minimum, below=math.inf, positive=False):
    def parse(text):
        with contextlib.suppress(ValueError):
            if minimum <= float(text) < below and not (positive and float(text) == minimum):
                return float(text)
        least = "above" if positive else "of at least"
        limit = "" if below == math.inf else f" and below {below}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a number {least} {minimum}{limit}")

    return parse


def _sizes(text):
    size = _integer(1, 2**20)  # NumPy can count the bytes of a weight between two such layers
    return [] if text == "none" else [size(part.strip()) for part in text.split(",")]
