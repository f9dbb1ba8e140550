from .checks import check_flags, check_numbers
from .optimizer import Optimizer


class RMSProp(Optimizer):
    """RMSProp (Tieleman and Hinton 2012), also centered (Graves 2013) and with momentum.

    For a parameter p with gradient g, running averages s of g * g and a of g, and velocity b::

        g = g + weight_decay * p
        s = alpha * s + (1 - alpha) * g * g
        a = alpha * a + (1 - alpha) * g          if centered, else a = 0
        u = g / (sqrt(max(s - a * a, 0)) + eps)
        b = momentum * b + u
        p = p - lr * b                           p - lr * (u + momentum * b) if nesterov

    lr : learning rate
    alpha : decay of the running averages a step, at most 1
    eps : added to the root, not under it; at least 1.1e-19 counts, in float64 1.5e-154
    weight_decay : L2 penalty
    momentum : decay of the velocity a step
    nesterov : whether to use Nesterov's form (Dozat 2016), which needs momentum > 0
    centered : whether to divide by the standard deviation of the gradient, not its root mean square
    options : those that every optimizer has, among them `maximize`, `l1`, `max_grad_value`, `max_norm`,
        `ema_decay`, `max_grad_norm` and `skip_nonfinite`; see `Optimizer`

    Numbers are finite and >= 0. Names, defaults and meanings are PyTorch's, except that there is no
    `nesterov` there, and that the centered variance is not clamped at 0 and can round to below;
    `numfuse.reference.rmsprop_step` is the full definition. For the arrays and their errors see `Optimizer`.

    >>> import numpy as np
    >>> weight = np.array([1.0, 2.0])
    >>> optimizer = RMSProp([weight], lr=0.01, alpha=0.99)
    >>> optimizer.step([np.array([3.0, -4.0])])
    True
    >>> weight.round(6)
    array([0.9, 2.1])
    """

    kernel_name = "rmsprop_step"

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False,
                 *, nesterov=False, **options):
        own = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
               "centered": centered, "nesterov": nesterov}
        super().__init__(params, own, **options)

    def _check_options(self, options):
        super()._check_options(options)
        check_numbers(options, "alpha", "eps", "momentum")
        check_flags(options, "centered", "nesterov")
        if options["alpha"] > 1:
            raise ValueError(f"alpha must be >= 0 and <= 1, was {options['alpha']}")
        if options["nesterov"] and options["momentum"] == 0:
            raise ValueError("nesterov must be False unless momentum > 0, was True with momentum 0.0")

    def _state_names(self, options):
        momentum = options["momentum"]
        return {"square_avg": True, "grad_avg": options["centered"], "momentum_buffer": momentum > 0}

    def _kernel_call(self, options, state):
        lists = [
            state["square_avg"], state["grad_avg"] if options["centered"] else None,
            state["momentum_buffer"] if options["momentum"] else None,
        ]
        return lists, {name: options[name] for name in ("alpha", "eps", "momentum", "nesterov")}
