cdef extern from "kernels.h" nogil:
    ctypedef struct rmsprop_args:
        step_args step
        void **square_avgs
        void **grad_avgs
        void **momentum_buffers
        double alpha, eps, momentum
        bint nesterov


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                 lr, alpha, eps, momentum, bint nesterov,
                 weight_decay=0.0, bint decoupled=False, l1=0.0, bint proximal=False, max_grad_value=_UNLIMITED,
                 ema_decay=0.0, bint maximize=False, grad_scale=1.0):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.rmsprop_step`."""
    cdef rmsprop_args a
    take_options(&a.step, lr, weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale)
    a.alpha = number(alpha, "alpha", 0, 1)
    a.eps = number(eps, "eps", 0, INFINITY)
    a.momentum = number(momentum, "momentum", 0, INFINITY)
    a.nesterov = nesterov
    if nesterov and a.momentum == 0:
        raise ValueError(f"nesterov needs a momentum above 0, had {momentum!r}")
    check_momentum_buffers(momentum_buffers, a.momentum)
    cdef Tensors t = tensors_of(
        ("params", "grads", "square_avgs", "grad_avgs", "momentum_buffers", "ema_params", "steps"),
        params, grads, (square_avgs, grad_avgs, momentum_buffers, ema_params, steps), 3)
    take_arrays(&a.step, t, 5)
    a.square_avgs, a.grad_avgs, a.momentum_buffers = t.arrays[2], t.arrays[3], t.arrays[4]
    t.run(active_kernels.rmsprop_step, &a)
