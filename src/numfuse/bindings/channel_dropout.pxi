# Dropout of whole channels.

cdef extern from "kernels.h" nogil:
    ctypedef struct channel_dropout_args:
        dropout_args elements
        ptrdiff_t channels, inner
        c_bool channels_last


cdef ptrdiff_t fill_channels(channel_dropout_args *a, cnp.ndarray x, object axis, str name) except -1:
    """Say where the channels are in x; returns how many bits their mask has."""
    cdef int channels = channel_axis(x, axis, name), i
    check_c_contiguous(x, name)
    a.channels, a.inner = cnp.PyArray_DIMS(x)[channels], 1
    a.channels_last = channels == cnp.PyArray_NDIM(x) - 1
    for i in range(1, cnp.PyArray_NDIM(x)):
        if i != channels:
            a.inner *= cnp.PyArray_DIMS(x)[i]
    return cnp.PyArray_DIMS(x)[0] * a.channels


def channel_dropout_forward(x, *, p, seed, offset, bint inverted, axis, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.channel_dropout_forward`."""
    cdef channel_dropout_args a
    cdef cnp.ndarray y, mask
    cdef cnp.npy_intp words
    cdef ptrdiff_t bits
    check(x, cnp.NPY_NOTYPE, False, "x")
    bits = fill_channels(&a, x, axis, "x")
    a.elements.p = number(p, "p", 0, 1)
    a.elements.seed = integer(seed, "seed", 1 << 64)
    a.elements.offset = <uint32_t>integer(offset, "offset", 1 << 32)
    a.elements.inverted = inverted
    y = dense_output(out, x, "x")
    if out is not None:
        check_apart(("out", "x"), (out, x), 1, in_place=x)
    words = (bits + 31) // 32
    mask = new_array(1, &words, cnp.NPY_UINT32)
    a.elements.mask = <uint32_t *>cnp.PyArray_DATA(mask)
    run_by_elements(active_kernels.dropout_mask, False, &a.elements, bits, draw_cost(a.elements.p))
    run_dropout(active_kernels.channel_dropout, &a.elements, x, y, mask)
    return y, mask


def channel_dropout_backward(grad_y, mask, *, p, axis, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.channel_dropout_backward`."""
    cdef channel_dropout_args a
    cdef cnp.ndarray grad_x
    check(grad_y, cnp.NPY_NOTYPE, False, "grad_y")
    check_bits(mask, fill_channels(&a, grad_y, axis, "grad_y"), "a channel of every sample")
    a.elements.p = number(p, "p", 0, 1)
    a.elements.inverted = True
    grad_x = dense_output(out, grad_y, "grad_y")
    if out is not None:
        check_apart(("out", "grad_y", "mask"), (out, grad_y, mask), 1, in_place=grad_y)
    run_dropout(active_kernels.channel_dropout, &a.elements, grad_y, grad_x, mask)
    return grad_x
