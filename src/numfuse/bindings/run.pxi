# Running kernels.

cdef enum:
    # Below this many elements a kernel takes less time than giving the GIL away and getting it back.
    GIL_THRESHOLD = 8192
    # Elements that a thread takes at a time; a multiple of what dropout draws together.
    GRAIN = 16384


cdef inline bint is_double(cnp.ndarray array) noexcept:
    return cnp.PyArray_TYPE(array) == cnp.NPY_DOUBLE


cdef void run(kernel k, bint is_double, const void *args, ptrdiff_t size, ptrdiff_t grain, int64_t elements,
              int64_t extra_cost=0) noexcept nogil:
    """Run a kernel over [0, size), `grain` at a time; what it costs depends on the number of elements.

    extra_cost : what options add to the cost of the kernel
    """
    if size > 0:
        pool_run(k.of[is_double], args, size, grain, elements * (k.cost + extra_cost) << is_double)


cdef void run_by_elements(kernel k, bint is_double, const void *args, ptrdiff_t size, int64_t extra_cost=0) noexcept:
    if size >= GIL_THRESHOLD:
        with nogil:
            run(k, is_double, args, size, GRAIN, size, extra_cost)
    else:
        run(k, is_double, args, size, GRAIN, size, extra_cost)
