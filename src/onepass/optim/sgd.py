from .checks import check_flags, check_numbers
from .optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964) or Nesterov's (Sutskever et al. 2013).

    For a parameter p with gradient g and velocity v::

        g = g + weight_decay * p
        v = momentum * v + (1 - dampening) * g    v = g at the first step
        p = p - lr * v                            p - lr * (g + momentum * v) if nesterov

    lr : learning rate
    momentum : decay of the velocity a step; 0 is plain gradient descent, p = p - lr * g
    dampening : `dampening=momentum` makes the velocity the running average of the gradients
    weight_decay : L2 penalty
    nesterov : whether to use Nesterov's form, which needs momentum > 0 and dampening 0
    maximize : whether to climb: g is taken as -g
    max_grad_norm : the L2 norm that all gradients together are scaled down to; see `Optimizer`
    skip_nonfinite : whether to skip a step with a gradient that is not finite; see `Optimizer`

    Numbers are finite and >= 0. Names, defaults and meanings are PyTorch's; `onepass.reference.sgd_step`
    is the full definition. For the arrays and their errors see `Optimizer`.

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

    def __init__(self, params, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
                 *, maximize=False, max_grad_norm=None, skip_nonfinite=False):
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
                   "nesterov": nesterov, "maximize": maximize}
        super().__init__(params, options, max_grad_norm=max_grad_norm, skip_nonfinite=skip_nonfinite)

    def _check_options(self, options):
        check_numbers(options, "lr", "momentum", "dampening", "weight_decay")
        check_flags(options, "nesterov", "maximize")
        momentum, dampening = options["momentum"], options["dampening"]
        if options["nesterov"] and (momentum == 0 or dampening != 0):
            raise ValueError("nesterov must be False unless momentum > 0 and dampening == 0, "
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

    def _run(self, group, params, grads, steps, state, grad_scale):
        momentum = group["momentum"]
        self.kernels.sgd_step(
            params, grads, state["momentum_buffer"] if momentum else None, steps,
            lr=group["lr"], momentum=momentum, dampening=group["dampening"],
            weight_decay=group["weight_decay"], nesterov=group["nesterov"], maximize=group["maximize"],
            grad_scale=grad_scale,
        )
