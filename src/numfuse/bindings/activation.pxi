# Activations: functions of every element alone, by elements; by blocks of rows where the gradient of a bias is summed.

cdef extern from "kernels.h" nogil:
    int SIGMOID, TANH, LEAKY_RELU, ELU, SILU, GELU, GELU_TANH
    ctypedef struct activation_args:
        ptrdiff_t size, period
        const void *x
        const void *bias
        void *y
        const void *grad_y
        void *grad_x
        double *partial
        double alpha
        int function


cdef struct activation_function:
    int number
    int64_t forward_cost, backward_cost  # beyond those of leaky_relu


cdef activation_function find_function(str name) except *:
    if name == "sigmoid":
        return activation_function(SIGMOID, 720, 0)
    if name == "tanh":
        return activation_function(TANH, 720, 0)
    if name == "leaky_relu":
        return activation_function(LEAKY_RELU, 0, 0)
    if name == "elu":
        return activation_function(ELU, 520, 460)
    if name == "silu":
        return activation_function(SILU, 720, 860)
    if name == "gelu":
        return activation_function(GELU, 1320, 1260)
    if name == "gelu_tanh":
        return activation_function(GELU_TANH, 720, 1260)
    raise ValueError('function must be "sigmoid", "tanh", "leaky_relu", "elu", "silu", "gelu" or "gelu_tanh", '
                     f'was {name!r}')


cdef ptrdiff_t check_channels(cnp.ndarray x, str name, object vector, str vector_name, bint written) except -1:
    """The length of a bias or its gradient, which must be that of x's last axis; 1 without one."""
    if vector is None:
        return 1
    check_rows(x, name, vector, vector_name, written)
    return cnp.PyArray_SIZE(<cnp.ndarray>vector)


def activation_forward(x, bias, *, str function not None, alpha, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.activation_forward`."""
    cdef activation_args a
    cdef activation_function f
    cdef cnp.ndarray y
    check(x, cnp.NPY_NOTYPE, False, "x")
    f = find_function(function)
    a.function, a.alpha = f.number, number(alpha, "alpha", -INFINITY, INFINITY)
    a.period = period_of(check_channels(x, "x", bias, "bias", False))
    y = dense_output(out, x, "x")
    if out is not None:
        check_apart(("out", "x", "bias"), (out, x, bias), 1, in_place=x)
    a.size = cnp.PyArray_SIZE(<cnp.ndarray>x)
    a.x, a.y, a.bias = cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_DATA(y), NULL
    if bias is not None:
        a.bias = periodic_copy(bias, a.period)
    run_by_elements(active_kernels.activation_forward, is_double(x), &a, a.size, f.forward_cost)
    free(<void *>a.bias)
    return y


def activation_backward(grad_y, saved, bias, *, str function not None, alpha, grad_bias, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.activation_backward`."""
    cdef activation_args a
    cdef activation_function f
    cdef bias_args sums
    cdef cnp.ndarray grad_x
    check(grad_y, cnp.NPY_NOTYPE, False, "grad_y")
    check(saved, cnp.PyArray_TYPE(<cnp.ndarray>grad_y), False, "saved")
    f = find_function(function)
    a.function, a.alpha = f.number, number(alpha, "alpha", -INFINITY, INFINITY)
    check_alike(saved, grad_y, "saved", "grad_y")
    a.period = period_of(check_channels(grad_y, "grad_y", bias, "bias", False))
    if grad_bias is not None:
        check_rows(grad_y, "grad_y", grad_bias, "grad_bias", True)
        take_sums(&sums, grad_y, grad_bias)
        a.period = sums.period
    grad_x = dense_output(out, grad_y, "grad_y")
    check_apart(("out", "grad_bias", "grad_y", "saved", "bias"), (out, grad_bias, grad_y, saved, bias), 2,
                in_place=grad_y)
    a.size = cnp.PyArray_SIZE(<cnp.ndarray>grad_y)
    a.grad_y, a.x = cnp.PyArray_DATA(<cnp.ndarray>grad_y), cnp.PyArray_DATA(<cnp.ndarray>saved)
    a.grad_x, a.bias = cnp.PyArray_DATA(grad_x), NULL
    if bias is not None and f.number != SIGMOID and f.number != TANH:
        a.bias = periodic_copy(bias, a.period)
    try:
        if grad_bias is None:
            run_by_elements(active_kernels.activation_backward, is_double(grad_y), &a, a.size, f.backward_cost)
        else:
            sum_rows(active_kernels.activation_row_sums, is_double(grad_y), &a, &a.partial, &sums, f.backward_cost)
    finally:
        free(<void *>a.bias)
    return grad_x
