"""What a rival is, and the check that it does the same work as numfuse, so that no one is timed doing less."""

import copy
import math
from typing import Callable, NamedTuple

import numpy as np

from .. import native
from .case import ROUNDING, arrays, state_names

# A gradient is a sum of products of either sign: its rounding is some 1e-7 of the largest one, and an Adam
# step with eps = 1e-3 magnifies that by 1 / eps where the gradient itself is small.
TRAINING_TOLERANCE = 2e-3


class Rival(NamedTuple):
    """Somebody's way to do the work of a case.

    run : does the work once; it is what is timed, and returns when all is done
    results : () -> dict of what the runs so far have come to, NumPy arrays or lists of them, by the
        names of `numfuse.reference`: the lists of a step's arguments; the "norm" of gradients; "y" or
        "grad_x", "running_mean", "running_var", "grad_weight", "grad_bias" of a layer or block; "loss" and
        "params" of a training step
    """

    run: Callable
    results: Callable


class Unsupported(Exception):
    """A rival has no such thing as the case; the message says what is missing, for people."""


class Refused(Exception):
    """A rival computed something else; the message says what, for people."""


def keeping(arguments, call):
    """The Rival of a function that does a kernel's work on `arguments` and returns what the kernel does."""
    last = []

    def run():
        last[:] = [call()]

    return Rival(run, lambda: _named(arguments, last[0]))


def check_kernel(case, arguments, make, runs=2):
    """Refused unless what `make(arguments)`, a Rival, computes in some runs is what the case's kernel does.

    `arguments` are copied, not changed.
    """
    theirs, ours = copy.deepcopy(arguments), copy.deepcopy(arguments)
    rival, kernel = make(theirs), getattr(native, case.kernel)
    tolerance = case.tolerance[arrays(arguments)[0].dtype.name]
    if "seed" in arguments and arguments["p"]:
        x = kernel(**ours | {"p": 0.0})[0]
        return _check_dropout(x, arguments["p"], rival, case.mask_shape(arguments), tolerance)
    native_rival = keeping(ours, lambda: kernel(**ours))
    for _ in range(runs):
        rival.run()
        native_rival.run()
    _check(native_rival.results(), rival.results(), arguments, tolerance)


def check_training(ours, rival, params, runs=3):
    """Refused unless two training steps without dropout, begun from `params`, agree after some runs."""
    for _ in range(runs):
        ours.run()
        rival.run()
    _check(ours.results(), rival.results(), {"params": params}, TRAINING_TOLERANCE)


def check_training_dropout(ours, rival, runs=400):
    """Refused unless the losses of two steps that differ by their dropout masks alone scatter alike."""
    losses = []
    for each in (ours, rival):
        for _ in range(runs):
            each.run()
            losses.append(each.results()["loss"])
    mean, other_mean = np.mean(losses[:runs]), np.mean(losses[runs:])
    spread, other_spread = np.std(losses[:runs], ddof=1), np.std(losses[runs:], ddof=1)
    # Standard errors of the logarithm of the spreads' quotient, and of the difference of the means in spreads.
    quotient_error, mean_error = 1 / math.sqrt(runs), math.sqrt(2 / runs)
    same_spread = other_spread > 0 and abs(math.log(other_spread / spread)) < 5 * quotient_error
    if not (same_spread and abs(other_mean - mean) < 5 * mean_error * max(spread, other_spread)):
        raise Refused(f"the loss under dropout is {other_mean:.4g} +- {other_spread:.2g}, "
                      f"not {mean:.4g} +- {spread:.2g}")


def check_block(rival, norm, p, x, grad_y):
    """Refused unless batch normalisation, ReLU and dropout of `p` are right, forward and backward, in two runs.

    rival : without a run so far
    norm : numfuse's layer of the normalisation alone. Whichever elements dropout kept, the gradients must be
        those of the output.
    """
    y, tolerance = np.maximum(norm.forward(x), 0), ROUNDING[x.dtype.name]
    if p:
        _check_dropout(y, p, rival, y.shape, tolerance)
    else:
        rival.run()
        rival.run()
        _check({"y": y}, rival.results(), {}, tolerance)
    found = rival.results()
    norm.forward(x)
    grad_x = norm.backward(np.where(found["y"] != 0, grad_y / x.dtype.type(1 - p), x.dtype.type(0)))
    names = "grad_weight", "grad_bias", "running_mean", "running_var"
    expected = {"grad_x": grad_x} | {name: getattr(norm, name) for name in names}
    _check(expected, found, {}, tolerance)


def _named(arguments, result):
    if state := state_names(arguments):
        return {name: arguments[name] for name in state}
    if isinstance(result, float):
        return {"norm": result}
    if isinstance(result, tuple) and isinstance(result[0], float):
        return {"loss": result[0], "grad": result[1]}
    updated = ["running_mean", "running_var"] if "momentum" in arguments else ["grad_weight", "grad_bias"]
    named = {name: arguments[name] for name in updated if arguments.get(name) is not None}
    if result is None:
        return named
    return named | {"grad_x" if "grad_y" in arguments else "y": _list(result)[0]}


def _check(expected, actual, before, tolerance):
    for name, values in expected.items():
        if name not in actual:
            raise Refused(f"gives no {name}")
        wanted, found = _list(values), _list(actual[name])
        if len(wanted) != len(found):
            raise Refused(f"{name} holds {len(found)} arrays, not {len(wanted)}")
        earlier = _list(before[name]) if name in before else [0.0] * len(wanted)
        for want, got, was in zip(wanted, found, earlier):
            _compare(name, want, got, was, tolerance)


def _compare(name, want, got, was, tolerance):
    if np.shape(want) != np.shape(got):
        raise Refused(f"{name} has shape {np.shape(got)}, not {np.shape(want)}")
    if isinstance(want, np.ndarray) and want.dtype != np.asarray(got).dtype:
        raise Refused(f"{name} is {np.asarray(got).dtype}, not {want.dtype}")
    if np.size(want) == 0:
        return
    rounding = 4 * np.finfo(want.dtype).eps if isinstance(want, np.ndarray) else 0.0
    allowed = tolerance * np.abs(want - was).max() + rounding * np.abs(want).max()
    difference = np.abs(got - want).max()
    if not difference <= allowed:
        raise Refused(f"{name} is off by {difference:.3g}, where {allowed:.2g} is rounding")


def _check_dropout(x, p, rival, units, tolerance, parts=16):
    """Every part of x, what is there without dropout, must keep its share; every run must draw another mask.

    `units` is the shape of what is kept or dropped as a whole, which broadcasts to x's.
    """
    first_of_unit = tuple(map(slice, units))
    masks, present = [], x[first_of_unit] != 0
    for _ in range(2):
        rival.run()
        y = rival.results()["y"].copy()
        masks.append(y[first_of_unit] != 0)
        for kept in np.array_split(masks[-1][present], parts):
            expected = (1 - p) * kept.size
            if abs(np.count_nonzero(kept) - expected) > 6 * math.sqrt(expected * p) + 1:
                raise Refused(f"keeps {np.count_nonzero(kept)} of {kept.size} elements, not about {expected:.0f}")
        kept_x = np.where(masks[-1], x / x.dtype.type(1 - p), x.dtype.type(0))
        _compare("y", kept_x, y, 0.0, tolerance)
    if np.array_equal(*masks):
        raise Refused("drops the same elements again")


def _list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]
