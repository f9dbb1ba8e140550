import weakref
from itertools import chain

import numpy as np

from .. import native
from .checks import check_like, check_overlap, check_param


class Call:
    """What one kernel call updates: the parameters of one dtype in one group, and their state."""

    def __init__(self, group, members, order, dtype):
        self.group = group  # position in param_groups
        self.members = members  # positions in the group's "params"
        self.order = order  # positions in the order of the parameters over all groups
        self.dtype = dtype
        self.steps = np.zeros(len(members), dtype=np.int64)
        self.state = {}  # name of a kind of state -> its arrays
        self.options = []  # the very objects in the group when the rest was last prepared
        self.lists, self.keywords = (), {}  # what follows params and grads


def references(work):
    """Weak references to all arrays of some calls, which do not keep a step's gradients in memory."""
    return [weakref.ref(array) for _, _, *lists in work for array in chain(*lists) if array is not None]


def state_array(param):
    """An array for state of `param`, like it and filled with anything.

    NumPy's large arrays all begin at the same place in a page, and a loop over several of them hinders itself:
    measured, a step takes two thirds of the time where the state begins elsewhere.
    """
    return native.empty(param.shape, param.dtype) if param.flags.c_contiguous else np.empty_like(param, subok=False)


def marks(work):
    """What `check_arrays` depends on. Equal marks mean the same arrays for as long as their `references` are held."""
    is_free = [group["max_norm"] is None for _, group, _, _ in work]
    return is_free + [_mark(array) for _, _, *lists in work for array in chain(*lists)]


def check_arrays(keys, work):
    """All arrays of some calls must be good, and apart in memory; `keys` name the parameters."""
    keys, written, read = list(keys), [], []
    for call, group, params, grads in work:
        for k, (i, param, grad) in enumerate(zip(call.order, params, grads)):
            name = f"params[{keys[i]!r}]"
            check_param(name, param)
            if param.dtype != call.dtype:
                raise TypeError(f"{name} must stay {call.dtype}, was {param.dtype}")
            for state_name, arrays in call.state.items():
                check_like(name, param, f"its {state_name}", arrays[k])
            if group["max_norm"] is not None and not param.flags.c_contiguous:
                raise ValueError(f"{name} must be C-contiguous for max_norm, with a unit's weights side by side, "
                                 f"was of shape {param.shape}, strides {param.strides}")
            written.append((name, param))
            if grad is not None:
                read.append((f"grads[{keys[i]!r}]", grad))
                try:
                    check_like(*read[-1], name, param)
                except ValueError as error:
                    if len(work) == 1 or not isinstance(keys[i], str):
                        raise
                    raise ValueError(f"{error}; a list has the order of the groups: give gradients by name") from None
    check_overlap(written, read)


def _mark(array):
    if not isinstance(array, np.ndarray):
        return id(array)
    # The id of an array goes to another one when it is freed; that of a reference which is held does not.
    return id(weakref.ref(array)), array.shape, array.strides, array.dtype, array.flags.writeable
