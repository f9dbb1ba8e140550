from .checks import check_betas, check_flags, check_numbers
from .optimizer import Optimizer


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), with AMSGrad (Reddi et al. 2018) if asked.

    For a parameter p with gradient g, running averages m of g and v of g * g, at its step number t::

        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        p = p - lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)

    lr : learning rate
    betas : (beta1, beta2), decay of the running averages a step, each in [0, 1)
    eps : added to the root, not under it; at least 1.1e-19 counts, in float64 1.5e-154
    weight_decay : L2 penalty; decoupled decay with `decoupled_weight_decay=True`, which is `AdamW`
    amsgrad : whether to divide by the root of the largest v so far
    options : those that every optimizer has, among them `maximize`, `l1`, `max_grad_value`, `max_norm`,
        `ema_decay`, `max_grad_norm` and `skip_nonfinite`; see `Optimizer`

    Numbers are finite and >= 0. Names, defaults and meanings are PyTorch's; `numfuse.reference.adam_step`
    is the full definition. For the arrays and their errors see `Optimizer`.

    >>> import numpy as np
    >>> weight = np.array([1.0, 2.0])
    >>> optimizer = Adam({"weight": weight}, lr=0.1)
    >>> optimizer.step({"weight": np.array([3.0, -4.0])})
    True
    >>> weight.round(6)
    array([0.9, 2.1])
    """

    kernel_name = "adam_step"

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, **options):
        own = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
        super().__init__(params, own, **options)

    def _check_options(self, options):
        super()._check_options(options)
        check_numbers(options, "eps")
        check_flags(options, "amsgrad")
        check_betas(options)

    def _state_names(self, options):
        return {"exp_avg": True, "exp_avg_sq": True, "max_exp_avg_sq": options["amsgrad"]}

    def _kernel_call(self, options, state):
        beta1, beta2 = options["betas"]
        lists = [state["exp_avg"], state["exp_avg_sq"], state["max_exp_avg_sq"] if options["amsgrad"] else None]
        return lists, {"beta1": beta1, "beta2": beta2, "eps": options["eps"]}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    As `Adam`, but `weight_decay` is no part of the gradient; every step begins with::

        p = p * (1 - lr * weight_decay)

    >>> import numpy as np
    >>> weight = np.array([1.0, 2.0])
    >>> optimizer = AdamW([weight], lr=0.1, weight_decay=0.5)
    >>> optimizer.step([np.array([3.0, -4.0])])
    True
    >>> weight.round(6)
    array([0.85, 2.  ])
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, **options):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **options)
