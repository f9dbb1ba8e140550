# Recycled memory: arrays over the buffers of csrc/buffers.c, to which a buffer goes back when its last view is gone.

cdef enum:
    MAX_NDIM = 32
    # Results of fewer bytes come from NumPy, as fast and without page faults; a buffer's padding would count.
    RECYCLED_FROM = 1 << 14


@cython.final
@cython.freelist(64)
cdef class RecycledBuffer:
    """The base of an array in recycled memory. NumPy asks it as a buffer when it makes the array writable again."""
    cdef void *data
    cdef Py_ssize_t size

    def __dealloc__(self):
        buffer_give(self.data)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, False, flags)


cdef cnp.ndarray recycled(int ndim, const cnp.npy_intp *shape, const cnp.npy_intp *strides, int kind, Py_ssize_t nbytes):
    cdef RecycledBuffer buffer = RecycledBuffer.__new__(RecycledBuffer)
    cdef cnp.ndarray array
    buffer.size = nbytes
    buffer.data = buffer_take(<size_t>nbytes)
    if buffer.data == NULL:
        raise MemoryError(f"no memory for an array of {nbytes} bytes")
    array = cnp.PyArray_New(cnp.ndarray, ndim, <cnp.npy_intp *>shape, kind, <cnp.npy_intp *>strides, buffer.data, 0,
                            cnp.NPY_ARRAY_CARRAY, None)
    cnp.set_array_base(array, buffer)
    return array


cdef cnp.ndarray new_array(int ndim, const cnp.npy_intp *shape, int kind):
    """A C-contiguous array of anything."""
    cdef Py_ssize_t nbytes = cnp.PyArray_DescrFromType(kind).itemsize
    cdef int i
    for i in range(ndim):
        if shape[i] > 0 and nbytes > INTPTR_MAX // shape[i]:
            raise MemoryError(f"no memory for an array of shape {tuple([shape[j] for j in range(ndim)])}")
        nbytes *= shape[i]
    if nbytes < RECYCLED_FROM:
        return cnp.PyArray_EMPTY(ndim, <cnp.npy_intp *>shape, kind, 0)
    return recycled(ndim, shape, NULL, kind, nbytes)


cdef cnp.ndarray empty_like(cnp.ndarray model):
    """What NumPy's empty_like gives: dense, its axes in the order that those of `model` have in memory."""
    cdef cnp.npy_intp strides[MAX_NDIM]
    cdef int order[MAX_NDIM]
    cdef int ndim = cnp.PyArray_NDIM(model), i, j
    cdef Py_ssize_t stride = cnp.PyArray_ITEMSIZE(model)
    if cnp.PyArray_NBYTES(model) < RECYCLED_FROM or ndim > MAX_NDIM:
        return PyArray_NewLikeArray(model, cnp.NPY_KEEPORDER, NULL, 0)
    if cnp.PyArray_CHKFLAGS(model, cnp.NPY_ARRAY_C_CONTIGUOUS):
        return recycled(ndim, cnp.PyArray_DIMS(model), NULL, cnp.PyArray_TYPE(model), cnp.PyArray_NBYTES(model))
    # The axis with the longest stride first; of equal ones that which comes first.
    for i in range(ndim):
        j = i
        while j > 0 and magnitude(cnp.PyArray_STRIDES(model)[order[j - 1]]) < magnitude(cnp.PyArray_STRIDES(model)[i]):
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
    for i in range(ndim - 1, -1, -1):
        j = ndim - 1 - i if cnp.PyArray_CHKFLAGS(model, cnp.NPY_ARRAY_F_CONTIGUOUS) else order[i]
        strides[j] = stride
        stride *= cnp.PyArray_DIMS(model)[j]
    return recycled(ndim, cnp.PyArray_DIMS(model), strides, cnp.PyArray_TYPE(model), cnp.PyArray_NBYTES(model))


def empty(shape, dtype):
    """A C-contiguous array of anything, in recycled memory unless it is small: what kernels return their results in.

    It is as any other array, but for `resize` in place, which NumPy refuses to arrays that do not own
    their memory. `dtype` is a native number type. Once the array and its views are gone, the memory is
    kept for the next one.
    """
    cdef cnp.npy_intp dims[MAX_NDIM]
    cdef cnp.dtype kind = dtype if isinstance(dtype, cnp.dtype) else cnp.dtype(dtype)
    cdef tuple lengths
    cdef Py_ssize_t i
    if kind.type_num > cnp.NPY_CLONGDOUBLE or kind.byteorder not in (c"=", c"|"):
        raise TypeError(f"dtype must be a native number type, was {kind.str}")
    lengths = shape if type(shape) is tuple else (shape,) if hasattr(shape, "__index__") else tuple(shape)
    if len(lengths) > MAX_NDIM:
        raise ValueError(f"shape must have at most {MAX_NDIM} dimensions, had {len(lengths)}")
    for i in range(len(lengths)):
        dims[i] = <cnp.npy_intp>integer(lengths[i], "shape", <Py_ssize_t>INTPTR_MAX)
    return new_array(<int>len(lengths), dims, kind.type_num)


def empty_cache():
    """Free the memory that is kept for further results. Arrays in use are not touched."""
    with nogil:
        buffers_empty()


def cached_bytes():
    """Bytes of memory that are kept for further results."""
    return buffers_kept()


def set_cache_limit(nbytes):
    """Keep at most so many bytes for further results; 0 turns recycling off."""
    buffers_set_limit(integer(nbytes, "nbytes", sys.maxsize))


def get_cache_limit():
    """The most bytes that are kept for further results: at first 1 GiB, or a quarter of the memory if that is less."""
    return buffers_get_limit()


def _default_cache_limit():
    """1 GiB, four results of 64 Mi float32, but no more than a quarter of the memory this process may use."""
    memory = [4 << 30]
    try:
        memory.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        pass  # unknown to this system
    memory += [limit for limit, in _group_limits("memory.max")]
    return min(memory) // 4
