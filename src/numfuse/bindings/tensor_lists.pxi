# What optimizer steps share: lists of arrays, checked and handed over in one call, and options.

cdef enum:
    LISTS = 6

cdef class TensorLists:
    """The tensors of one optimizer step, checked, as C arrays. Those without a gradient are left out."""
    cdef void *memory
    cdef void **arrays[LISTS]
    cdef tensor_list tensors
    cdef ptrdiff_t size
    cdef int kind
    cdef list lists
    cdef cnp.ndarray steps

    def __dealloc__(self):
        free(self.memory)

    cdef int fill(self, tuple names, tuple lists, int required, object steps) except -1:
        """`names` are those of the lists, of which only those from number `required` on may be None, and of the steps."""
        cdef Py_ssize_t n, i, active = 0, count = len(lists)
        cdef ptrdiff_t size, itemsize
        cdef int k
        cdef ptrdiff_t *offsets
        cdef int64_t *counts
        cdef int64_t *taken
        cdef MemorySpan *spans
        cdef MemorySpan *touched
        cdef tuple params, grads
        cdef cnp.ndarray param
        self.take(names, lists, required, steps)
        params, grads = self.lists[0], self.lists[1]
        n = len(params)
        self.memory = malloc((LISTS * n + 1) * sizeof(MemorySpan) + n * (LISTS * sizeof(void *) + 2 * sizeof(int64_t))
                             + sizeof(ptrdiff_t))
        if self.memory == NULL:
            raise MemoryError
        spans = <MemorySpan *>self.memory
        offsets = <ptrdiff_t *>(spans + LISTS * n + 1)
        counts = <int64_t *>(offsets + n + 1)
        taken = <int64_t *>cnp.PyArray_DATA(self.steps)
        for k in range(LISTS):
            self.arrays[k] = <void **>(counts + n) + k * n if k < count and self.lists[k] is not None else NULL
        self.kind = cnp.NPY_FLOAT
        offsets[0] = 0
        for i in range(n):
            if grads[i] is None:
                continue
            if active == 0:
                check(params[i], cnp.NPY_NOTYPE, True, "params", i)
                self.kind = cnp.PyArray_TYPE(<cnp.ndarray>params[i])
            if not 0 <= taken[i] < INT64_MAX:
                raise ValueError(f"steps[{i}] must be in [0, 2^63 - 1), was {taken[i]}")
            check(params[i], self.kind, True, "params", i)
            param = params[i]
            size, itemsize = cnp.PyArray_SIZE(param), cnp.PyArray_ITEMSIZE(param)
            for k in range(count):
                if self.arrays[k] == NULL:
                    continue
                item = (<tuple>self.lists[k])[i]
                if not is_twin(item, param, k != 1):
                    check(item, self.kind, k != 1, names[k], i)
                    if k == 0:
                        check_dense(param, "params", i)
                    else:
                        check_alike(item, param, names[k], "params", i)
                if size > 0:
                    # All are dense, so that the first byte and the number of bytes say where they lie.
                    self.arrays[k][active] = cnp.PyArray_DATA(<cnp.ndarray>item)
                    touched = spans + k * n + active
                    touched.begin = <uintptr_t>self.arrays[k][active]
                    touched.end = touched.begin + size * itemsize
                    touched.written, touched.list, touched.index = k != 1, k, i
            if size > 0:
                counts[active] = taken[i] + 1
                offsets[active + 1] = offsets[active] + size
                active += 1
        # List after list, since the arrays of one often lie in memory in this order: that sorts quickly.
        touched = spans
        for k in range(count):
            if self.arrays[k] != NULL:
                memmove(touched, spans + k * n, active * sizeof(MemorySpan))
                touched += active
        touched[0] = span_of(self.steps, True, -1)
        touched.list = <int>count
        check_spans(spans, touched - spans + 1, names)
        self.size = offsets[active]
        self.tensors.count = active
        self.tensors.offsets = offsets
        self.tensors.steps = counts

    cdef int take(self, tuple names, tuple lists, int required, object steps) except -1:
        """Keep the lists, of one length, and the step counts."""
        cdef Py_ssize_t n, k
        self.lists = []
        for k in range(len(lists)):
            items = lists[k]
            self.lists.append(None if items is None and k >= required else as_tuple(items, names[k]))
        n = len(<tuple>self.lists[0])
        for k in range(1, len(lists)):
            if self.lists[k] is not None and len(<tuple>self.lists[k]) != n:
                raise ValueError(f"{names[k]} must have {n} arrays, as many as params, had {len(self.lists[k])}")
        check(steps, cnp.NPY_INT64, True, "steps")
        self.steps = steps
        if cnp.PyArray_NDIM(self.steps) != 1 or cnp.PyArray_DIMS(self.steps)[0] != n:
            raise ValueError(f"steps must have shape ({n},), one count a parameter, had {steps.shape}")
        if not cnp.PyArray_CHKFLAGS(self.steps, cnp.NPY_ARRAY_C_CONTIGUOUS):
            raise ValueError("steps must be contiguous; use np.ascontiguousarray")

    cdef int run(self, kernel step, const void *args) except -1:
        cdef int64_t *taken = <int64_t *>cnp.PyArray_DATA(self.steps)
        cdef Py_ssize_t i
        run_by_elements(step, self.kind == cnp.NPY_DOUBLE, args, self.size)
        for i in range(len(self.lists[1])):
            if (<tuple>self.lists[1])[i] is not None:
                taken[i] += 1


cdef inline bint is_twin(object item, cnp.ndarray param, bint written) noexcept:
    """Whether an array is good beside `param`, as nearly all are: of its dtype and shape, both in C order."""
    cdef int flags = (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED | (cnp.NPY_ARRAY_WRITEABLE if written else 0))
    return (cnp.PyArray_Check(item) and cnp.PyArray_CHKFLAGS(<cnp.ndarray>item, flags)
            and cnp.PyArray_DESCR(<cnp.ndarray>item) is cnp.PyArray_DESCR(param)
            and cnp.PyArray_CHKFLAGS(param, cnp.NPY_ARRAY_C_CONTIGUOUS) and same_shape(<cnp.ndarray>item, param))


cdef tuple as_tuple(object items, str name):
    # A copy: the caller's list may change, and its arrays die, while the GIL is released.
    if isinstance(items, (list, tuple)):
        return tuple(items)
    raise TypeError(f"{name} must be a list of arrays, was {type(items).__name__}")


cdef double checked_grad_scale(object value) except? -1:
    """What gradients are multiplied by: infinity will do, NaN will not."""
    return INFINITY if type(value) is float and <double>value == INFINITY else number(value, "grad_scale", 0, INFINITY)


cdef double checked_limit(object value, str name) except? -1:
    """Above 0; infinity will do."""
    cdef double x = INFINITY if type(value) is float and <double>value == INFINITY else number(value, name, 0, INFINITY)
    if x == 0:
        raise ValueError(f"{name} must be > 0, was {value!r}")
    return x


cdef int check_momentum_buffers(object buffers, double momentum) except -1:
    if (buffers is None) != (momentum == 0):
        raise ValueError(f"momentum_buffers must be {'None' if momentum == 0 else 'a list of arrays'} "
                         f"when momentum is {momentum:g}")


cdef int take_options(step_args *a, object lr, object weight_decay, bint decoupled, object l1, bint proximal,
                      object max_grad_value, object ema_decay, bint maximize, object grad_scale) except -1:
    """What every step has."""
    a.lr = number(lr, "lr", 0, INFINITY)
    a.weight_decay = number(weight_decay, "weight_decay", 0, INFINITY)
    a.l1 = number(l1, "l1", 0, INFINITY)
    a.max_grad_value = checked_limit(max_grad_value, "max_grad_value")
    a.ema_decay = number(ema_decay, "ema_decay", 0, 1, True)
    a.grad_scale = checked_grad_scale(grad_scale)
    a.decoupled, a.proximal, a.maximize = decoupled, proximal, maximize


cdef int take_arrays(step_args *a, TensorLists t, int ema) except -1:
    """The lists that every step has; the averages are number `ema`."""
    a.tensors = t.tensors
    a.params, a.grads, a.ema_params = t.arrays[0], t.arrays[1], t.arrays[ema]
