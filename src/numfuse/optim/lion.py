from .checks import check_betas
from .optimizer import Optimizer


class Lion(Optimizer):
    """Lion (Chen et al. 2023), which keeps one average a parameter and takes steps of one size.

    For a parameter p with gradient g and m the running average of the gradients::

        p = p * (1 - lr * weight_decay)
        c = beta1 * m + (1 - beta1) * g
        m = beta2 * m + (1 - beta2) * g
        p = p - lr * sign(c)

    Every element moves by lr, so that lr is to be three to ten times smaller than for AdamW, and weight_decay as much
    larger.

    lr : learning rate
    betas : (beta1, beta2), what the direction and the average keep of the average, in [0, 1)
    weight_decay : decoupled decay; with `decoupled_weight_decay=False` the L2 penalty
    options : those that every optimizer has, among them `maximize`, `l1`, `max_grad_value`, `max_norm`,
        `ema_decay`, `max_grad_norm` and `skip_nonfinite`; see `Optimizer`

    Numbers are finite and >= 0. Names, defaults and meanings are the paper's, and the state is called as PyTorch's Adam
    calls it; `numfuse.reference.lion_step` is the full definition. For the arrays and their errors see `Optimizer`.

    >>> import numpy as np
    >>> weight = np.array([1.0, 2.0])
    >>> optimizer = Lion([weight], lr=0.1)
    >>> optimizer.step([np.array([3.0, -4.0])])
    True
    >>> weight
    array([0.9, 2.1])
    """

    kernel_name = "lion_step"

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, *, decoupled_weight_decay=True, **options):
        own = {"lr": lr, "betas": betas, "weight_decay": weight_decay}
        super().__init__(params, own, decoupled_weight_decay=decoupled_weight_decay, **options)

    def _check_options(self, options):
        super()._check_options(options)
        check_betas(options)

    def _state_names(self, options):
        return {"exp_avg": True}

    def _kernel_call(self, options, state):
        beta1, beta2 = options["betas"]
        return [state["exp_avg"]], {"beta1": beta1, "beta2": beta2}
