cdef extern from "kernels.h" nogil:
    ctypedef struct adam_args:
        step_args step
        void **exp_avgs
        void **exp_avg_sqs
        void **max_exp_avg_sqs
        double beta1, beta2, eps


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
              lr, beta1, beta2, eps,
              weight_decay=0.0, bint decoupled=False, l1=0.0, bint proximal=False, max_grad_value=_UNLIMITED,
              ema_decay=0.0, bint maximize=False, grad_scale=1.0):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.adam_step`."""
    cdef adam_args a
    take_options(&a.step, lr, weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize, grad_scale)
    a.beta1 = number(beta1, "beta1", 0, 1, True)
    a.beta2 = number(beta2, "beta2", 0, 1, True)
    a.eps = number(eps, "eps", 0, INFINITY)
    cdef Tensors t = tensors_of(
        ("params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs", "ema_params", "steps"),
        params, grads, (exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps), 4)
    take_arrays(&a.step, t, 5)
    a.exp_avgs, a.exp_avg_sqs, a.max_exp_avg_sqs = t.arrays[2], t.arrays[3], t.arrays[4]
    t.run(active_kernels.adam_step, &a)
