# Dropout, and the bit masks that it shares with others.

cdef extern from "kernels.h" nogil:
    ctypedef struct dropout_args:
        ptrdiff_t size
        const void *x
        void *y
        uint32_t *mask
        double p
        uint64_t seed
        uint32_t offset
        c_bool inverted


cdef int64_t draw_cost(double p) noexcept:
    """The cost of drawing a mask beyond that of p = 0.5, which takes one random bit an element."""
    return -active_kernels.dropout_mask.cost if p == 0 else 0 if p == 0.5 else 200


cdef int check_mask(object mask, cnp.ndarray grad_y) except -1:
    return check_bits(mask, cnp.PyArray_SIZE(grad_y), "an element of grad_y")


cdef int check_bits(object mask, ptrdiff_t bits, str which) except -1:
    cdef ptrdiff_t words = (bits + 31) // 32
    check(mask, cnp.NPY_UINT32, False, "mask")
    if (cnp.PyArray_NDIM(<cnp.ndarray>mask) != 1 or cnp.PyArray_DIMS(<cnp.ndarray>mask)[0] != words
            or not cnp.PyArray_CHKFLAGS(<cnp.ndarray>mask, cnp.NPY_ARRAY_C_CONTIGUOUS)):
        raise ValueError(f"mask must be contiguous with shape ({words},), one bit {which}, had {mask.shape}")


cdef int run_dropout(kernel k, dropout_args *a, cnp.ndarray x, cnp.ndarray y, cnp.ndarray mask,
                     int64_t extra_cost=0) except -1:
    a.size = cnp.PyArray_SIZE(x)
    a.x, a.y, a.mask = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), <uint32_t *>cnp.PyArray_DATA(mask)
    run_by_elements(k, is_double(x), a, a.size, extra_cost)


def dropout_forward(x, *, p, seed, offset, bint inverted, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.dropout_forward`."""
    cdef dropout_args a
    cdef cnp.ndarray y, mask
    cdef cnp.npy_intp words
    check(x, cnp.NPY_NOTYPE, False, "x")
    a.p = number(p, "p", 0, 1)
    a.seed = integer(seed, "seed", 1 << 64)
    a.offset = <uint32_t>integer(offset, "offset", 1 << 32)
    a.inverted = inverted
    y = dense_output(out, x, "x")
    if out is not None:
        check_apart(("out", "x"), (out, x), 1, in_place=x)
    words = (cnp.PyArray_SIZE(<cnp.ndarray>x) + 31) // 32
    mask = new_array(1, &words, cnp.NPY_UINT32)
    run_dropout(active_kernels.dropout_forward, &a, x, y, mask, draw_cost(a.p))
    return y, mask


def dropout_backward(grad_y, mask, *, p, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.dropout_backward`."""
    cdef dropout_args a
    cdef cnp.ndarray grad_x
    check(grad_y, cnp.NPY_NOTYPE, False, "grad_y")
    a.p = number(p, "p", 0, 1)
    a.inverted = True
    check_mask(mask, grad_y)
    grad_x = dense_output(out, grad_y, "grad_y")
    if out is not None:
        check_apart(("out", "grad_y", "mask"), (out, grad_y, mask), 1, in_place=grad_y)
    run_dropout(active_kernels.dropout_backward, &a, grad_y, grad_x, mask)
    return grad_x
