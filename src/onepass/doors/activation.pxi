# Sigmoid and tanh, by rows; without a bias every element is a row.

cdef int run_activation(kernel *const *both, activation_args *a, cnp.ndarray x, int64_t cost) except -1:
    """Run a kernel of x's type by rows."""
    cdef kernel *task = both[cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE]
    cdef ptrdiff_t size = cnp.PyArray_SIZE(x), grain = max(<ptrdiff_t>1, GRAIN // max(<ptrdiff_t>1, a.channels))
    cost = cost * size << (cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE)
    if size >= GIL_THRESHOLD:
        with nogil:
            run(task, a, a.rows, grain, cost)
    elif size > 0:
        run(task, a, a.rows, grain, cost)


cdef int function_number(str function) except -1:
    if function == "sigmoid":
        return SIGMOID
    if function == "tanh":
        return TANH
    raise ValueError(f'function must be "sigmoid" or "tanh", was {function!r}')


cdef void *channel_array(object array, cnp.ndarray x, str x_name, str name, bint written,
                         activation_args *a) except? NULL:
    """The data of a bias or its gradient, and x as rows; where that is None, NULL and rows of one element."""
    cdef int last = cnp.PyArray_NDIM(x) - 1
    a.rows, a.channels = cnp.PyArray_SIZE(x), 1
    if array is None:
        return NULL
    if last < 0:
        raise ValueError(f"{x_name} must have an axis of channels where {name} is not None, had shape ()")
    check_c_contiguous(x, x_name)
    a.channels = cnp.PyArray_DIMS(x)[last]
    a.rows = cnp.PyArray_SIZE(x) // max(<ptrdiff_t>1, a.channels)
    return per_channel(array, cnp.PyArray_TYPE(x), written, x, last, name)


def activation_forward(x, bias, *, str function not None, out=None):
    """The kernel whose meaning, shapes and formula are those of `onepass.reference.activation_forward`."""
    cdef activation_args a
    cdef cnp.ndarray y
    check(x, cnp.NPY_NOTYPE, False, "x")
    a.function = function_number(function)
    a.bias = channel_array(bias, x, "x", "bias", False, &a)
    y = dense_output(out, x, "x")
    if out is not None:
        check_apart(("out", "x", "bias"), (out, x, bias), 1, in_place=x)
    a.x, a.y = cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_DATA(y)
    run_activation(table.activation_forward, &a, x, SIGMOID_COST)
    return y


def activation_backward(grad_y, y, *, str function not None, grad_bias, out=None):
    """The kernel whose meaning, shapes and formula are those of `onepass.reference.activation_backward`."""
    cdef activation_args a
    cdef cnp.ndarray grad_x
    check(grad_y, cnp.NPY_NOTYPE, False, "grad_y")
    check(y, cnp.PyArray_TYPE(<cnp.ndarray>grad_y), False, "y")
    a.function = function_number(function)
    check_alike(y, grad_y, "y", "grad_y")
    a.grad_bias = channel_array(grad_bias, grad_y, "grad_y", "grad_bias", True, &a)
    grad_x = dense_output(out, grad_y, "grad_y")
    check_apart(("out", "grad_bias", "grad_y", "y"), (out, grad_bias, grad_y, y), 2, in_place=grad_y)
    a.grad_y, a.y = cnp.PyArray_DATA(<cnp.ndarray>grad_y), cnp.PyArray_DATA(<cnp.ndarray>y)
    a.grad_x = cnp.PyArray_DATA(grad_x)
    if grad_bias is None:
        run_activation(table.activation_backward, &a, grad_y, GRADIENT_COST)
    else:
        sum_activation(&a, grad_y)
    return grad_x


cdef int sum_activation(activation_args *a, cnp.ndarray grad_y) except -1:
    cdef int kind = cnp.PyArray_TYPE(grad_y) == cnp.NPY_DOUBLE
    cdef ptrdiff_t size = cnp.PyArray_SIZE(grad_y)
    cdef ptrdiff_t blocks = (a.rows + ACTIVATION_BLOCK_ROWS - 1) // ACTIVATION_BLOCK_ROWS
    a.partial = <double *>malloc(<size_t>(max(<ptrdiff_t>1, blocks) * a.channels + 1) * sizeof(double))
    if a.partial == NULL:
        raise MemoryError
    if size >= GIL_THRESHOLD:
        with nogil:
            sum_activation_parts(kind, a, blocks, size)
    else:
        sum_activation_parts(kind, a, blocks, size)
    free(a.partial)


cdef void sum_activation_parts(int kind, activation_args *a, ptrdiff_t blocks, ptrdiff_t size) noexcept nogil:
    cdef ptrdiff_t grain = max(<ptrdiff_t>1, GRAIN // (ACTIVATION_BLOCK_ROWS * max(<ptrdiff_t>1, a.channels)))
    run(table.activation_row_sums[kind], a, blocks, grain, size * <int64_t>GRADIENT_COST << kind)
    run(table.activation_merge_sums[kind], a, a.channels, 256, blocks * a.channels * <int64_t>GRAD_NORM_COST)
