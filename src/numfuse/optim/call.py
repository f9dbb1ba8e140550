import numpy as np

from .. import native
from .checks import check_gradient, check_like, check_overlap, check_param


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
        self.given, self.keywords = (), {}  # what the kernel takes after params and grads
        self.arrays = ()  # what `native.check_steps` takes
        self.is_limited = False  # by max_norm


def state_array(param):
    """An array for state of `param`, like it and filled with anything.

    NumPy's large arrays all begin at the same place in a page, and a loop over several of them hinders itself:
    measured, a step takes two thirds of the time where the state begins elsewhere.
    """
    return native.empty(param.shape, param.dtype) if param.flags.c_contiguous else np.empty_like(param, subok=False)


def explain(keys, calls, grads):
    """Raise what is wrong with an array of some calls, or where it lies, in the caller's names.

    keys : those of all parameters, in order
    grads : of all parameters
    """
    keys, written, read = list(keys), [], []
    for call in calls:
        params, size, *_ = call.arrays
        if len(params) != size:
            raise ValueError(f"param_groups[{call.group}]['params'] must keep its length {size}, was {len(params)}: "
                             "use add_param_group")
        for k, (member, i) in enumerate(zip(call.members, call.order)):
            name, param, grad = f"params[{keys[i]!r}]", params[member], grads[i]
            if grad is None:  # nothing of it is looked at
                continue
            check_param(name, param)
            if param.dtype != call.dtype:
                raise TypeError(f"{name} must stay {call.dtype}, was {param.dtype}")
            for state_name, arrays in call.state.items():
                check_like(name, param, f"its {state_name}", arrays[k])
            if call.is_limited and not param.flags.c_contiguous:
                raise ValueError(f"{name} must be C-contiguous for max_norm, with a unit's weights side by side, "
                                 f"was of shape {param.shape}, strides {param.strides}: give the optimizer such an "
                                 "array from the beginning, since the state lies in memory as it does")
            written.append((name, param))
            grad_name = f"grads[{keys[i]!r}]"
            try:
                check_gradient(grad_name, grad, name, param)
            except ValueError as error:
                if len(calls) == 1 or not isinstance(keys[i], str):
                    raise
                raise ValueError(f"{error}; a list has the order of the groups: give gradients by name") from None
            if isinstance(grad, np.ndarray) and grad.strides == param.strides:  # others are copied
                read.append((grad_name, grad))
    check_overlap(written, read)
