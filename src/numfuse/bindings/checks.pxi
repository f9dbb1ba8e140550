# Checks. Each raises with the argument's name first: "grads[1] must be float32, was float64".

cdef enum:
    MAX_DIMS = 5  # of arrays with channels


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
    """Whether the elements fill memory without gaps, in the order of some transpose."""
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


cdef int check_c_contiguous(cnp.ndarray array, str name) except -1:
    if not cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS):
        raise ValueError(f"{name} must be C-contiguous, had shape {(<object>array).shape} and strides "
                         f"{(<object>array).strides}; use np.ascontiguousarray")


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


cdef cnp.ndarray dense_output(object out, cnp.ndarray model, str name):
    check_dense(model, name)
    cdef cnp.ndarray y = output(out, model)
    if out is not None:
        check_alike(y, model, "out", name)
    return y


cdef int channel_axis(cnp.ndarray x, object axis, str name) except -1:
    cdef int ndim = cnp.PyArray_NDIM(x)
    if not 2 <= ndim <= MAX_DIMS:
        raise ValueError(f"{name} must have 2 to {MAX_DIMS} dimensions, had shape {(<object>x).shape}")
    if (type(axis) is int or hasattr(axis, "__index__")) and axis in (1, -1):
        return 1 if axis == 1 else ndim - 1
    raise ValueError(f"axis must be 1 or -1, was {axis!r}")


cdef void *per_channel(object array, int kind, bint written, cnp.ndarray x, int axis, str name,
                       bint required=False) except? NULL:
    """The data of a contiguous (channels,) array; NULL for None, unless it is required."""
    if array is None and not required:
        return NULL
    check(array, kind, written, name)
    if cnp.PyArray_NDIM(<cnp.ndarray>array) != 1 or cnp.PyArray_DIMS(<cnp.ndarray>array)[0] != cnp.PyArray_DIMS(x)[axis]:
        raise ValueError(f"{name} must have shape ({cnp.PyArray_DIMS(x)[axis]},), one value a channel, had {array.shape}")
    if not cnp.PyArray_CHKFLAGS(<cnp.ndarray>array, cnp.NPY_ARRAY_C_CONTIGUOUS):
        raise ValueError(f"{name} must be contiguous; use np.ascontiguousarray")
    return cnp.PyArray_DATA(<cnp.ndarray>array)
