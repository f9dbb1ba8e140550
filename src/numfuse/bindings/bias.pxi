# The bias after a matrix product, and sums over rows, which other operations take, too.

cdef extern from "kernels.h" nogil:
    int BIAS_BLOCK_ROWS, BIAS_MIN_PERIOD
    ctypedef struct bias_args:
        ptrdiff_t size, channels, period
        const void *x
        void *y
        const void *bias
        void *grad_bias
        double *partial


def bias_forward(x, bias, *, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.bias_forward`."""
    cdef bias_args a
    cdef cnp.ndarray y
    check(x, cnp.NPY_NOTYPE, False, "x")
    check_rows(x, "x", bias, "bias", False)
    y = dense_output(out, x, "x")
    if out is not None:
        check_apart(("out", "x", "bias"), (out, x, bias), 1, in_place=x)
    a.size, a.period = cnp.PyArray_SIZE(<cnp.ndarray>x), period_of(cnp.PyArray_SIZE(<cnp.ndarray>bias))
    a.x, a.y = cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_DATA(y)
    a.bias = periodic_copy(bias, a.period)
    run_by_elements(active_kernels.bias_forward, is_double(x), &a, a.size)
    free(<void *>a.bias)
    return y


def bias_backward(grad_y, grad_bias):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.bias_backward`."""
    cdef bias_args a
    check(grad_y, cnp.NPY_NOTYPE, False, "grad_y")
    check_rows(grad_y, "grad_y", grad_bias, "grad_bias", True)
    check_apart(("grad_bias", "grad_y"), (grad_bias, grad_y), 1)
    take_sums(&a, grad_y, grad_bias)
    a.x = cnp.PyArray_DATA(<cnp.ndarray>grad_y)
    sum_rows(active_kernels.bias_backward, is_double(grad_y), &a, &a.partial, &a)


cdef int check_rows(cnp.ndarray x, str name, object vector, str vector_name, bint written) except -1:
    """C-contiguous rows of x, and a contiguous vector of the type and length of a row."""
    cdef int ndim = cnp.PyArray_NDIM(x)
    if ndim == 0 or not cnp.PyArray_CHKFLAGS(x, cnp.NPY_ARRAY_C_CONTIGUOUS):
        raise ValueError(f"{name} must be C-contiguous with at least one axis to go with {vector_name}, had shape "
                         f"{(<object>x).shape} and strides {(<object>x).strides}; use np.ascontiguousarray")
    per_channel(vector, cnp.PyArray_TYPE(x), written, x, ndim - 1, vector_name, required=True)


cdef void *periodic_copy(cnp.ndarray bias, ptrdiff_t length) except NULL:
    """A copy of a bias that goes on to this length, from the beginning again and again."""
    cdef ptrdiff_t item = cnp.PyArray_ITEMSIZE(bias), channels = cnp.PyArray_SIZE(bias), done = channels, n
    cdef char *memory = <char *>malloc(<size_t>(length * item + 1))
    if memory == NULL:
        raise MemoryError
    memcpy(memory, cnp.PyArray_DATA(bias), <size_t>(channels * item))
    while 0 < done < length:
        n = min(done, length - done)
        memcpy(memory + done * item, memory, <size_t>(n * item))
        done += n
    return memory


cdef void take_sums(bias_args *a, cnp.ndarray grad, cnp.ndarray grad_bias) noexcept:
    """Set what sum_rows must be told of the rows of `grad` and their sum."""
    a.size, a.channels = cnp.PyArray_SIZE(grad), cnp.PyArray_SIZE(grad_bias)
    a.period, a.grad_bias = period_of(a.channels), cnp.PyArray_DATA(grad_bias)


cdef ptrdiff_t period_of(ptrdiff_t channels) noexcept:
    """The smallest multiple of the channels from BIAS_MIN_PERIOD on."""
    return (BIAS_MIN_PERIOD + channels - 1) // max(<ptrdiff_t>1, channels) * channels


cdef int sum_rows(kernel k, bint is_double, void *args, double **partial, bias_args *a,
                  int64_t extra_cost=0) except -1:
    """Run a kernel by blocks of rows that leaves its sums in `partial`, an argument of its own, and merge them.

    `a` is what take_sums has set.
    """
    if a.channels == 0:
        return 0
    cdef ptrdiff_t block = BIAS_BLOCK_ROWS * a.period, blocks = (a.size + block - 1) // block
    a.partial = partial[0] = <double *>malloc(<size_t>(blocks * a.period + 1) * sizeof(double))
    if a.partial == NULL:
        raise MemoryError
    if a.size >= GIL_THRESHOLD:
        with nogil:
            run_sums(k, is_double, args, a, blocks, extra_cost)
    else:
        run_sums(k, is_double, args, a, blocks, extra_cost)
    free(a.partial)


cdef void run_sums(kernel k, bint is_double, void *args, bias_args *a, ptrdiff_t blocks,
                   int64_t extra_cost) noexcept nogil:
    run(k, is_double, args, blocks, 1, a.size, extra_cost)
    run(active_kernels.bias_merge_sums, is_double, a, a.channels, 256, blocks * a.period)
