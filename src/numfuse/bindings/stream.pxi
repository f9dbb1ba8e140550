# Measuring memory.

cdef extern from "kernels.h" nogil:
    enum: STREAM_ARRAYS
    ctypedef struct stream_args:
        ptrdiff_t size, reads, updates, writes
        uint32_t **arrays
        uint32_t zero
        c_bool nontemporal


def stream(reads, updates, writes, *, bint nontemporal=False):
    """Touch memory as a kernel with these arrays would, doing next to no arithmetic.

    Every array of `reads` is read once, of `updates` read and written back as it was, of `writes`
    filled with anything. All are contiguous and of the same number of bytes. `nontemporal` writes
    around the cache, for 1 or 2 arrays to read and 1 to write. It measures the machine's streaming
    speed for the numbers of arrays that kernels have (csrc/kernels/stream.h lists them; others are
    slower), on as many threads as a kernel would use.
    """
    cdef stream_args a
    cdef uint32_t *arrays[STREAM_ARRAYS]
    cdef ptrdiff_t nbytes = -1
    cdef tuple read = as_tuple(reads, "reads"), update = as_tuple(updates, "updates"), write = as_tuple(writes, "writes")
    a.reads, a.updates, a.writes = len(read), len(update), len(write)
    if not 1 <= a.reads + a.updates + a.writes <= STREAM_ARRAYS:
        raise ValueError(f"reads, updates and writes must hold 1 to {STREAM_ARRAYS} arrays together")
    if nontemporal and not (a.reads in (1, 2) and a.updates == 0 and a.writes == 1):
        raise ValueError("nontemporal needs 1 or 2 arrays in reads, none in updates and 1 in writes, "
                         f"got {a.reads}, {a.updates} and {a.writes}")
    point(read, "reads", arrays, &nbytes)
    point(update, "updates", arrays + a.reads, &nbytes)
    point(write, "writes", arrays + a.reads + a.updates, &nbytes)
    a.size = nbytes // <ptrdiff_t>sizeof(uint32_t)
    a.arrays, a.zero, a.nontemporal = arrays, 0, nontemporal
    run_by_elements(active_kernels.stream, False, &a, a.size)


cdef int point(tuple items, str name, uint32_t **arrays, ptrdiff_t *nbytes) except -1:
    """Point at the data of arrays, all of `nbytes` bytes; of as many as the first if that is negative."""
    cdef cnp.ndarray array
    cdef Py_ssize_t i
    for i, item in enumerate(items):
        check(item, cnp.NPY_NOTYPE, name != "reads", name, i)
        array = item
        check_dense(array, name, i)
        if nbytes[0] >= 0 and cnp.PyArray_NBYTES(array) != nbytes[0]:
            raise ValueError(f"{name}[{i}] must have {nbytes[0]} bytes as the first array, had {item.nbytes}")
        nbytes[0] = cnp.PyArray_NBYTES(array)
        arrays[i] = <uint32_t *>cnp.PyArray_DATA(array)
