# Batch normalisation, ReLU and dropout in one pass: the kernels of batch normalisation, told to do more.

def batch_norm_relu_dropout_forward(x, weight, bias, running_mean, running_var, *,
                                    axis, momentum, eps, bint relu, p, seed, offset, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.batch_norm_relu_dropout_forward`."""
    cdef dropout_args d
    d.p = number(p, "p", 0, 1)
    d.seed = integer(seed, "seed", 1 << 64)
    d.offset = <uint32_t>integer(offset, "offset", 1 << 32)
    return batch_norm_train(x, weight, bias, running_mean, running_var, axis, momentum, eps, out, relu, &d)


def batch_norm_relu_dropout_backward(grad_y, x, weight, mean, rstd, mask, grad_weight, grad_bias, *, axis, p, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.batch_norm_relu_dropout_backward`."""
    cdef double share = number(p, "p", 0, 1)
    if mask is None and share > 0:
        raise ValueError("mask must be an array where p > 0, was None")
    return batch_norm_gradient(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, axis, True, out, mask, share)
