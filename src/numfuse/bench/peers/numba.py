"""Numba: the formulas as loops, which is what a NumPy user writes instead of C.

Loops run in the arrays' dtype, sums in double; what hangs on an argument of None is left out when they are compiled.
They stand inside cached functions, which import Numba, and are compiled once for each kind of arguments.
"""

from functools import cache, partial

import numba

from ..rivals import Rival


def configure(threads):
    numba.set_num_threads(threads)


def versions():
    return {"numba": numba.__version__}


def call(loops, *arguments):
    """`loops` compiled for these arguments, as a function without any.

    Loops that add up set an attribute `sums`, so that the order of their sums may change.
    """
    compiled = _compiled(loops, parallel=numba.get_num_threads() > 1)
    compiled.compile(tuple(map(numba.typeof, arguments)))
    return partial(compiled, *arguments)


@cache
def _compiled(loops, parallel):
    # Python's error model looks for zero at each division, and then nothing is vectorised; nor are sums whose
    # order is kept, which is all that fastmath may change here.
    fastmath = {"reassoc", "nsz", "contract"} if getattr(loops, "sums", False) else False
    return numba.njit(loops, parallel=parallel, error_model="numpy", fastmath=fastmath)


def unless_one(factor):
    """The factor, or None, with which loops leave it out, if it is 1."""
    return None if factor == 1 else factor


def scalars(array, *values):
    """The values in the dtype of `array`, since with a Python float among them loops would run in double."""
    return [None if value is None else array.dtype.type(value) for value in values]


def tensors(lists):
    """The lists' arrays, flattened, as one tuple a tensor; None in it for a list that is None."""
    columns = ([None] * len(lists["params"]) if arrays is None else arrays for arrays in lists.values())
    return [[array if array is None else array.reshape(-1) for array in arrays] for arrays in zip(*columns)]


def step(lists, calls):
    """The rival that runs all calls of an optimizer step, which update the lists."""
    results = {name: arrays for name, arrays in lists.items() if name != "grads"}
    return rival(lambda: [call() for call in calls], results)


def rival(run, results):
    """The rival whose runs write into arrays by these names; some may be None."""
    results = {name: value for name, value in results.items() if value is not None}
    return {"numba": Rival(run, lambda: results)}
