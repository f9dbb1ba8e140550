# The norm of a list of gradients.

cdef extern from "kernels.h" nogil:
    int GRAD_NORM_BLOCK
    ctypedef struct grad_norm_args:
        tensor_list blocks
        const ptrdiff_t *sizes
        void **grads
        double *squares
        double *norm


def grad_norm(grads):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.grad_norm`."""
    cdef tuple arrays = as_tuple(grads, "grads")
    cdef Py_ssize_t i, n = len(arrays), count = 0
    cdef ptrdiff_t blocks = 0, elements = 0
    cdef int kind = cnp.NPY_NOTYPE
    cdef bint is_double
    cdef double norm = 0
    cdef grad_norm_args a
    cdef void *memory
    for i in range(n):
        if arrays[i] is not None:
            check(arrays[i], kind, False, "grads", i)
            check_dense(arrays[i], "grads", i)
            kind = cnp.PyArray_TYPE(<cnp.ndarray>arrays[i])
            blocks += (cnp.PyArray_SIZE(<cnp.ndarray>arrays[i]) + GRAD_NORM_BLOCK - 1) // GRAD_NORM_BLOCK
    if blocks == 0:
        return 0.0
    memory = malloc(n * sizeof(void *) + (2 * n + 1) * sizeof(ptrdiff_t) + blocks * sizeof(double))
    if memory == NULL:
        raise MemoryError
    a.squares = <double *>memory
    a.grads = <void **>(a.squares + blocks)
    cdef ptrdiff_t *sizes = <ptrdiff_t *>(a.grads + n)
    cdef ptrdiff_t *offsets = sizes + n
    offsets[0] = 0
    for i in range(n):
        if arrays[i] is not None and cnp.PyArray_SIZE(<cnp.ndarray>arrays[i]) > 0:
            a.grads[count] = cnp.PyArray_DATA(<cnp.ndarray>arrays[i])
            sizes[count] = cnp.PyArray_SIZE(<cnp.ndarray>arrays[i])
            offsets[count + 1] = offsets[count] + (sizes[count] + GRAD_NORM_BLOCK - 1) // GRAD_NORM_BLOCK
            elements += sizes[count]
            count += 1
    a.blocks.count, a.blocks.offsets, a.blocks.steps = count, offsets, NULL
    a.sizes, a.norm = sizes, &norm
    is_double = kind == cnp.NPY_DOUBLE
    run_alone(active_kernels.grad_norm_squares, is_double, &a, blocks, GRAIN // GRAD_NORM_BLOCK, elements)
    active_kernels.grad_norm_merge.of[is_double](&a, 0, blocks)
    free(memory)
    return norm
