cdef extern from "kernels.h" nogil:
    ctypedef struct adagrad_args:
        step_args step
        void **sums
        double lr_decay, eps


def adagrad_step(params, grads, sums, ema_params, steps, *,
                 lr, lr_decay, eps,
                 weight_decay=0.0, bint decoupled=False, l1=0.0, bint proximal=False, max_grad_value=_UNLIMITED,
                 ema_decay=0.0, bint maximize=False, grad_scale=1.0):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.adagrad_step`."""
    cdef adagrad_args a
    take_options(&a.step, lr, weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale)
    a.lr_decay = number(lr_decay, "lr_decay", 0, INFINITY)
    a.eps = number(eps, "eps", 0, INFINITY)
    cdef Tensors t = tensors_of(
        ("params", "grads", "sums", "ema_params", "steps"),
        params, grads, (sums, ema_params, steps), 3)
    take_arrays(&a.step, t, 3)
    a.sums = t.arrays[2]
    t.run(active_kernels.adagrad_step, &a)
