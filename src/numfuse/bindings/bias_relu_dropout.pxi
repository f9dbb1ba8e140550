# Bias, ReLU and dropout in one pass.

cdef extern from "kernels.h" nogil:
    ctypedef struct bias_relu_dropout_args:
        ptrdiff_t size, channels
        const void *x
        void *y
        const void *bias
        uint32_t *mask
        c_bool relu
        double p
        uint64_t seed
        uint32_t offset
        ptrdiff_t period
        double *partial


def bias_relu_dropout_forward(x, bias, *, bint relu, p, seed, offset, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.bias_relu_dropout_forward`."""
    cdef bias_relu_dropout_args a
    cdef cnp.ndarray y, mask = None
    cdef cnp.npy_intp words
    cdef void *memory = NULL
    check(x, cnp.NPY_NOTYPE, False, "x")
    if bias is not None:
        check_rows(x, "x", bias, "bias", False)
    a.relu = relu
    a.p = number(p, "p", 0, 1)
    a.seed = integer(seed, "seed", 1 << 64)
    a.offset = <uint32_t>integer(offset, "offset", 1 << 32)
    if bias is not None and not relu and a.p == 0:
        return bias_forward(x, bias, out=out), None
    y = dense_output(out, x, "x")
    if out is not None:
        check_apart(("out", "x", "bias"), (out, x, bias), 1, in_place=x)
    a.mask = NULL
    if relu or a.p > 0:
        words = (cnp.PyArray_SIZE(<cnp.ndarray>x) + 31) // 32
        mask = new_array(1, &words, cnp.NPY_UINT32)
        a.mask = <uint32_t *>cnp.PyArray_DATA(mask)
    if bias is not None:
        memory = periodic_copy(bias, cnp.PyArray_SIZE(<cnp.ndarray>bias) + 32)  # the rest of a word
        a.channels = cnp.PyArray_SIZE(<cnp.ndarray>bias)
    a.bias = memory
    a.size = cnp.PyArray_SIZE(<cnp.ndarray>x)
    a.x, a.y = cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_DATA(y)
    run_by_elements(active_kernels.bias_relu_dropout_forward, is_double(x), &a, a.size,
                    0 if a.p == 0 else active_kernels.dropout_mask.cost + draw_cost(a.p))
    free(memory)
    return y, mask


def bias_relu_dropout_backward(grad_y, mask, *, p, grad_bias, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.bias_relu_dropout_backward`."""
    cdef bias_relu_dropout_args a
    cdef bias_args sums
    cdef cnp.ndarray grad_x
    check(grad_y, cnp.NPY_NOTYPE, False, "grad_y")
    a.p = number(p, "p", 0, 1)
    if mask is None and (a.p > 0 or out is not None):
        raise ValueError("mask must be an array where p > 0 or out is given, was None")
    if mask is None:
        if grad_bias is not None:
            bias_backward(grad_y, grad_bias)
        return grad_y
    if grad_bias is None:
        return dropout_backward(grad_y, mask, p=p, out=out)
    check_rows(grad_y, "grad_y", grad_bias, "grad_bias", True)
    check_mask(mask, grad_y)
    grad_x = dense_output(out, grad_y, "grad_y")
    check_apart(("out", "grad_bias", "grad_y", "mask"), (out, grad_bias, grad_y, mask), 2, in_place=grad_y)
    take_sums(&sums, grad_y, grad_bias)
    a.size, a.period, a.mask = sums.size, sums.period, <uint32_t *>cnp.PyArray_DATA(<cnp.ndarray>mask)
    a.x, a.y = cnp.PyArray_DATA(<cnp.ndarray>grad_y), cnp.PyArray_DATA(grad_x)
    sum_rows(active_kernels.bias_relu_dropout_backward, is_double(grad_y), &a, &a.partial, &sums)
    return grad_x
