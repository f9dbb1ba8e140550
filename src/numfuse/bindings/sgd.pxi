cdef extern from "kernels.h" nogil:
    ctypedef struct sgd_args:
        step_args step
        void **momentum_buffers
        double momentum, dampening
        bint running_average, nesterov


def sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
             lr, momentum, dampening, bint running_average, bint nesterov,
             weight_decay=0.0, bint decoupled=False, l1=0.0, bint proximal=False, max_grad_value=_UNLIMITED,
             ema_decay=0.0, bint maximize=False, grad_scale=1.0):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.sgd_step`."""
    cdef sgd_args a
    take_options(&a.step, lr, weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale)
    a.momentum = number(momentum, "momentum", 0, 1 if running_average else INFINITY, running_average)
    a.dampening = number(dampening, "dampening", 0, INFINITY)
    a.running_average, a.nesterov = running_average, nesterov
    if running_average and a.dampening != 0:
        raise ValueError(f"dampening must be 0 with running_average, was {dampening!r}")
    if nesterov and (a.momentum == 0 or a.dampening != 0):
        raise ValueError(f"nesterov needs a momentum above 0 and a dampening of 0, had {momentum!r} and {dampening!r}")
    check_momentum_buffers(momentum_buffers, a.momentum)
    cdef Tensors t = tensors_of(
        ("params", "grads", "momentum_buffers", "ema_params", "steps"),
        params, grads, (momentum_buffers, ema_params, steps), 2)
    take_arrays(&a.step, t, 3)
    a.momentum_buffers = t.arrays[2]
    t.run(active_kernels.sgd_step, &a)
