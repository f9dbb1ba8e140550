import math

import numpy as np

from .. import native
from ..backend import BackendMixin
from ..checks import number
from .call import Call, explain, state_array
from .checks import check_keys, check_overlap, check_param, flag, optional_norm
from .norm import norm_of
from .regularization import check_regularization, kernel_options
from .state import StateDictMixin

UNSCALED = 1.0  # a default that is recognised needs no check


class Optimizer(BackendMixin, StateDictMixin):
    """What all optimizers share: parameter groups, their state, and the step. Use a subclass.

    params : the arrays to update in place, float32 or float64, of any shape, contiguous, writable,
        no two sharing memory. A list; or a dict of name -> array; or a list of groups, dicts whose
        "params" is such a list or dict and whose other entries are options for this group alone.
    defaults : dict of the options of groups that do not set them

    Options that every optimizer has, for all groups or for one::

        g = min(max(g, -max_grad_value), max_grad_value)
        g = g + weight_decay * p                   or, if decoupled_weight_decay, p = p * (1 - lr * weight_decay)
        g = g + l1 * sign(p)                       0 at p = 0
        p = p - lr * ...                           the optimizer's own formula
        p = sign(p) * max(|p| - lr * l1, 0)        if l1_proximal, in place of l1 * sign(p)
        p = p * min(max_norm / norm(p), 1)         for every unit's incoming weights p
        e = e + (1 - ema_decay) * (p - e)

    decoupled_weight_decay : whether `weight_decay` shrinks the parameters (Loshchilov and Hutter 2019), not the L2
        penalty; with `l1` the latter makes an elastic net (Zou and Hastie 2005)
    l1, l1_proximal : L1 penalty, as a subgradient, or as a proximal step (Parikh and Boyd 2014), which
        sets parameters to zeros
    max_grad_value : what the elements of gradients are clipped to, > 0, or None; as PyTorch's `clip_grad_value_`
    max_norm : the largest L2 norm of the weights that come into a unit, > 0, or None (Srivastava et al. 2014): of
        what has one index along axis 0 of an array, C-contiguous, of 2 dimensions or more
    ema_decay : None, or what an exponential moving average of the parameters keeps a step, in [0, 1): the
        state "ema_param", which begins with the parameters as they are given, as PyTorch's `AveragedModel`
    maximize : whether to climb: g is taken as -g

    All but `max_norm`, which reads what has just been written, is part of the one pass over memory.

    max_grad_norm : None, or a number > 0: a step first reads all gradients for their L2 norm over all
        groups, `grad_norm` afterwards, and multiplies them by max_grad_norm / (grad_norm + 1e-6) where that
        is below 1, as PyTorch's `clip_grad_norm_` does. The arrays of gradients stay as they are.
    skip_nonfinite : whether to skip a step, whole, when a gradient has an element that is not finite, or a norm
        beyond float64. `max_grad_norm` does so too: one reading serves both.

    `param_groups` is the list of groups. Options may be changed between steps, the two for all groups too, and
    an array may be replaced by another one of its shape, dtype and memory order, which inherits its state.
    `skipped_steps` counts the steps that were skipped.

    TypeError or ValueError says what is wrong before anything is modified.
    """

    def __init__(self, params, defaults, *, decoupled_weight_decay=False, l1=0.0, l1_proximal=False,
                 max_grad_value=None, max_norm=None, ema_decay=None, maximize=False, max_grad_norm=None,
                 skip_nonfinite=False, **unknown):
        for name in unknown:
            raise TypeError(f"{type(self).__name__} has no option {name!r}; besides {', '.join(defaults)} it has those "
                            "of help(numfuse.optim.Optimizer)")
        self.defaults = {
            **defaults, "decoupled_weight_decay": decoupled_weight_decay, "l1": l1, "l1_proximal": l1_proximal,
            "max_grad_value": max_grad_value, "max_norm": max_norm, "ema_decay": ema_decay, "maximize": maximize,
        }
        self.max_grad_norm = max_grad_norm
        self.skip_nonfinite = skip_nonfinite
        self.skipped_steps = 0
        self.grad_norm = None  # of the last step with max_grad_norm or skip_nonfinite
        self.param_groups = []
        self._calls = []
        self._sizes = []  # of the groups
        self._keys = {}  # a parameter's name or, without names, its position, in order
        self._named = False
        if not isinstance(params, (dict, np.ndarray)):
            params = list(params)
        if not isinstance(params, np.ndarray) and not params:
            raise ValueError("optimizer got an empty parameter list")
        has_groups = isinstance(params, list) and isinstance(params[0], dict)
        for group in params if has_groups else [{"params": params}]:
            self.add_param_group(group)

    def step(self, grads, *, grad_scale=UNSCALED):
        """Update every parameter by its gradient, in one kernel call for each group and dtype.

        grads : list of gradients in the order of the parameters over all groups; or dict of
            name -> gradient if the parameters have names. Each is an array of the shape and dtype of its
            parameter, of any strides, or a NumPy scalar for one without dimensions; another memory order than the
            parameter's costs a copy. Where one is None, or its name is missing, the parameter, its
            state and its step count stay as they are.
        grad_scale : what every gradient is multiplied by, first of all and within the update; `grad_norm` is
            that of the products. Gradients that n backward passes have added up, as layers do with
            `accumulate=True`, are averaged by 1 / n.

        Returns True; or False for a step that was skipped and has changed no parameter, state or count, see
        `skip_nonfinite`.

        >>> import numpy as np
        >>> from numfuse import nn, optim
        >>> net, loss = nn.Linear(3, 2, rng=0), nn.MSELoss()
        >>> optimizer = optim.SGD(net.parameters(), lr=0.1)
        >>> x, y = np.ones((8, 3), np.float32), np.ones((8, 2), np.float32)
        >>> for i in range(4):  # the step of a batch of 8, which is in memory by 2 rows at a time
        ...     rows = slice(2 * i, 2 * i + 2)
        ...     _ = loss.forward(net.forward(x[rows]), y[rows])
        ...     _ = net.backward(loss.backward(), accumulate=i > 0)
        >>> optimizer.step(net.gradients(), grad_scale=1 / 4)
        True
        """
        if grad_scale is not UNSCALED:
            grad_scale = number("grad_scale", grad_scale)
        if self._is_averaged:
            self._check_not_averaged()
        grads = self._in_order(grads)
        if len(self.param_groups) != len(self._sizes):
            raise ValueError(f"param_groups must keep its {len(self._sizes)} groups: use add_param_group")
        for call in self._calls:
            if not native.is_unchanged(self.param_groups[call.group], call.options):
                self._refresh(call)
        try:
            steps = native.check_steps([call.arrays for call in self._calls], grads)
        except (TypeError, ValueError):
            explain(self._keys, self._calls, grads)  # says the same in the caller's names
            raise
        norm = None
        if self._max_grad_norm is not None or self._skip_nonfinite:
            norm = grad_scale * norm_of(self.kernels, self._calls, steps)
            if not math.isfinite(norm):
                self.grad_norm = norm
                self.skipped_steps += 1
                return False
            if self._max_grad_norm is not None:
                ratio = self._max_grad_norm / (norm + 1e-6)
                grad_scale = grad_scale * ratio if ratio < 1 else grad_scale
        kernel = getattr(self.kernels, self.kernel_name)
        for call, tensors in zip(self._calls, steps):
            keywords = call.keywords if grad_scale == 1 else {**call.keywords, "grad_scale": grad_scale}
            tensors.call(kernel, keywords)
            if call.is_limited:
                self._limit_norms(call, tensors)
        self.grad_norm = norm
        return True

    @property
    def kernel_names(self):
        return self.kernel_name, "grad_norm", "max_norm"

    @property
    def max_grad_norm(self):
        return self._max_grad_norm

    @max_grad_norm.setter
    def max_grad_norm(self, value):
        self._max_grad_norm = optional_norm("max_grad_norm", value)

    @property
    def skip_nonfinite(self):
        return self._skip_nonfinite

    @skip_nonfinite.setter
    def skip_nonfinite(self, value):
        self._skip_nonfinite = flag("skip_nonfinite", value)

    def add_param_group(self, group):
        """Add a group: a dict of "params", a list or dict of arrays, and of options of its own."""
        index, first = len(self.param_groups), len(self._keys)
        if not isinstance(group, dict) or "params" not in group:
            raise TypeError(f"parameter group {index} must be a dict with 'params'")
        options = {**self.defaults, **group}
        params, named = group["params"], isinstance(group["params"], dict)
        if isinstance(params, np.ndarray):
            raise TypeError("params must be a list or dict of arrays, was one array: write [array]")
        params = params if named else list(params)
        if params and first and named != self._named:
            raise ValueError("params must be dicts in all groups or in none")
        keys = list(params) if named else list(range(first, first + len(params)))
        options["params"] = list(params.values()) if named else params
        if named:
            options["param_names"] = keys
        check_keys(f"parameter group {index}", options, self._options(named))
        self._check_options(options)
        for key, param in zip(keys, options["params"]):
            check_param(f"params[{key!r}]", param)
            if key in self._keys:
                raise ValueError(f"params[{key!r}] must be in one group only")
        others = [param for other in self.param_groups for param in other["params"]]
        arrays = zip([*self._keys, *keys], [*others, *options["params"]])
        check_overlap([(f"params[{key!r}]", param) for key, param in arrays])

        self.param_groups.append(options)
        self._sizes.append(len(keys))
        self._keys.update(dict.fromkeys(keys))
        self._named = named if keys else self._named
        for dtype in dict.fromkeys(param.dtype for param in options["params"]):
            members = [i for i, param in enumerate(options["params"]) if param.dtype == dtype]
            self._calls.append(Call(index, members, [first + i for i in members], dtype))
        for call in self._calls:
            call.options = []  # prepared anew, since the order of the gradients depends on all calls
            if call.group == index:
                self._prepare(call, options)

    def __getstate__(self):
        self._check_not_averaged()
        return super().__getstate__()

    def __repr__(self):
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        if self._max_grad_norm is not None:
            lines.append(f"max_grad_norm: {self._max_grad_norm}")
        if self._skip_nonfinite:
            lines.append("skip_nonfinite: True")
        if self.skipped_steps:
            lines.append(f"skipped_steps: {self.skipped_steps}")
        return "\n".join([*lines, ")"])

    def _check_options(self, options):
        """Raise if an option is wrong; make numbers floats. A subclass checks its own, too."""
        check_regularization(options)

    def _state_names(self, options):
        """Dict of name -> whether these options need it, for every kind of state array of the formula."""
        raise NotImplementedError

    def _initial(self, options):
        """What the formula's state begins with."""
        return 0.0

    def _kernel_call(self, options, state):
        """The lists of state that the kernel takes, None for one without use, and its own keywords."""
        raise NotImplementedError

    def _limit_norms(self, call, tensors):
        group, params = self.param_groups[call.group], list(tensors)
        moved = [i for i, grad in enumerate(tensors.grads) if grad is not None]
        averages = call.state["ema_param"] if group["ema_decay"] is not None else None
        self.kernels.max_norm(
            [params[i] for i in moved], averages and [averages[i] for i in moved],
            max_norm=group["max_norm"], ema_decay=group["ema_decay"] or 0.0,
        )

    def _options(self, named):
        return ("params", "param_names", *self.defaults) if named else ("params", *self.defaults)

    def _in_order(self, grads):
        if type(grads) is list and len(grads) == len(self._keys):
            return grads
        if isinstance(grads, dict):
            if not self._named:
                raise TypeError("grads must be a list, was a dict: the parameters were given without names")
            if not grads.keys() <= self._keys.keys():
                unknown = next(key for key in grads if key not in self._keys)
                valid = ", ".join(map(repr, self._keys))
                raise ValueError(f"grads has an unknown name {unknown!r}; valid are {valid}")
            return list(map(grads.get, self._keys))
        if isinstance(grads, np.ndarray):
            raise TypeError("grads must be a list or dict of arrays, was one array: write [array]")
        grads = grads if isinstance(grads, list) else list(grads)
        if len(grads) != len(self._keys):
            raise ValueError(f"grads must have length {len(self._keys)}, as the parameters, was {len(grads)}")
        return grads

    def _params(self, call, group):
        return [group["params"][i] for i in call.members]

    def _refresh(self, call):
        """The group of a call, prepared anew if its options have changed."""
        group = self.param_groups[call.group]
        if not native.is_unchanged(group, call.options):
            self._prepare(call, group)
        return group

    def _prepare(self, call, group):
        """Check the group's options, allocate the state arrays that they now need, and say what the kernel gets."""
        name = f"param_groups[{call.group}]"
        check_keys(name, group, self._options(self._named))
        if not isinstance(group["params"], (list, tuple)):
            raise TypeError(f"{name}['params'] must be a list of arrays, was {type(group['params']).__name__}")
        self._check_options(group)
        for name, needed in self._all_state_names(group).items():
            if needed and name not in call.state:
                params = self._params(call, group)
                call.state[name] = list(map(state_array, params))
                for array, param in zip(call.state[name], params):
                    array[...] = param if name == "ema_param" else self._initial(group)
        lists, keywords = self._kernel_call(group, call.state)
        # With max_norm the average is that of limited weights, and not the step's business.
        averages = call.state["ema_param"] if group["ema_decay"] is not None and group["max_norm"] is None else None
        call.given = (*lists, averages, call.steps)
        call.keywords = {**keywords, **kernel_options(group)}
        call.is_limited = group["max_norm"] is not None
        whole, alone = len(call.members) == self._sizes[call.group], len(self._calls) == 1
        call.arrays = (group["params"], self._sizes[call.group], None if whole else call.members,
                       None if alone else call.order, call.given, call.dtype, call.is_limited)
        call.options = list(group.values())

    def _all_state_names(self, options):
        return {**self._state_names(options), "ema_param": options["ema_decay"] is not None}
