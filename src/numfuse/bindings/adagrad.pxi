cdef extern from "kernels.h" nogil:
    ctypedef struct adagrad_args:
        step_args step
        void **sums
        double lr_decay, eps


def adagrad_step(params, grads, sums, ema_params, steps, *,
                 lr, lr_decay, eps,
                 weight_decay, bint decoupled, l1, bint proximal, max_grad_value, ema_decay, bint maximize, grad_scale):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.adagrad_step`."""
    cdef adagrad_args a
    cdef TensorLists t = TensorLists.__new__(TensorLists)
    take_options(&a.step, lr, weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale)
    a.lr_decay = number(lr_decay, "lr_decay", 0, INFINITY)
    a.eps = number(eps, "eps", 0, INFINITY)
    t.fill(("params", "grads", "sums", "ema_params", "steps"), (params, grads, sums, ema_params), 3, steps)
    take_arrays(&a.step, t, 3)
    a.sums = t.arrays[2]
    t.run(active_kernels.adagrad_step, &a)
