from .checks import check_numbers
from .optimizer import Optimizer


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer 2011).

    For a parameter p with gradient g and sum s of all g * g, at its step number t::

        g = g + weight_decay * p
        s = s + g * g
        p = p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)

    lr : learning rate
    lr_decay : how fast the learning rate falls, which is the one of decoupled decay and L1, too
    weight_decay : L2 penalty
    initial_accumulator_value : what s begins with
    eps : added to the root, not under it; at least 1.1e-19 counts, in float64 1.5e-154
    options : those that every optimizer has, among them `maximize`, `l1`, `max_grad_value`, `max_norm`,
        `ema_decay`, `max_grad_norm` and `skip_nonfinite`; see `Optimizer`

    Numbers are finite and >= 0. Names, defaults and meanings are PyTorch's; `numfuse.reference.adagrad_step`
    is the full definition. For the arrays and their errors see `Optimizer`.

    >>> import numpy as np
    >>> weight = np.array([1.0, 2.0])
    >>> optimizer = Adagrad([weight], lr=0.1)
    >>> optimizer.step([np.array([3.0, -4.0])])
    True
    >>> weight.round(6)
    array([0.9, 2.1])
    """

    kernel_name = "adagrad_step"

    def __init__(self, params, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10,
                 **options):
        own = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay,
               "initial_accumulator_value": initial_accumulator_value, "eps": eps}
        super().__init__(params, own, **options)

    def _check_options(self, options):
        super()._check_options(options)
        check_numbers(options, "lr_decay", "initial_accumulator_value", "eps")

    def _state_names(self, options):
        return {"sum": True}

    def _initial(self, options):
        return options["initial_accumulator_value"]

    def _kernel_call(self, options, state):
        return [state["sum"]], {"lr_decay": options["lr_decay"], "eps": options["eps"]}
