cdef extern from "kernels.h" nogil:
    ctypedef struct lion_args:
        step_args step
        void **exp_avgs
        double beta1, beta2


def lion_step(params, grads, exp_avgs, ema_params, steps, *,
              lr, beta1, beta2,
              weight_decay=0.0, bint decoupled=False, l1=0.0, bint proximal=False, max_grad_value=_UNLIMITED,
              ema_decay=0.0, bint maximize=False, grad_scale=1.0):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.lion_step`."""
    cdef lion_args a
    take_options(&a.step, lr, weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale)
    a.beta1 = number(beta1, "beta1", 0, 1, True)
    a.beta2 = number(beta2, "beta2", 0, 1, True)
    cdef Tensors t = tensors_of(
        ("params", "grads", "exp_avgs", "ema_params", "steps"), params, grads, (exp_avgs, ema_params, steps), 3)
    take_arrays(&a.step, t, 3)
    a.exp_avgs = t.arrays[2]
    t.run(active_kernels.lion_step, &a)
