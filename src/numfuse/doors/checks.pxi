# Checks. Each raises with the argument's name first: "grads[1] must be float32, was float64".

cdef str place(str name, Py_ssize_t index):
    return name if index < 0 else f"{name}[{index}]"


cdef double number(object value, str name, double low, double high, bint open_end=False) except? -1:
    """A finite number in [low, high], or [low, high) with an open end."""
    cdef double x
    if type(value) is float:
        x = value
    else:
        try:
            x = value
        except TypeError:
            raise TypeError(f"{name} must be a number, was {type(value).__name__}") from None
        except OverflowError:
            raise ValueError(f"{name} must be finite, was an integer beyond the range of float64") from None
    if isfinite(x) and low <= x and (x < high or (x == high and not open_end)):
        return x
    if high < INFINITY:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}{')' if open_end else ']'}, was {value!r}")
    raise ValueError(f"{name} must be finite and >= {low:g}, was {value!r}")


cdef uint64_t integer(object value, str name, object limit) except? 1:
    whole = value
    if type(value) is not int:
        try:
            whole = value.__index__()
        except (AttributeError, TypeError):
            raise TypeError(f"{name} must be an integer, was {type(value).__name__}") from None
    if not 0 <= whole < limit:
        raise ValueError(f"{name} must be in [0, {limit}), was {whole}")
    return whole


cdef int check(object array, int kind, bint written, str name, Py_ssize_t index=-1) except -1:
    """A NumPy array of one dtype (NPY_NOTYPE: float32 or float64), aligned, in native byte order."""
    cdef int flags = cnp.NPY_ARRAY_ALIGNED | (cnp.NPY_ARRAY_WRITEABLE if written else 0)
    cdef int found
    if cnp.PyArray_Check(array):
        found = cnp.PyArray_TYPE(<cnp.ndarray>array)
        if ((found == kind or (found == cnp.NPY_LONGLONG and kind == cnp.NPY_INT64 and sizeof(long long) == 8)
             or (kind == cnp.NPY_NOTYPE and (found == cnp.NPY_FLOAT or found == cnp.NPY_DOUBLE)))
                and cnp.PyArray_CHKFLAGS(<cnp.ndarray>array, flags)
                and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>array)):
            return 0
    explain(array, kind, written, place(name, index))


cdef explain(object array, int kind, bint written, str name):
    if not cnp.PyArray_Check(array):
        raise TypeError(f"{name} must be a NumPy array, was {type(array).__name__}")
    wanted = "float32 or float64" if kind == cnp.NPY_NOTYPE else str(cnp.PyArray_DescrFromType(kind))
    if not array.dtype.isnative:
        raise TypeError(f"{name} must be in native byte order, was {array.dtype.str}; "
                        f"use .astype({wanted.split()[0]!r})")
    if str(array.dtype) not in wanted.split():
        raise TypeError(f"{name} must be {wanted}, was {array.dtype}; use .astype({wanted.split()[0]!r})")
    if written and not array.flags.writeable:
        raise ValueError(f"{name} is updated in place and must be writable, was read-only")
    raise ValueError(f"{name} must be aligned in memory; use .copy()")


cdef ptrdiff_t magnitude(ptrdiff_t x) noexcept:
    return -x if x < 0 else x


cdef bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIMS(a)[i] != cnp.PyArray_DIMS(b)[i]:
            return False
    return True


cdef bint same_strides(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two arrays of one shape and dtype put their elements in the same order, gaps included."""
    if cnp.PyArray_SIZE(a) == 0:
        return True
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIMS(a)[i] > 1 and cnp.PyArray_STRIDES(a)[i] != cnp.PyArray_STRIDES(b)[i]:
            return False
    return True


cdef bint is_dense(cnp.ndarray a) noexcept:
    """Whether the elements fill a stretch of memory without gaps, in the order of some transpose."""
    cdef ptrdiff_t expected = cnp.PyArray_ITEMSIZE(a)
    cdef int i, found
    if cnp.PyArray_CHKFLAGS(a, cnp.NPY_ARRAY_C_CONTIGUOUS) or cnp.PyArray_CHKFLAGS(a, cnp.NPY_ARRAY_F_CONTIGUOUS):
        return True
    while expected < cnp.PyArray_NBYTES(a):
        found = -1
        for i in range(cnp.PyArray_NDIM(a)):
            if cnp.PyArray_DIMS(a)[i] > 1 and cnp.PyArray_STRIDES(a)[i] == expected:
                found = i
        if found < 0:
            return False
        expected *= cnp.PyArray_DIMS(a)[found]
    return True


cdef int check_dense(cnp.ndarray array, str name, Py_ssize_t index=-1) except -1:
    if not is_dense(array):
        raise ValueError(f"{place(name, index)} must be contiguous, had shape {(<object>array).shape} and strides "
                         f"{(<object>array).strides}; use np.ascontiguousarray")


cdef int check_alike(cnp.ndarray array, cnp.ndarray model, str name, str model_name, Py_ssize_t index=-1) except -1:
    """The shape and the memory order of `model`."""
    if not same_shape(array, model):
        raise ValueError(f"{place(name, index)} must have the shape of {place(model_name, index)}, "
                         f"{(<object>model).shape}, had {(<object>array).shape}")
    if not same_strides(array, model):
        raise ValueError(f"{place(name, index)} must lie in memory as {place(model_name, index)} does, with strides "
                         f"{(<object>model).strides}, had {(<object>array).strides}; use np.ascontiguousarray")


# Overlap. Sorted by where they begin, the spans of memory that a call touches are compared with
# the furthest end so far: that of all of them for one that is written to, else that of those written to.

cdef struct MemorySpan:
    uintptr_t begin, end
    bint written
    int list
    Py_ssize_t index


cdef Py_ssize_t find_overlap(MemorySpan *s, Py_ssize_t n, Py_ssize_t *other) noexcept:
    """The index of a stretch that overlaps an earlier one (in `other`), one of them written to; else -1."""
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
    """Whether a step along some axis is shorter than the stretch that the axes with shorter steps span."""
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


cdef cnp.ndarray output(object out, cnp.ndarray model):
    """An array like `model`: `out` if that fits."""
    if out is None:
        return empty_like(model)
    check(out, cnp.PyArray_TYPE(model), True, "out")
    if not same_shape(out, model):
        raise ValueError(f"out must have shape {(<object>model).shape}, had {out.shape}")
    if overlaps_itself(out):
        raise ValueError(f"out must not overlap itself in memory, had shape {out.shape} and strides {out.strides}")
    return out


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
    """No stretch that is written to may overlap another; each is of the list `names[list]`. Sorts them."""
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
    # Stretches meet where views interleave, too, such as channels of one array: now look closely.
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
