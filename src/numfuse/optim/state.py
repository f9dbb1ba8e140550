import contextlib

import numpy as np

from .call import state_array
from .checks import check_keys, check_like, check_param, check_same, flag, optional_norm, step_count

GLOBAL_OPTIONS = {"max_grad_norm": optional_norm, "skip_nonfinite": flag, "skipped_steps": step_count}  # for all groups


class StateDictMixin:
    """An optimizer's options and state as dicts and lists, and back; and its averages in the parameters' place."""

    _is_averaged = False

    def state_dict(self):
        """A copy of all options and state, in dicts and lists as PyTorch's are::

            {"state": {0: {"step": 7, "exp_avg": array, ...}, ...},
             "param_groups": [{"lr": 0.001, ..., "params": [0, 1, ...]}, ...],
             "max_grad_norm": None, "skip_nonfinite": False, "skipped_steps": 0}

        The integers are positions in the order of the parameters over all groups. If these have
        names, a group lists them as "param_names".
        """
        self._check_not_averaged()
        state = {}
        for call in self._calls:
            self._refresh(call)
            for k, i in enumerate(call.order):
                arrays = {name: kind[k].copy("K") for name, kind in call.state.items()}
                state[i] = {"step": int(call.steps[k]), **arrays}
        groups, first = [], 0
        for group, size in zip(self.param_groups, self._sizes):
            groups.append({**group, "params": list(range(first, first + size))})
            if "param_names" in group:
                groups[-1]["param_names"] = list(group["param_names"])
            first += size
        return {"state": {i: state[i] for i in sorted(state)}, "param_groups": groups,
                **{name: getattr(self, name) for name in GLOBAL_OPTIONS}}

    def load_state_dict(self, state_dict):
        """Take over a copy of what `state_dict` returned, here or in another process.

        Groups, parameters, names, shapes and dtypes must be the same here as there. What is set for all groups
        stays as it is here where the dict lacks it.
        """
        check_keys("state_dict", state_dict, ("state", "param_groups"), optional=GLOBAL_OPTIONS)
        whole = {name: check(f"state_dict[{name!r}]", state_dict[name])
                 for name, check in GLOBAL_OPTIONS.items() if name in state_dict}
        mine, states, loaded = self.state_dict(), state_dict["state"], state_dict["param_groups"]
        if isinstance(states, dict) and len(states) != len(mine["state"]):
            raise ValueError(f"state_dict has the state of {len(states)} parameters, here are {len(mine['state'])}")
        check_keys("state_dict['state']", states, mine["state"])
        if len(loaded) != len(self._sizes):
            raise ValueError(f"state_dict has {len(loaded)} parameter groups, must have {len(self._sizes)}")
        groups = []
        for i, (group, here) in enumerate(zip(loaded, mine["param_groups"])):
            name = f"state_dict['param_groups'][{i}]"
            check_keys(name, group, here, hint=f": is this the state of another optimizer than {type(self).__name__}?")
            members = {key: here[key] for key in here if key not in self.defaults}
            for key, value in members.items():
                if list(group[key]) != value:
                    raise ValueError(f"{name}[{key!r}] must be {value}, was {group[key]}")
            groups.append({**group, **members, "params": self.param_groups[i]["params"]})
            self._check_options(groups[i])
        loaded = [self._load(call, groups[call.group], states) for call in self._calls]
        self.param_groups[:] = groups
        for call, (steps, state) in zip(self._calls, loaded):
            call.steps, call.state, call.options = steps, state, []
        for name, value in whole.items():
            setattr(self, name, value)

    @contextlib.contextmanager
    def averaged(self):
        """A context in which the parameters of groups with `ema_decay` are their averages, for evaluation.

        The averages are copied into the parameters' arrays, which get back what was there at the end, whatever
        happens, Ctrl-C at any moment too: what is written into them meanwhile is the average afterwards.
        RuntimeError if the optimizer steps, or its state is saved, loaded or copied, in between. ValueError without
        any averages.

        Batch normalisation keeps the running statistics of training; `numfuse.nn.reestimate_batch_norm` takes
        new ones.

        >>> from numfuse import optim
        >>> weight = np.array([1.0])
        >>> optimizer = optim.SGD([weight], lr=1.0, ema_decay=0.75)
        >>> optimizer.step([np.array([4.0])])
        True
        >>> with optimizer.averaged():
        ...     print(weight)
        [0.]
        >>> print(weight)
        [-3.]
        """
        self._check_not_averaged()
        pairs, keys = [], list(self._keys)
        for call in self._calls:
            group = self._refresh(call)
            if group["ema_decay"] is not None:
                for i, param, average in zip(call.order, self._params(call, group), call.state["ema_param"]):
                    check_param(f"params[{keys[i]!r}]", param)
                    check_like(f"params[{keys[i]!r}]", param, "its ema_param", average)
                    pairs.append((param, average))
        if not pairs:
            raise ValueError("averaged needs a group with ema_decay and parameters, had none")
        swap = _Swap(pairs)
        try:
            try:
                self._is_averaged = True
                swap.do()
                yield
            finally:
                swap.undo()
                self._is_averaged = False
        finally:  # again, for an interrupt may have broken off the first
            swap.undo()
            self._is_averaged = False

    def _check_not_averaged(self):
        if self._is_averaged:
            raise RuntimeError("the parameters are their averages in a `with optimizer.averaged()`: leave it first")

    def _load(self, call, options, states):
        """The step counts and the state arrays of one call from the "state" of a state_dict."""
        keys, first = list(self._keys), states[call.order[0]]
        names = [name for name, needed in self._all_state_names(options).items()
                 if needed or isinstance(first, dict) and name in first]
        steps, state = np.zeros_like(call.steps), {name: [] for name in names}
        for k, (i, param) in enumerate(zip(call.order, self._params(call, options))):
            entry = f"state_dict['state'][{i}]"
            check_keys(entry, states[i], ("step", *names))
            steps[k] = step_count(f"{entry}['step']", states[i]["step"])
            for name in names:
                check_same(f"{entry}[{name!r}]", states[i][name], f"params[{keys[i]!r}]", param)
                state[name].append(state_array(param))
                state[name][k][...] = states[i][name]
        return steps, state


class _Swap:
    """Averages in the place of parameters: what an interrupt may break off anywhere, and `undo` completes."""

    def __init__(self, pairs):
        self.pairs, self.is_done = pairs, False
        self.kept = [param.copy("K") for param, _ in pairs]

    def do(self):
        for param, average in self.pairs:
            param[...] = average
        self.is_done = True

    def undo(self):
        if self.is_done:  # what was written meanwhile is the average
            for param, average in self.pairs:
                average[...] = param
            self.is_done = False
        for (param, _), kept in zip(self.pairs, self.kept):
            param[...] = kept
        self.pairs = []
