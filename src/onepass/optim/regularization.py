"""The options that every optimizer has within its pass over memory, and what its kernel calls them."""

import math

from ..checks import number
from .checks import check_flags, check_numbers


def check_regularization(options):
    """Raise if one of these options is wrong; make numbers floats."""
    check_numbers(options, "lr", "weight_decay", "l1")
    check_flags(options, "decoupled_weight_decay", "l1_proximal", "maximize")
    for name in ("max_grad_value", "max_norm"):
        if options[name] is not None:
            options[name] = number(name, options[name], positive=True)
    if options["ema_decay"] is not None:
        options["ema_decay"] = number("ema_decay", options["ema_decay"], below=1)


def kernel_options(options):
    """The keywords that every step takes, but for `grad_scale`."""
    largest, decay = options["max_grad_value"], options["ema_decay"]
    return {
        "lr": options["lr"],
        "weight_decay": options["weight_decay"],
        "decoupled": options["decoupled_weight_decay"],
        "l1": options["l1"],
        "proximal": options["l1_proximal"],
        "max_grad_value": math.inf if largest is None else largest,
        "ema_decay": 0.0 if decay is None else decay,
        "maximize": options["maximize"],
    }
