# Bias, ReLU and dropout in one pass.

cdef extern from "kernels.h" nogil:
    int BIAS_BLOCK_ROWS, BIAS_MIN_PERIOD
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
        void *grad_bias
        ptrdiff_t period
        double *partial


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
    cdef cnp.ndarray grad_x
    check(grad_y, cnp.NPY_NOTYPE, False, "grad_y")
    a.p = number(p, "p", 0, 1)
    if mask is None and (a.p > 0 or out is not None):
        raise ValueError("mask must be an array where p > 0 or out is given, was None")
    if grad_bias is None:
        return grad_y if mask is None else dropout_backward(grad_y, mask, p=p, out=out)
    check_rows(grad_y, "grad_y", grad_bias, "grad_bias", True)
    if mask is None:
        grad_x = grad_y
    else:
        check_mask(mask, grad_y)
        grad_x = dense_output(out, grad_y, "grad_y")
    check_apart(("out", "grad_bias", "grad_y", "mask"), (out, grad_bias, grad_y, mask), 2, in_place=grad_y)
    a.mask = NULL if mask is None else <uint32_t *>cnp.PyArray_DATA(<cnp.ndarray>mask)
    a.size = cnp.PyArray_SIZE(<cnp.ndarray>grad_y)
    a.x, a.y = cnp.PyArray_DATA(<cnp.ndarray>grad_y), cnp.PyArray_DATA(grad_x)
    a.grad_bias = cnp.PyArray_DATA(<cnp.ndarray>grad_bias)
    a.channels = cnp.PyArray_SIZE(<cnp.ndarray>grad_bias)
    if a.channels > 0:
        a.period = period_of(a.channels)
        sum_rows(active_kernels.bias_relu_dropout_backward, is_double(grad_y), &a, &a.partial, &a)
    return grad_x


cdef ptrdiff_t period_of(ptrdiff_t channels) noexcept:
    """The smallest multiple of the channels from BIAS_MIN_PERIOD on."""
    return (BIAS_MIN_PERIOD + channels - 1) // max(<ptrdiff_t>1, channels) * channels


cdef int sum_rows(kernel k, bint is_double, void *args, double **partial, bias_relu_dropout_args *a,
                  int64_t extra_cost=0) except -1:
    """Run a kernel by blocks of rows that leaves its sums in `partial`, an argument of its own, and merge them.

    Of `a`, the sizes and grad_bias must be set.
    """
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


cdef void run_sums(kernel k, bint is_double, void *args, bias_relu_dropout_args *a, ptrdiff_t blocks,
                   int64_t extra_cost) noexcept nogil:
    run(k, is_double, args, blocks, 1, a.size, extra_cost)
    run(active_kernels.bias_relu_dropout_merge_sums, is_double, a, a.channels, 256, blocks * a.period)
