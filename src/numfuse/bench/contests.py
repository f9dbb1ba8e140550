"""What is measured: work that several rivals do on arrays they share, and the limit that the machine sets.

A contest has `row`, a dict of what identifies it; `arguments()`, fresh arrays for one timing; and from such
arguments `ours`, `limits` and the `rivals` by source, the source being a version in NumPy or a peer.
`check(source, label)` raises Refused if a rival computes something else. `trial` is a contest of the same
kind in which rivals are checked. `in_l1(arguments)` are two of the same kind, on more and on fewer elements, whose
arrays lie in the L1 cache: their times differ by that of the arithmetic alone. Where there is none, it is empty.
"""

import functools
import inspect
import math
from dataclasses import dataclass, replace

import numpy as np

from .. import native, nn, optim
from . import peers, textbook
from .case import IMAGES, Case, arrays, merge
from .limits import streams, traffic, two_in_l1
from .operations import OPTIMIZERS, find
from .places import apart
from .results import ONE_GROUP
from .rivals import Rival, check_block, check_kernel, check_training, check_training_dropout, keeping
from .training import TrainingStep

TRIAL = 1 << 16  # elements on which rivals are checked
BLOCKS = (128, 256), (1024, 512), IMAGES[1]


@dataclass(frozen=True)
class KernelContest:
    """One kernel on arrays of one size (or shape, for batch normalisation)."""

    case: Case
    size: int | tuple
    dtype: str

    in_numpy = "textbook", "in_place"
    uses_blas = False  # whose threads are set once and for all

    @property
    def row(self):
        shape = list(self.size) if isinstance(self.size, tuple) else [self.size]
        return {"case": self.case.name, "group": self.case.group, "shape": shape, "elements": math.prod(shape),
                "dtype": self.dtype}

    @property
    def trial(self):
        size = self.size
        return replace(self, size=_fewer(size) if isinstance(size, tuple) else max(min(size, TRIAL), 1024))

    def arguments(self):
        return apart(self._make(self.case.steady_arguments, seed=0))

    def describe(self, arguments):
        """What the arrays add to the row."""
        first = arrays(arguments)[0]
        return {"shape": list(first.shape), "elements": first.size,
                **traffic(self.passes(arguments), arrays(arguments))}

    def in_l1(self, arguments):
        touched = arrays(arguments)
        shapes = two_in_l1(touched[0], touched)
        return [replace(self, size=shape if len(shape) > 1 else shape[0]) for shape in shapes]

    def ours(self, arguments):
        return _as_written(getattr(native, self.case.kernel), arguments)

    def passes(self, arguments):
        """What must be read and written, pass after pass; see `Case`."""
        return self.case.passes(arguments)

    def limits(self, arguments):
        return streams(self.passes(arguments))

    def rivals(self, source, arguments):
        # The arrays are shared, so that all find the same memory; the lists are not, since some put
        # new arrays into them.
        own = {name: list(value) if isinstance(value, list) else value for name, value in arguments.items()}
        if source in self.in_numpy:
            return {source: keeping(own, getattr(self.case, source)(own))}
        return peers.rivals(source, self.case.kernel, **own)

    def check(self, source, label):
        arguments = self._make(self.case.arguments, seed=1)
        check_kernel(self.case, arguments, lambda own: self.rivals(source, own)[label])

    def _make(self, make, seed):
        return make(self.size, np.dtype(self.dtype).type, np.random.default_rng(seed))


@dataclass(frozen=True)
class SmallTensorsContest(KernelContest):
    """An optimizer's whole step over ten tensors: what calling costs, not computing."""

    tensors = 10

    @property
    def row(self):
        name = OPTIMIZERS[self.case.name].func.__name__
        shape = [self.tensors, self.size]
        return {**super().row, "case": f"optim.{name}.step", "shape": shape, "elements": math.prod(shape)}

    @property
    def trial(self):
        return self

    def arguments(self):
        return self._make(self.case.steady_arguments, seed=0)

    def describe(self, arguments):
        return {"bytes": None, "data": "L2"}

    def in_l1(self, arguments):
        return []

    def ours(self, arguments):
        optimizer = OPTIMIZERS[self.case.name](arguments["params"], lr=arguments["lr"])
        return functools.partial(optimizer.step, arguments["grads"])

    def limits(self, arguments):
        return {}

    def _make(self, make, seed):
        rng, dtype = np.random.default_rng(seed), np.dtype(self.dtype).type
        return merge([make(self.size, dtype, rng) for _ in range(self.tensors)])


@dataclass(frozen=True)
class GroupsContest(SmallTensorsContest):
    """A whole step of AdamW in two groups, of weights that decay and biases that do not, against one of all arrays."""

    tensors: int = 10

    in_numpy = (ONE_GROUP,)

    @property
    def row(self):
        return {**super().row, "case": "optim.AdamW.step groups"}

    def ours(self, arguments):
        params, grads = (_named(arguments[name]) for name in ("params", "grads"))
        optimizer = optim.AdamW(optim.decay_groups(params, weight_decay=0.01), lr=arguments["lr"])
        return functools.partial(optimizer.step, grads)

    def rivals(self, source, arguments):
        if source != ONE_GROUP:
            return {}
        params, grads = (_named(arguments[name]) for name in ("params", "grads"))
        optimizer = optim.AdamW(params, lr=arguments["lr"])
        return {source: Rival(functools.partial(optimizer.step, grads), lambda: {"params": list(params.values())})}

    def check(self, source, label):
        """Its one group decays as a whole, so that results differ; the arrays and the work on each are the same."""


@dataclass(frozen=True)
class RegularizedStepContest(KernelContest):
    """A whole step of Adam with all that there is: its one pass, and one for the norm that gradients are clipped by."""

    in_numpy = ()

    @property
    def row(self):
        return {**super().row, "case": "optim.Adam.step clipped regularized"}

    def ours(self, arguments):
        options = {name: arguments[name] for name in ("lr", "eps", "weight_decay", "l1", "max_grad_value", "ema_decay")}
        optimizer = optim.Adam(
            arguments["params"], **options, decoupled_weight_decay=arguments["decoupled"],
            l1_proximal=arguments["proximal"], max_grad_norm=1.0)
        return functools.partial(optimizer.step, arguments["grads"])

    def passes(self, arguments):
        return [(arguments["grads"], [], []), *super().passes(arguments)]

    def rivals(self, source, arguments):
        return {}


@dataclass(frozen=True)
class BlockContest:
    """Batch normalisation, ReLU and dropout of `p` in a Sequential: forward, and backward of a given gradient."""

    shape: tuple
    p: float = 0.2

    in_numpy = ("textbook",)
    uses_blas = False
    dtype = "float32"

    @property
    def row(self):
        return {"case": "BatchNorm ReLU Dropout", "group": "fused", "shape": list(self.shape),
                "elements": math.prod(self.shape), "dtype": self.dtype}

    @property
    def trial(self):
        return replace(self, shape=_fewer(self.shape))

    def arguments(self):
        rng = np.random.default_rng(0)
        x, grad_y = (rng.standard_normal(self.shape, dtype=np.float32) for _ in range(2))
        weight, bias = rng.standard_normal((2, self.shape[1]), dtype=np.float32)
        x = 2 * x + 1  # other statistics than those that a layer begins with
        return apart({"x": x, "grad_y": grad_y, "weight": weight, "bias": bias})

    def describe(self, arguments):
        passes = self._passes(arguments)
        return traffic(passes, [array for one in passes for group in one for array in group])

    def in_l1(self, arguments):
        return [replace(self, shape=shape) for shape in two_in_l1(arguments["x"], arrays(arguments))]

    def ours(self, arguments):
        return self._layers(native, **arguments).run

    def limits(self, arguments):
        return streams(self._passes(arguments))

    def rivals(self, source, arguments):
        if source in self.in_numpy:
            return {source: self._layers(textbook, **arguments)}
        return peers.rivals(source, "block", **arguments, p=self.p)

    def check(self, source, label):
        for p in dict.fromkeys((0.0, self.p)):
            contest, arguments = replace(self, p=p), self.arguments()
            norm = self._norm(arguments["weight"], arguments["bias"])
            check_block(contest.rivals(source, arguments)[label], norm, p, arguments["x"], arguments["grad_y"])

    def _layers(self, backend, x, grad_y, weight, bias):
        norm = self._norm(weight, bias)
        net, last = nn.Sequential(norm, nn.ReLU(), nn.Dropout(self.p, rng=0)).set_backend(backend), {}

        def run():
            last["y"] = net.forward(x)
            last["grad_x"] = net.backward(grad_y)

        def results():
            names = "grad_weight", "grad_bias", "running_mean", "running_var"
            return last | {name: getattr(norm, name) for name in names}

        return Rival(run, results)

    def _norm(self, weight, bias):
        norm = (nn.BatchNorm1d if len(self.shape) == 2 else nn.BatchNorm2d)(self.shape[1])
        norm.weight[...], norm.bias[...] = weight, bias
        return norm

    def _passes(self, arguments):
        x, grad_y = arguments["x"], arguments["grad_y"]
        of_each = {"forward": {"x": x}, "backward": {"x": x, "grad_y": grad_y}}
        return [one for name, reads in of_each.items()
                for one in find(f"batch_norm_relu_dropout_{name} p=0.2").passes(
                    reads | {"axis": 1, "out": np.empty_like(x)})]


@dataclass(frozen=True)
class TrainingContest:
    """One whole training step of a small net."""

    work: TrainingStep

    in_numpy = ("textbook",)
    uses_blas = True
    dtype = "float32"

    @property
    def row(self):
        shape = [self.work.batch, self.work.inputs, *self.work.hidden, self.work.outputs]
        layers = zip(shape[1:], shape[2:])
        return {"case": self.work.name, "group": "training steps", "shape": shape, "dtype": self.dtype,
                "elements": sum(inputs * outputs for inputs, outputs in layers)}

    @property
    def trial(self):
        work = self.work
        hidden = tuple(min(width, 64) for width in work.hidden)
        return TrainingContest(replace(work, inputs=min(work.inputs, 64), hidden=hidden, batch=min(work.batch, 64)))

    def arguments(self):
        return self.work.arrays(np.random.default_rng(0))

    def describe(self, arguments):
        return {"bytes": None, "data": None}

    def in_l1(self, arguments):
        return []

    def ours(self, arguments):
        return self.work.ours(*arguments, native).run

    def limits(self, arguments):
        return {"matmul": self.work.products(*arguments)}

    def rivals(self, source, arguments):
        if source in self.in_numpy:
            return {source: self.work.ours(*arguments, textbook)}
        return peers.rivals(source, "training_step", self.work, *arguments)

    def check(self, source, label):
        # Libraries put eps into the bias correction or not: without a second moment's memory it is the same.
        exact = TrainingContest(replace(self.work, dropout=0.0, lr=1e-3, betas=(0.9, 0.0), eps=1e-3))
        arguments = exact.arguments()
        ours, theirs = exact.work.ours(*arguments, native), exact.rivals(source, arguments)[label]
        check_training(ours, theirs, arguments[0])
        if self.work.dropout:
            arguments = self.arguments()
            check_training_dropout(self.work.ours(*arguments, native), self.rivals(source, arguments)[label])


def _named(arrays):
    """A layer's weight and bias by turns, by name: views of the arrays, of which each second gets two dimensions."""
    return {f"{i // 2}.bias" if i % 2 else f"{i // 2}.weight": array if i % 2 else array.reshape(-1, 4)
            for i, array in enumerate(arrays)}


def _as_written(function, arguments):
    """The call that a user writes: arrays by position, and by keyword the options that differ from their defaults.

    Compiled, since a `partial` copies its keywords at each call, which takes as long as a small kernel.
    """
    words, by_position = [], True
    for name, parameter in inspect.signature(function).parameters.items():
        value = arguments.get(name, parameter.default)
        if isinstance(value, (np.ndarray, list)) or value != parameter.default:
            by_position = by_position and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            words.append(name if by_position else f"{name}={name}")
        else:
            by_position = False
    return eval(f"lambda: _kernel({', '.join(words)})", {"_kernel": function, **arguments})


def _fewer(shape):
    """The shape with as few rows as the check of a rival needs."""
    return min(shape[0], max(2, shape[0] * TRIAL // math.prod(shape))), *shape[1:]
