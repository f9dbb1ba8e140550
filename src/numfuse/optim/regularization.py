"""The options that every optimizer has within its pass over memory, and what its kernel calls them."""

import numpy as np

from ..checks import number
from .checks import check_flags, check_numbers

SMALLEST = {np.dtype(dtype): float(np.finfo(dtype).tiny) for dtype in (np.float32, np.float64)}  # normal numbers


def check_regularization(options):
    """Raise if one of these options is wrong; make numbers floats."""
    check_numbers(options, "lr", "weight_decay", "l1")
    check_flags(options, "decoupled_weight_decay", "l1_proximal", "maximize")
    for name in ("max_grad_value", "max_norm"):
        if options[name] is not None:
            options[name] = number(name, options[name], positive=True)
            _check_normal(name, options[name], options["params"])
    if options["ema_decay"] is not None:
        options["ema_decay"] = number("ema_decay", options["ema_decay"], below=1)


def kernel_options(options):
    """The keywords that every step takes, but for `grad_scale`: `lr`, and those of what is not off."""
    keywords = {"lr": options["lr"]}
    if options["weight_decay"]:
        keywords |= {"weight_decay": options["weight_decay"], "decoupled": options["decoupled_weight_decay"]}
    if options["l1"]:
        keywords |= {"l1": options["l1"], "proximal": options["l1_proximal"]}
    if options["max_grad_value"] is not None:
        keywords["max_grad_value"] = options["max_grad_value"]
    if options["ema_decay"] is not None:
        keywords["ema_decay"] = options["ema_decay"]
    if options["maximize"]:
        keywords["maximize"] = True
    return keywords


def _check_normal(name, limit, params):
    """A limit that rounds to 0 in a parameter's dtype would leave nothing of what it limits."""
    for dtype, smallest in SMALLEST.items():
        if limit < smallest and any(isinstance(param, np.ndarray) and param.dtype == dtype for param in params):
            raise ValueError(f"{name} must be at least {smallest}, the smallest normal number of {dtype} parameters, "
                             f"was {limit!r}")
