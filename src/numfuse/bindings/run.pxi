# Running kernels.

cdef enum:
    # Below this many elements a kernel takes less time than releasing the GIL and acquiring it again.
    GIL_THRESHOLD = 8192
    # Elements that a thread takes at a time; a multiple of DROPOUT_GROUP in csrc/kernels/dropout.h.
    GRAIN = 16384


cdef inline bint is_double(cnp.ndarray array) noexcept:
    return cnp.PyArray_TYPE(array) == cnp.NPY_DOUBLE


cdef void run(kernel k, bint is_double, const void *args, ptrdiff_t size, ptrdiff_t grain, int64_t elements,
              int64_t extra_cost=0) noexcept nogil:
    """Run a kernel over [0, size) in parts of `grain`, on threads if there is enough work.

    size : of the job, in what the kernel counts: elements, rows, blocks or channels
    elements : that the whole job reads or computes, which its cost is for
    extra_cost : that options add to the kernel's cost an element
    """
    if size > 0:
        pool_run(k.of[is_double], args, size, grain, elements * (k.cost + extra_cost) << is_double)


cdef void run_alone(kernel k, bint is_double, const void *args, ptrdiff_t size, ptrdiff_t grain, int64_t elements,
                    int64_t extra_cost=0) noexcept:
    """Run the only kernel of a call, without the GIL if there is enough work."""
    if elements >= GIL_THRESHOLD:
        with nogil:
            run(k, is_double, args, size, grain, elements, extra_cost)
    else:
        run(k, is_double, args, size, grain, elements, extra_cost)


cdef void run_by_elements(kernel k, bint is_double, const void *args, ptrdiff_t size, int64_t extra_cost=0) noexcept:
    run_alone(k, is_double, args, size, GRAIN, size, extra_cost)
