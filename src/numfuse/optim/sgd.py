from .checks import check_flags, check_numbers
from .optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013).

    For a parameter p with gradient g and velocity v::

        g = g + weight_decay * p
        v = momentum * v + (1 - dampening) * g    v = g at the first step
        p = p - lr * v                            p - lr * (g + momentum * v) if nesterov

    There are two conventions of momentum. The heavy ball adds gradients up: once they are constant,
    v is 1 / (1 - momentum) times the gradient. With `running_average` they are averaged, and v is the gradient::

        v = momentum * v + (1 - momentum) * g     from v = 0 on
        p = p - lr * v                            p - lr * ((1 - momentum) * g + momentum * v) if nesterov

    It takes the steps of the heavy ball with lr * (1 - momentum).

    lr : learning rate
    momentum : decay of the velocity a step; 0 is plain gradient descent, p = p - lr * g
    dampening : what of a gradient does not go into the velocity, from the second step on
    weight_decay : L2 penalty
    running_average : whether momentum is the running average; it needs momentum < 1 and dampening 0
    nesterov : whether to use Nesterov's form, which needs momentum > 0 and dampening 0
    options : those that every optimizer has, among them `maximize`, `l1`, `max_grad_value`, `max_norm`,
        `ema_decay`, `max_grad_norm` and `skip_nonfinite`; see `Optimizer`

    Numbers are finite and >= 0. Names, defaults and meanings are PyTorch's, which has no
    `running_average`; `numfuse.reference.sgd_step` is the full definition. For the arrays and their errors
    see `Optimizer`.

    >>> import numpy as np
    >>> weight = np.array([1.0, 2.0])
    >>> optimizer = SGD([weight], lr=0.5, momentum=0.5)
    >>> optimizer.step([np.array([1.0, 0.0])])
    True
    >>> optimizer.step([np.array([1.0, 0.0])])
    True
    >>> weight
    array([-0.25,  2.  ])
    """

    kernel_name = "sgd_step"

    def __init__(self, params, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
                 *, running_average=False, **options):
        own = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
               "nesterov": nesterov, "running_average": running_average}
        super().__init__(params, own, **options)

    def _check_options(self, options):
        super()._check_options(options)
        check_numbers(options, "momentum", "dampening")
        check_flags(options, "nesterov", "running_average")
        momentum, dampening = options["momentum"], options["dampening"]
        if options["nesterov"] and (momentum == 0 or dampening != 0):
            raise ValueError("nesterov must be False unless momentum > 0 and dampening == 0, "
                             f"was True with momentum {momentum} and dampening {dampening}")
        if options["running_average"] and (momentum >= 1 or dampening != 0):
            raise ValueError("running_average must be False unless momentum < 1 and dampening == 0, "
                             f"was True with momentum {momentum} and dampening {dampening}")

    def _state_names(self, options):
        return {"momentum_buffer": options["momentum"] > 0}

    def _prepare(self, call, group):
        starts = "momentum_buffer" not in call.state
        super()._prepare(call, group)
        if not group["momentum"] and not call.steps.any():
            call.state.pop("momentum_buffer", None)
        elif starts and group["momentum"]:
            call.steps[:] = 0  # the first gradient with momentum, whenever it comes, is the first velocity

    def _kernel_call(self, options, state):
        own = {name: options[name] for name in ("momentum", "dampening", "running_average", "nesterov")}
        return [state["momentum_buffer"] if options["momentum"] else None], own
