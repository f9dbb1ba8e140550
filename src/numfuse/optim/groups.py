from fnmatch import fnmatchcase

import numpy as np

from ..checks import number


def groups_by_name(named_params, options):
    """Parameter groups for an optimizer, chosen by the names of the parameters.

    named_params : dict of name -> array, such as `net.named_parameters()`
    options : dict of pattern -> options for the parameters whose names it matches, the first that does.
        Patterns are the shell's: "*.bias", "0.*"; matching minds the case.

    Returns a list of groups in the order of the patterns; parameters that none matches are the last, with no
    options of their own. ValueError for a pattern that matches no name, or none that no earlier pattern matches.

    With groups the order is another one than that of `named_params`, so give the gradients by name:
    `optimizer.step(net.named_gradients())`.

    >>> params = {"0.weight": np.ones((2, 3)), "0.bias": np.ones(2), "1.weight": np.ones((1, 2)), "1.bias": np.ones(1)}
    >>> for group in groups_by_name(params, {"0.*": {"lr": 0.01}, "*.bias": {"weight_decay": 0.0}}):
    ...     print(list(group["params"]), {name: group[name] for name in group if name != "params"})
    ['0.weight', '0.bias'] {'lr': 0.01}
    ['1.bias'] {'weight_decay': 0.0}
    ['1.weight'] {}
    """
    _check_named(named_params)
    if not isinstance(options, dict):
        raise TypeError(f"options must be a dict of pattern -> options, was {type(options).__name__}")
    groups, rest = [], dict(named_params)
    for pattern, chosen in options.items():
        if not isinstance(pattern, str) or not isinstance(chosen, dict) or "params" in chosen:
            raise TypeError(f"options[{pattern!r}] must be a dict of options for a pattern of names, was {chosen!r}")
        matched = [name for name in named_params if fnmatchcase(name, pattern)]
        free = {name: rest.pop(name) for name in matched if name in rest}
        if not matched:
            valid = ", ".join(map(repr, named_params))
            raise ValueError(f"options has the pattern {pattern!r}, which matches no name; names are {valid}")
        if not free:
            raise ValueError(f"options has the pattern {pattern!r}, but earlier ones match all its names: "
                             "put it before them")
        groups.append({**chosen, "params": free})
    return [*groups, {"params": rest}] if rest else groups


def decay_groups(named_params, *, weight_decay, l1=None):
    """Two groups: arrays of two and more dimensions, which decay, and the others, which do not.

    named_params : dict of name -> array, such as `net.named_parameters()`. Biases, and the weight and
        bias of batch normalisation, have one dimension.
    weight_decay, l1 : those options of the first group; in the second they are 0. An `l1` of None is left to
        the optimizer in both.

    Give the gradients by name: `optimizer.step(net.named_gradients())`.

    >>> params = {"0.weight": np.ones((2, 3)), "0.bias": np.ones(2)}
    >>> for group in decay_groups(params, weight_decay=0.01):
    ...     print(list(group["params"]), group["weight_decay"])
    ['0.weight'] 0.01
    ['0.bias'] 0.0
    """
    _check_named(named_params)
    options = {"weight_decay": number("weight_decay", weight_decay)} | ({} if l1 is None else {"l1": number("l1", l1)})
    decaying, others = {"params": {}, **options}, {"params": {}, **dict.fromkeys(options, 0.0)}
    for name, param in named_params.items():
        (decaying if param.ndim >= 2 else others)["params"][name] = param
    return [group for group in (decaying, others) if group["params"]]


def _check_named(named_params):
    if not isinstance(named_params, dict) or not named_params:
        was = "empty" if named_params == {} else type(named_params).__name__
        raise TypeError(f"named_params must be a dict of name -> array, such as net.named_parameters(), was {was}")
    for name, param in named_params.items():
        if not isinstance(param, np.ndarray):
            raise TypeError(f"named_params[{name!r}] must be a numpy.ndarray, was {type(param).__name__}")
