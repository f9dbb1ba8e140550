"""Two commits timed against each other, so that a developer sees what a change made slower.

    python benchmarks/compare_commits.py main HEAD                  # two revisions of the repository of this folder
    python benchmarks/compare_commits.py main . --cases 'adam*'     # a revision and a checkout as it is
    python benchmarks/compare_commits.py main --control             # main against itself: how noise looks
    git bisect run python ../compare_commits.py GOOD HEAD --keep ../environments --cases adam_16Ki

The last takes a copy from outside the repository, since bisecting replaces this file. The exit code is 1 if a case is
slower beyond noise, 125 if a commit cannot be built or no case timed, 130 after Ctrl-C, else 0.

Each commit is installed in an environment of its own, and processes of both take turns, with one thread. A turn is made
of short pieces, and its time is the lowest decile of theirs, in CPU time: what else the machine does hardly shows. The
ratio new / old is taken in every pair of turns. In every round processes are new, and arrays lie elsewhere in memory,
for both alike: such luck lasts as long as a process and may be worth several percent.

A case is slower if the median of all ratios is above 1.05 and the 99 % confidence interval of the median of a round, by
the sign test, is above 1; faster if they are below 1 / 1.05 and 1. With fewer than 8 rounds nothing is judged.
`--control` shows how calm that is. What remains may be real and yet no change of code: a function that is shorter moves
all behind it, and the same instructions 16 bytes away were seen to take 4 % longer.
"""

import argparse
import fnmatch
import gc
import importlib
import io
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections import defaultdict, namedtuple
from pathlib import Path
from shutil import copytree, ignore_patterns

import numpy as np

PAIRS = 4  # of turns, of a case in one round
PIECE = 3e-4  # seconds, at least: short, as quiet moments are
CHANGE = 1.05  # the least ratio that counts
CHANCE = 0.01  # that the median of a round is outside of its confidence interval
SLOWER, CANNOT_TELL, INTERRUPTED = 1, 125, 130  # exit codes as `git bisect run` understands them
VARIABLES = {  # of the processes: one thread, and memory that is not given back to the system
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "VECLIB_MAXIMUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=1099511627776",
}
LR = 1e-9  # parameters stay ordinary numbers after any number of steps

Environment = namedtuple("Environment", "label package numpy python")
Summary = namedtuple("Summary", "old new ratio quartiles interval judgement")


def array(dtype, *shape):
    """Numbers from 0 to 1, or any bits, always the same, at a random line of a page."""
    values = (np.random.default_rng(0).random(shape) * (1 << 32 if dtype == "u4" else 1)).astype(dtype)
    memory = np.empty(values.nbytes + 2 * 4096, np.uint8)
    start = -memory.ctypes.data % 4096 + 64 * random.randrange(64)
    placed = memory[start:start + values.nbytes].view(dtype).reshape(shape)
    placed[...] = values
    return placed


def kernel(name, *arrays, **options):
    def make(package):
        function, arguments = getattr(package.native, name), [array(*each) for each in arrays]
        return lambda: function(*arguments, **options)
    return make


def step(name, shapes, *, decaying=False, **options):
    def make(package):
        params, grads = ({str(i): array("f4", *shape) for i, shape in enumerate(shapes)} for _ in range(2))
        groups = package.optim.decay_groups(params, weight_decay=0.01) if decaying else params
        optimizer = getattr(package.optim, name)(groups, lr=LR, **options)
        return lambda: optimizer.step(grads)
    return make


def layers(build, *shape):
    """Forward and backward through `build(nn)`."""
    def make(package):
        net, x, grad_y = build(package.nn), array("f4", *shape), array("f4", *shape)
        return lambda: (net.forward(x), net.backward(grad_y))
    return make


def loss(name, *shape):
    def make(package):
        criterion, prediction, target = getattr(package.nn, name)(), array("f4", *shape), array("f4", *shape)
        if name == "CrossEntropyLoss":
            target = np.arange(shape[0]) % shape[1]
        return lambda: (criterion.forward(prediction, target), criterion.backward())
    return make


def training(rows, *widths):
    """A training step of a multilayer perceptron."""
    def make(package):
        nn, hidden = package.nn, []
        for inputs, outputs in itertools.pairwise(widths[:-1]):
            hidden += [nn.Linear(inputs, outputs, rng=0), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(0.5, rng=0)]
        net, criterion = nn.Sequential(*hidden, nn.Linear(*widths[-2:], rng=0)), nn.CrossEntropyLoss()
        optimizer = package.optim.Adam(net.parameters(), lr=LR)
        x, target = array("f4", rows, widths[0]), np.arange(rows) % widths[-1]

        def train():
            criterion.forward(net.forward(x), target)
            net.backward(criterion.backward(), input_grad=False)
            optimizer.step(net.gradients())
        return train
    return make


def define_cases():
    """Dict of name -> function of the package that makes a call to be timed; public names alone are used."""
    cases = {}
    for size, shapes in {"16Ki": [(128, 128)], "1Mi": [(1024, 1024)], "10x1000": 5 * [(10, 100), (1000,)]}.items():
        cases |= {f"sgd_{size}": step("SGD", shapes, momentum=0.9, nesterov=True),
                  f"rmsprop_{size}": step("RMSProp", shapes, centered=True), f"adam_{size}": step("Adam", shapes),
                  f"adamw_{size}": step("AdamW", shapes, decaying=True), f"adagrad_{size}": step("Adagrad", shapes),
                  f"grad_norm_{size}": step("SGD", shapes, max_grad_norm=1.0)}
    for size, shape in {"rows": (256, 1024), "NCHW": (32, 64, 14, 14)}.items():
        x, c, c64, options = ("f4", *shape), ("f4", shape[1]), ("f8", shape[1]), {"axis": 1, "eps": 1e-5}
        cases |= {f"batch_norm_forward_{size}": kernel("batch_norm_forward", x, c, c, c, c, momentum=0.1, **options),
                  f"batch_norm_backward_{size}": kernel("batch_norm_backward", x, x, c, c64, c64, c, c, axis=1,
                                                        training=True),
                  f"batch_norm_inference_{size}": kernel("batch_norm_inference", x, c, c, c, c, **options)}
    draw = {"seed": 1, "offset": 0}
    for (size, n), p in itertools.product({"64Ki": 1 << 16, "1Mi": 1 << 20}.items(), (0.5, 0.2)):
        cases |= {f"dropout_forward_{size}_{p}": kernel("dropout_forward", ("f4", n), p=p, inverted=True, **draw),
                  f"dropout_backward_{size}_{p}": kernel("dropout_backward", ("f4", n), ("u4", n // 32), p=p)}
    x, c, mask = ("f4", 256, 1024), ("f4", 1024), ("u4", 256 * 1024 // 32)
    grad_bias = np.zeros(1024, np.float32)
    cases |= {"bias_relu_dropout_forward": kernel("bias_relu_dropout_forward", x, c, relu=True, p=0.5, **draw),
              "bias_relu_dropout_backward": kernel("bias_relu_dropout_backward", x, mask, p=0.5, grad_bias=grad_bias)}
    cases["batch_norm_relu_dropout"] = layers(
        lambda nn: nn.Sequential(nn.BatchNorm1d(1024), nn.ReLU(), nn.Dropout(0.5, rng=0)), 256, 1024)
    cases |= {name.lower(): layers(lambda nn, name=name: getattr(nn, name)(), 256, 1024)
              for name in ("GELU", "Tanh", "Softmax")}
    cases |= {name.removesuffix("Loss").lower(): loss(name, 1024, 64)
              for name in ("CrossEntropyLoss", "MSELoss", "HuberLoss", "BCEWithLogitsLoss")}
    return cases | {"train_tiny": training(32, 4, 64, 64, 2), "train_mlp": training(128, 784, 256, 256, 10)}


CASES = define_cases()


def work(package):
    """Answer lines of JSON: {"make": case, "seed": number}, then {"time": (pieces, repeats)} any number of times."""
    package, call = importlib.import_module(package), None
    package.set_num_threads(1)
    gc.disable()
    for request in map(json.loads, sys.stdin):
        try:
            if "make" in request:
                call = None
                gc.collect()
                random.seed(request["seed"])
                call, answer = CASES[request["make"]](package), {}
            else:
                answer = {"seconds": seconds(call, *request["time"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def seconds(call, pieces, repeats):
    """CPU seconds of a call, after one that is not timed: the lowest decile of pieces of some calls each."""
    call()
    times = []
    for _ in range(pieces):
        piece = itertools.repeat(None, repeats)
        start = time.process_time()
        for _ in piece:
            call()
        times.append((time.process_time() - start) / repeats)
    return float(np.quantile(times, 0.1))


class Worker:
    """A process in an environment that answers requests; RuntimeError for what a case raises there."""

    def __init__(self, environment):
        self._label = environment.label
        self._process = subprocess.Popen(  # in a session of its own: Ctrl-C is the parent's business
            [environment.python, "-I", __file__, "--worker", environment.package], text=True, start_new_session=True,
            env=os.environ | VARIABLES, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, **request):
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"the process of {self._label} ended at {request}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self._label}: {answer['error']}")
        return answer

    def stop(self):
        self._process.kill()
        self._process.communicate()


def install(what, folder, keep):
    """The environment of a revision of the repository here, or of a checkout. `keep` has those of revisions."""
    source = Path(tempfile.mkdtemp(dir=folder))
    if Path(what, "pyproject.toml").is_file():
        label, home = what, source / "environment"
        left_out = ignore_patterns(".git", ".venv", "build", "dist", "*.egg-info", "*.so", "native.c", "__pycache__")
        copytree(what, source, dirs_exist_ok=True, ignore=left_out)
    else:
        commit = output("git", "rev-parse", "--verify", f"{what}^{{commit}}").decode().strip()
        label, home = f"{what} ({commit[:7]})", Path(keep or folder, commit).absolute()
        root = output("git", "rev-parse", "--show-toplevel").decode().strip()
        with tarfile.open(fileobj=io.BytesIO(output("git", "-C", root, "archive", commit))) as archive:
            archive.extractall(source, filter="data")
    package = tomllib.loads((source / "pyproject.toml").read_text())["project"]["name"].replace("-", "_")
    python, done = str(home / "bin" / "python"), home / "installed"
    if not done.exists():
        print(f"Installing {label} ...", file=sys.stderr)
        output(sys.executable, "-m", "venv", "--clear", home)
        output(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source)
        done.touch()
    numpy = output(python, "-Ic", "import numpy; print(numpy.__version__)").decode().strip()
    return Environment(label, package, numpy, python)


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def plan(worker, budget):
    """How many pieces a turn of `budget` seconds has, and how many calls a piece."""
    repeats = 1
    while (spent := repeats * worker.ask(time=(3, repeats))["seconds"]) < PIECE:
        repeats *= 2
    return max(1, round(budget / spent)), repeats


def take_turns(workers, turn):
    """PAIRS pairs (old, new) of seconds; the order changes from pair to pair."""
    pairs = []
    for i in range(PAIRS + 1):
        turns = {worker: worker.ask(time=turn)["seconds"] for worker in workers[::1 - i % 2 * 2]}
        pairs.append([turns[worker] for worker in workers])
    return pairs[1:]  # the first is for caches


def race(environments, names, rounds, budget, results, failures):
    """Add the rounds of each case to `results`, and to `failures` why a case cannot be timed."""
    turns = {}
    for i in range(rounds):
        print(f"Round {i + 1} of {rounds} ...", file=sys.stderr)
        workers = [Worker(environment) for environment in environments]
        try:
            for name in random.sample(names, len(names)):
                if name in failures:
                    continue
                try:
                    seed = random.random()
                    for worker in workers:
                        worker.ask(make=name, seed=seed)
                    turns[name] = turns.get(name) or plan(workers[0], budget)
                    results[name].append(take_turns(workers, turns[name]))
                except RuntimeError as error:
                    failures[name] = str(error)
        finally:
            for worker in workers:
                worker.stop()


def summarize(rounds):
    """The summary of a case from its rounds, lists of pairs (old, new) of seconds. The rule is at the top."""
    ratios, n = [[new / old for old, new in pairs] for pairs in rounds], len(rounds)
    lower, ratio, upper = np.quantile(np.concatenate(ratios), [0.25, 0.5, 0.75])
    medians = sorted(map(np.median, ratios))
    # The chance that at most j of n medians are below the true one, or at most j above, is for j = 0, 1, ...
    chances = [2 * ways / 2**n for ways in itertools.accumulate(math.comb(n, j) for j in range(n))]
    outside = sum(chance <= CHANCE for chance in chances)
    interval = (medians[outside - 1], medians[n - outside]) if outside else None
    is_slower = interval and ratio > CHANGE and interval[0] > 1
    is_faster = interval and ratio < 1 / CHANGE and interval[1] < 1
    judgement = "slower" if is_slower else "faster" if is_faster else ""
    return Summary(*np.median(np.concatenate(rounds), axis=0), ratio, (lower, upper), interval, judgement)


def describe(environments):
    """The CPU and the two sides, as text."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")]
    sides = [f"{each.label}: {each.package}, NumPy {each.numpy}" for each in environments]
    return "; ".join([*models[:1], "old " + sides[0], "new " + sides[1]])


def show(summaries):
    """Print a table, by rich if it is there."""
    headings = ["case", "old us", "new us", "new / old", "quartiles", "interval", ""]
    rows = [[name, f"{1e6 * s.old:.1f}", f"{1e6 * s.new:.1f}", f"{s.ratio:.3f}", "{:.3f} {:.3f}".format(*s.quartiles),
             "{:.3f} {:.3f}".format(*s.interval) if s.interval else "", s.judgement] for name, s in summaries.items()]
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        widths = [max(map(len, column)) for column in zip(headings, *rows)]
        for row in [headings, *rows]:
            print(row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:]))
        return
    table = Table(*headings, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row, style={"slower": "red", "faster": "green"}.get(row[-1]))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", help="a revision of the repository of this folder, or the path of a checkout")
    parser.add_argument("new", nargs="?", help="another")
    parser.add_argument("--control", action="store_true", help="time OLD against itself: what differs is noise")
    parser.add_argument("--cases", default="*", help=f"names or patterns, by commas, of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=20, help=f"of {PAIRS} pairs of turns of each case (%(default)s)")
    parser.add_argument("--seconds", type=float, default=0.02, help="how long a turn is (%(default)s)")
    parser.add_argument("--keep", metavar="DIR", help="where environments of revisions are kept and found again")
    parser.add_argument("--json", metavar="FILE", help="where to write the seconds of all turns")
    args = parser.parse_args(arguments)
    if args.control == (args.new is not None):
        parser.error("give NEW, or --control in place of it")
    if args.rounds < 1 or not args.seconds > 0:
        parser.error("--rounds and --seconds must be positive")
    found = {pattern: fnmatch.filter(CASES, pattern) for pattern in args.cases.split(",")}
    for pattern in [pattern for pattern, names in found.items() if not names]:
        parser.error(f"--cases has {pattern!r}, which matches none of {', '.join(CASES)}")
    args.cases = list(dict.fromkeys(itertools.chain(*found.values())))
    return args


def main(arguments):
    """Compare as the arguments say, and return the exit code."""
    args, code, results, failures = parse(arguments), 0, defaultdict(list), {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            old = install(args.old, folder, args.keep)
            environments = [old, old if args.control else install(args.new, folder, args.keep)]
            print(describe(environments), flush=True)
            race(environments, args.cases, args.rounds, args.seconds, results, failures)
        except (OSError, subprocess.CalledProcessError) as error:
            print(error, file=sys.stderr)
            code = CANNOT_TELL
        except KeyboardInterrupt:
            code = INTERRUPTED
    summaries = {name: summarize(results[name]) for name in args.cases if name in results and name not in failures}
    if summaries:
        show(summaries)
    for name, reason in failures.items():
        print(f"{name} was not timed. {reason}")
    if args.json:
        Path(args.json).write_text(json.dumps({"seconds": results, "failures": failures}))
    is_slower = any(summary.judgement == "slower" for summary in summaries.values())
    return code or (CANNOT_TELL if not summaries else SLOWER if is_slower else 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:]))
