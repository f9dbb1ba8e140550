# Softmax, by rows.

cdef extern from "kernels.h" nogil:
    ctypedef struct softmax_args:
        ptrdiff_t rows, channels
        const void *x
        const void *grad_y
        void *y
        void *grad_x


cdef int set_rows(cnp.ndarray x, str name, softmax_args *a) except -1:
    cdef int ndim = cnp.PyArray_NDIM(x)
    if ndim == 0:
        raise ValueError(f"{name} must have an axis of channels, had shape ()")
    check_c_contiguous(x, name)
    a.channels = cnp.PyArray_DIMS(x)[ndim - 1]
    a.rows = cnp.PyArray_SIZE(x) // max(<ptrdiff_t>1, a.channels)


cdef void run_softmax(kernel k, bint is_double, softmax_args *a) noexcept:
    cdef ptrdiff_t grain = max(<ptrdiff_t>1, GRAIN // max(<ptrdiff_t>1, a.channels))
    run_alone(k, is_double, a, a.rows, grain, a.rows * a.channels)


def softmax_forward(x, *, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.softmax_forward`."""
    cdef softmax_args a
    cdef cnp.ndarray y
    check(x, cnp.NPY_NOTYPE, False, "x")
    set_rows(x, "x", &a)
    y = dense_output(out, x, "x")
    if out is not None:
        check_apart(("out", "x"), (out, x), 1, in_place=x)
    a.x, a.y = cnp.PyArray_DATA(<cnp.ndarray>x), cnp.PyArray_DATA(y)
    run_softmax(active_kernels.softmax_forward, is_double(x), &a)
    return y


def softmax_backward(grad_y, y, *, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.softmax_backward`."""
    cdef softmax_args a
    cdef cnp.ndarray grad_x
    check(grad_y, cnp.NPY_NOTYPE, False, "grad_y")
    check(y, cnp.PyArray_TYPE(<cnp.ndarray>grad_y), False, "y")
    set_rows(grad_y, "grad_y", &a)
    check_alike(y, grad_y, "y", "grad_y")
    grad_x = dense_output(out, grad_y, "grad_y")
    if out is not None:
        check_apart(("out", "grad_y", "y"), (out, grad_y, y), 1, in_place=grad_y)
    a.grad_y, a.y = cnp.PyArray_DATA(<cnp.ndarray>grad_y), cnp.PyArray_DATA(<cnp.ndarray>y)
    a.grad_x = cnp.PyArray_DATA(grad_x)
    run_softmax(active_kernels.softmax_backward, is_double(grad_y), &a)
    return grad_x
