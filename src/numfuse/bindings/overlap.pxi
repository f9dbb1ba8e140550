# Overlap. Sorted by where they begin, the spans of memory that a call touches are compared with
# the furthest end so far: that of all of them for one that is written to, else that of those written to.

cdef struct MemorySpan:
    uintptr_t begin, end
    bint written
    int list
    Py_ssize_t index


cdef Py_ssize_t find_overlap(MemorySpan *s, Py_ssize_t n, Py_ssize_t *other) noexcept:
    """The index of a span that overlaps an earlier one (in `other`), one of them written to; else -1."""
    cdef Py_ssize_t gap = 1, i, j, furthest = -1, furthest_written = -1
    cdef MemorySpan moved
    while gap < n // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, n):
            moved = s[i]
            j = i
            while j >= gap and s[j - gap].begin > moved.begin:
                s[j] = s[j - gap]
                j -= gap
            s[j] = moved
        gap //= 3
    for i in range(n):
        j = furthest if s[i].written else furthest_written
        if j >= 0 and s[j].end > s[i].begin:
            other[0] = j
            return i
        if furthest < 0 or s[i].end > s[furthest].end:
            furthest = i
        if s[i].written and (furthest_written < 0 or s[i].end > s[furthest_written].end):
            furthest_written = i
    return -1


cdef bint overlaps_itself(cnp.ndarray array) noexcept:
    """Whether a step along some axis is shorter than the span that the axes with shorter steps span."""
    cdef ptrdiff_t extent = cnp.PyArray_ITEMSIZE(array), shortest, stride
    cdef int i, axis, done = 0
    if cnp.PyArray_SIZE(array) == 0:
        return False
    for _ in range(cnp.PyArray_NDIM(array)):
        axis = -1
        for i in range(cnp.PyArray_NDIM(array)):
            stride = magnitude(cnp.PyArray_STRIDES(array)[i])
            if cnp.PyArray_DIMS(array)[i] > 1 and not done >> i & 1 and (axis < 0 or stride < shortest):
                axis, shortest = i, stride
        if axis < 0:
            return False
        if shortest < extent:
            return True
        done |= 1 << axis
        extent += (cnp.PyArray_DIMS(array)[axis] - 1) * shortest
    return False


cdef bint same_memory(cnp.ndarray a, cnp.ndarray b) noexcept:
    return cnp.PyArray_DATA(a) == cnp.PyArray_DATA(b) and same_shape(a, b) and same_strides(a, b)


cdef inline MemorySpan span_of(cnp.ndarray array, bint written, Py_ssize_t index) noexcept:
    """The memory from an array's first byte to its last."""
    cdef MemorySpan s
    cdef ptrdiff_t reach
    s.begin = s.end = <uintptr_t>cnp.PyArray_DATA(array)
    s.written, s.list, s.index = written, 0, index
    if cnp.PyArray_SIZE(array) > 0:
        s.end += cnp.PyArray_ITEMSIZE(array)
        for i in range(cnp.PyArray_NDIM(array)):
            reach = (cnp.PyArray_DIMS(array)[i] - 1) * cnp.PyArray_STRIDES(array)[i]
            if reach > 0:
                s.end += reach
            else:
                s.begin += reach
    return s


cdef int check_spans(MemorySpan *s, Py_ssize_t n, tuple names) except -1:
    """No span that is written to may overlap another; each is of the list `names[list]`. Sorts them."""
    cdef Py_ssize_t other = 0, found = find_overlap(s, n, &other)
    if found >= 0:
        raise ValueError(f"{place(names[s[found].list], s[found].index)} must not overlap "
                         f"{place(names[s[other].list], s[other].index)} in memory")


cdef int check_apart(tuple names, tuple arrays, int written, object in_place=None) except -1:
    """The first `written` arrays must overlap no other; but arrays[0] may be `in_place` itself. None is passed over."""
    cdef MemorySpan spans[12]
    cdef Py_ssize_t n = 0, other, i, j
    cdef bint same = arrays[0] is not None and in_place is not None and same_memory(arrays[0], in_place)
    for i in range(len(arrays)):
        if arrays[i] is not None and not (same and i >= written and arrays[i] is in_place):
            spans[n] = span_of(arrays[i], i < written, i)
            n += 1
    if find_overlap(spans, n, &other) < 0:
        return 0
    # Spans meet where views interleave, too, such as channels of one array: now look closely.
    for i in range(written):
        for j in range(i + 1, len(arrays)):
            if arrays[i] is None or arrays[j] is None or (same and i == 0 and arrays[j] is in_place):
                continue
            if overlap(arrays[i], arrays[j]):
                raise ValueError(f"{names[i]} must not overlap {names[j]} in memory")


cdef bint overlap(cnp.ndarray a, cnp.ndarray b) except -1:
    import numpy as np

    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=100_000)
    except np.exceptions.TooHardError:
        return True
