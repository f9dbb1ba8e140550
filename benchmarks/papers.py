"""What the papers found, found again on real data: one command an experiment, which prints a table and draws curves.

    python benchmarks/papers.py dropout MNIST       # Srivastava et al. 2014: dropout and max-norm
    python benchmarks/papers.py batch_norm MNIST    # Ioffe and Szegedy 2015, section 4.1
    python benchmarks/papers.py optimizers MNIST    # SGD, momentum, RMSProp and Adam from one start
    python benchmarks/papers.py l1 TABLE            # L1 by proximal steps finds the columns that are noise

MNIST is a folder with the four idx files, TABLE a file with a column "target", as `numfuse train` takes them.
"""

import argparse
import contextlib
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from threadpoolctl import threadpool_limits

import numfuse
from numfuse import nn, optim
from numfuse.data import DataError, Standardize, load
from numfuse.train import evaluate, fit


def mlp(inputs, hidden, outputs, rng, *, activation=nn.ReLU, batch_norm=False, dropout=None, init=None):
    """A multilayer perceptron; `dropout` of the inputs and of the hidden units, `init(weight)` for the first values."""
    layers = [nn.Dropout(dropout[0], rng=rng)] if dropout else []
    for width in hidden:
        layers.append(nn.Linear(inputs, width, rng=rng))
        layers += [nn.BatchNorm1d(width)] if batch_norm else []
        layers.append(activation())
        layers += [nn.Dropout(dropout[1], rng=rng)] if dropout else []
        inputs = width
    net = nn.Sequential(*layers, nn.Linear(inputs, outputs, rng=rng))
    for layer in net:
        if init and isinstance(layer, nn.Linear):
            init(layer.weight)
    return net


def train(net, optimizer, x, y, **options):
    return fit(net, nn.CrossEntropyLoss(), optimizer, x, y, **options)


def error(net, data):
    """Test rows classified wrongly, in percent."""
    return 100 * (1 - evaluate(net, data.x_test, data.y_test))


def images(path):
    """MNIST as rows of pixels from 0 to 1."""
    data = load(path)
    data.x_train, data.x_test = (x.reshape(len(x), -1).astype(np.float32) / 255 for x in (data.x_train, data.x_test))
    return data


def dropout(args):
    """Srivastava et al. 2014, table 2: dropout and max-norm against the same net without, on MNIST's pixels.

    Three hidden layers of ReLU. Dropout of 0.2 of the inputs and 0.3 of the hidden units, the weights into every
    unit kept to a norm of at most 2. In the paper, with 1024 units, the error falls from 1.60 % to 1.06 %.
    """
    figure, axes = plot(f"MNIST, ReLU net 784-{args.width}-{args.width}-{args.width}-10", "epoch", "test error (%)")
    kinds = ("plain", "dropout and max-norm")
    runs = [(args, kind, seed) for seed in range(args.seeds) for kind in kinds]
    last = {kind: [] for kind in kinds}
    with ProcessPoolExecutor(args.jobs) as pool:
        for (_, kind, seed), (curve, seconds) in zip(runs, pool.map(dropout_run, *zip(*runs))):
            last[kind].append(curve[-1])
            print(f"{kind:<20} seed {seed}: test error {curve[-1]:.2f} % ({seconds:.0f} s)", flush=True)
            axes.plot(range(1, len(curve) + 1), curve, f"C{kinds.index(kind)}", lw=1, label=None if seed else kind)
    print("mean of the seeds: " + ", ".join(f"{kind} {np.mean(errors):.3f} %" for kind, errors in last.items()))
    axes.set_ylim(0.8, 4)
    return figure


def dropout_run(args, kind, seed):
    """The test error after each epoch, and the seconds that training took."""
    data, drops = images(args.data), kind != "plain"
    net = mlp(784, [args.width] * 3, 10, np.random.default_rng(seed), dropout=(0.2, 0.3) if drops else None,
              init=nn.init.kaiming_normal)
    limits = {"*.weight": {"max_norm": 2.0}} if drops else {}
    optimizer = optim.Adam(optim.groups_by_name(net.named_parameters(), limits), lr=1e-3)
    curve, start = [], time.perf_counter()
    with threads(args.threads):
        train(net, optimizer, data.x_train, data.y_train, epochs=args.epochs, batch_size=128, rng=seed,
              on_epoch=lambda epoch: curve.append(error(net, data)))
    return curve, time.perf_counter() - start


def batch_norm(args):
    """Ioffe and Szegedy 2015, section 4.1: three hidden layers of 100 sigmoid units, batches of 60.

    When is a net with batch normalisation as accurate as the same net without is at step 20,000?
    """
    data = images(args.data)
    every, compared = 250, 20000
    figure, axes = plot("MNIST, 3 x 100 sigmoid units", "training step", "test error (%)")
    for seed in range(args.seeds):
        curves = {}
        for color, kind in enumerate(("plain", "batch norm")):
            rng = np.random.default_rng(seed)
            net = mlp(784, [100] * 3, 10, rng, activation=nn.Sigmoid, batch_norm=kind != "plain",
                      init=lambda weight: np.copyto(weight, rng.normal(0, 0.04, weight.shape)))
            curve = curves[kind] = []

            def note(epoch):
                if epoch.batch % every == 0:
                    curve.append(error(net, data))
                    net.train()

            train(net, optim.SGD(net.parameters(), lr=0.1), data.x_train, data.y_train, epochs=args.epochs,
                  batch_size=60, rng=seed, schedule="constant", on_batch=note)
            steps = np.arange(1, len(curve) + 1) * every
            axes.plot(steps, curve, f"C{color}", lw=1, label=kind if seed == 0 else None)
        plain, normed = curves.values()
        wanted = plain[compared // every - 1]
        reached = next((f"{step:,}" for step, value in zip(steps, normed) if value <= wanted), "none")
        print(f"seed {seed}: test error {wanted:.2f} % is reached without batch norm at step {compared:,}, with it at "
              f"step {reached}; in the end {plain[-1]:.2f} % and {normed[-1]:.2f} %", flush=True)
    axes.set_ylim(1, 15)
    return figure


def optimizers(args):
    """SGD, momentum in both forms, RMSProp and Adam on the same batches from the same initial values."""
    data = images(args.data)
    choices = {
        "SGD, lr 0.1": (optim.SGD, {"lr": 0.1}),
        "momentum 0.9, running average, lr 0.1": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "running_average": True}),
        "momentum 0.9, heavy ball, lr 0.1": (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        "RMSProp, lr 0.001": (optim.RMSProp, {"lr": 1e-3}),
        "Adam, lr 0.001": (optim.Adam, {"lr": 1e-3}),
    }
    every = 100
    figure, axes = plot("MNIST, ReLU net 784-256-128-10: one start, the same batches", "training step",
                        f"training loss (nats), mean of {every} steps")
    for name, (make, options) in choices.items():
        net, losses = mlp(784, [256, 128], 10, np.random.default_rng(0), init=nn.init.kaiming_normal), []
        seen = [0.0]

        def note(epoch):
            total = epoch.loss * epoch.batch  # epoch.loss is the mean of the epoch so far
            losses.append(total - (seen[0] if epoch.batch > 1 else 0.0))
            seen[0] = total

        train(net, make(net.parameters(), **options), data.x_train, data.y_train, epochs=args.epochs, batch_size=100,
              rng=0, schedule="constant", on_batch=note)
        means = np.reshape(losses[: len(losses) // every * every], (-1, every)).mean(axis=1)
        axes.plot(np.arange(1, len(means) + 1) * every, means, lw=1.2, label=name)
        print(f"{name:<38} training loss of the first {every} steps {means[0]:.3f}, of the last {means[-1]:.4f}; "
              f"test error {error(net, data):.2f} %", flush=True)
    axes.set_yscale("log")
    return figure


def l1(args):
    """A table with 100 columns of noise added: L1 on the first layer's weights, by proximal steps, against none.

    Every step takes lr * l1 off each weight. Adam's own steps are lr times the gradient in units of its root mean
    square: so l1 is how clear a gradient must be, beside its noise from batch to batch, to keep a weight from 0.
    """
    data, noise = load(args.data), 100
    if data.x_train.ndim != 2 or not data.classes:
        raise DataError(f"{args.data}: must be a table with classes to predict")
    scale = Standardize().fit(data.x_train)
    figure, axes = plot("L1 by proximal steps: first layer of a table and 100 columns of noise", "column",
                        "largest weight in magnitude")
    results = []
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        x_train, x_test = (np.hstack([scale(x), rng.standard_normal((len(x), noise), dtype=np.float32)])
                           for x in (data.x_train, data.x_test))
        accuracy = {}
        for kind, strength, columns in (("of the columns without noise", 0.0, x_train.shape[1] - noise),
                                        ("without L1", 0.0, x_train.shape[1]), ("with L1", 0.28, x_train.shape[1])):
            net = mlp(columns, [128], len(data.classes), np.random.default_rng(seed))
            groups = optim.groups_by_name(net.named_parameters(), {"0.weight": {"l1": strength, "l1_proximal": True}})
            optimizer = optim.Adam(groups, lr=5e-4, betas=(0.99, 0.999))
            train(net, optimizer, np.ascontiguousarray(x_train[:, :columns]), data.y_train, epochs=args.epochs,
                  batch_size=128, rng=seed)
            accuracy[kind] = 100 * evaluate(net, np.ascontiguousarray(x_test[:, :columns]), data.y_test)
            largest = np.abs(net[0].weight).max(axis=0)
            if seed == 0 and columns > noise:
                axes.plot(largest, "o" if strength else ".", ms=4, label=kind)
        zeros = np.count_nonzero(largest[-noise:] == 0)
        results.append([accuracy["without L1"], accuracy["with L1"], zeros])
        print(f"seed {seed}: accuracy " + ", ".join(f"{kind} {value:.2f} %" for kind, value in accuracy.items())
              + f"; all weights of {zeros} of {noise} columns of noise are 0, and of "
              f"{np.count_nonzero(largest[:-noise] == 0)} of the {len(largest) - noise} others", flush=True)
    without, with_l1, zeros = np.mean(results, axis=0)
    print(f"mean of the seeds: {zeros:.0f} columns of noise at 0; accuracy {without:.2f} % without L1, "
          f"{with_l1:.2f} % with")
    return figure


@contextlib.contextmanager
def threads(n):
    """Let the kernels and the matrix products use n threads."""
    numfuse.set_num_threads(n)
    with threadpool_limits(n, user_api="blas"):
        yield


def plot(title, x, y):
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.3)
    return figure, axes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="EXPERIMENT")
    experiments = {dropout: {"seeds": 3, "epochs": 60, "width": 512, "jobs": 1}, batch_norm: {"seeds": 3, "epochs": 30},
                   optimizers: {"epochs": 5}, l1: {"seeds": 3, "epochs": 100}}
    for run, numbers in experiments.items():
        command = commands.add_parser(run.__name__, description=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("data", type=Path, help="a folder of idx files, or for l1 a table")
        command.add_argument("--plot", type=Path, default=Path(f"{run.__name__}.png"), help="(default: %(default)s)")
        for name, value in ({"threads": 1} | numbers).items():
            command.add_argument(f"--{name}", type=int, default=value, metavar="N", help="(default: %(default)s)")
    args = parser.parse_args()
    try:
        with threads(args.threads):
            figure = args.run(args)
    except DataError as problem:
        sys.exit(f"papers.py: error: {problem}")
    figure.axes[0].legend()
    figure.savefig(args.plot, dpi=150)
    print(f"curves drawn in {args.plot}")


if __name__ == "__main__":
    main()
