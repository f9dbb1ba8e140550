# Limiting the norm of rows.

cdef extern from "kernels.h" nogil:
    ctypedef struct max_norm_args:
        tensor_list rows
        const ptrdiff_t *lengths
        const c_bool *limited
        void **params
        void **ema_params
        double max_norm, ema_decay


def max_norm(params, ema_params, *, max_norm, ema_decay):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.max_norm`."""
    cdef tuple arrays = as_tuple(params, "params")
    cdef tuple averages = None if ema_params is None else as_tuple(ema_params, "ema_params")
    cdef Py_ssize_t i, n = len(arrays), count = 0, touched = 0
    cdef ptrdiff_t elements = 0, rows, grain
    cdef int kind = cnp.NPY_NOTYPE
    cdef max_norm_args a
    cdef cnp.ndarray param
    a.max_norm = number(max_norm, "max_norm", 0, INFINITY)
    if a.max_norm == 0:
        raise ValueError(f"max_norm must be > 0, was {max_norm!r}")
    a.ema_decay = number(ema_decay, "ema_decay", 0, 1, True)
    if averages is not None and len(averages) != n:
        raise ValueError(f"ema_params must have {n} arrays, as many as params, had {len(averages)}")
    cdef void *memory = malloc(2 * n * sizeof(MemorySpan) + (2 * n + 1) * sizeof(ptrdiff_t)
                               + n * (2 * sizeof(void *) + sizeof(c_bool)))
    if memory == NULL:
        raise MemoryError
    cdef MemorySpan *spans = <MemorySpan *>memory
    cdef ptrdiff_t *offsets = <ptrdiff_t *>(spans + 2 * n)
    cdef ptrdiff_t *lengths = offsets + n + 1
    cdef void **data = <void **>(lengths + n)
    cdef c_bool *limited = <c_bool *>(data + 2 * n)
    a.params, a.ema_params = data, NULL if averages is None else data + n
    offsets[0] = 0
    try:
        for i in range(n):
            check(arrays[i], kind, True, "params", i)
            param = arrays[i]
            kind = cnp.PyArray_TYPE(param)
            if not cnp.PyArray_CHKFLAGS(param, cnp.NPY_ARRAY_C_CONTIGUOUS):
                check_c_contiguous(param, place("params", i))
            spans[touched] = span_of(param, True, i)
            touched += 1
            if averages is not None:
                check(averages[i], kind, True, "ema_params", i)
                check_alike(averages[i], param, "ema_params", "params", i)
                spans[touched] = span_of(averages[i], True, i)
                spans[touched].list = 1
                touched += 1
            if cnp.PyArray_SIZE(param) == 0 or (cnp.PyArray_NDIM(param) < 2 and averages is None):
                continue
            limited[count] = cnp.PyArray_NDIM(param) >= 2
            rows = cnp.PyArray_DIMS(param)[0] if limited[count] else 1
            lengths[count] = cnp.PyArray_SIZE(param) // rows
            offsets[count + 1] = offsets[count] + rows
            a.params[count] = cnp.PyArray_DATA(param)
            if averages is not None:
                a.ema_params[count] = cnp.PyArray_DATA(<cnp.ndarray>averages[i])
            elements += cnp.PyArray_SIZE(param)
            count += 1
        check_spans(spans, touched, ("params", "ema_params"))
        a.rows.count, a.rows.offsets, a.rows.steps = count, offsets, NULL
        a.lengths, a.limited = lengths, limited
        grain = max(1, GRAIN * offsets[count] // max(1, elements))  # rows of the mean length
        run_alone(active_kernels.max_norm, kind == cnp.NPY_DOUBLE, &a, offsets[count], grain, elements)
    finally:
        free(memory)
