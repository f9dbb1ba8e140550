# What optimizer steps share: lists of arrays, checked and handed over in one call, and options.

cdef enum:
    LISTS = 6

_UNLIMITED = float("inf")  # as a limit: none


@cython.final
@cython.freelist(8)
cdef class Tensors:
    """The arrays of one optimizer step, checked, and as C arrays. Those without a gradient are left out of these.

    In Python it is the sequence of the parameters; `grads` are their gradients, which lie in memory as they do.
    """
    cdef void *memory
    cdef void **arrays[LISTS]
    cdef MemorySpan *spans
    cdef Py_ssize_t span_count
    cdef tensor_list tensors
    cdef ptrdiff_t size
    cdef int kind
    cdef bint is_good  # checked, and not run yet
    cdef tuple params
    cdef readonly tuple grads
    cdef list state  # of tuples, or None
    cdef tuple given
    cdef cnp.ndarray steps

    def __dealloc__(self):
        free(self.memory)

    def __len__(self):
        return len(self.params)

    def __iter__(self):
        return iter(self.params)

    def __getitem__(self, i):
        return self.params[i]

    cdef int fill(self, tuple names, tuple params, list grads, tuple given, int kind) except -1:
        """Check the arrays one by one, but not where they lie: of one dtype, of `kind` if that is not NPY_NOTYPE.

        `given` are the lists of state, or None, and the step counts; `names` are those of all lists.
        """
        cdef Py_ssize_t n = len(params), i, active = 0, present
        cdef void **data
        cdef ptrdiff_t size, itemsize
        cdef int k, count = <int>len(given) + 1
        cdef ptrdiff_t *offsets
        cdef int64_t *counts
        cdef int64_t *taken
        cdef MemorySpan *touched
        cdef cnp.ndarray param
        self.params, self.given, self.state = params, given, []
        if len(grads) != n:
            raise ValueError(f"grads must have {n} arrays, as many as params, had {len(grads)}")
        self.take_state(names)
        present = 2
        for items in self.state:
            present += items is not None
        self.memory = malloc((present * n + 1) * sizeof(MemorySpan) + present * n * sizeof(void *)
                             + n * sizeof(int64_t) + (n + 1) * sizeof(ptrdiff_t))
        if self.memory == NULL:
            raise MemoryError
        self.spans = <MemorySpan *>self.memory
        offsets = <ptrdiff_t *>(self.spans + present * n + 1)
        counts = <int64_t *>(offsets + n + 1)
        taken = <int64_t *>cnp.PyArray_DATA(self.steps)
        data = <void **>(counts + n)
        for k in range(LISTS):
            self.arrays[k] = NULL
            if k < 2 or (k < count and self.state[k - 2] is not None):
                self.arrays[k] = data
                data += n
        offsets[0] = 0
        for i in range(n):
            if grads[i] is None:
                continue
            if not 0 <= taken[i] < INT64_MAX:
                raise ValueError(f"steps[{i}] must be in [0, 2^63 - 1), was {taken[i]}")
            check(params[i], kind, True, "params", i)
            param = params[i]
            kind = cnp.PyArray_TYPE(param)
            check_dense(param, "params", i)
            if not is_twin(grads[i], param, False):
                grads[i] = laid_out_as(grads[i], param, i)
            size, itemsize = cnp.PyArray_SIZE(param), cnp.PyArray_ITEMSIZE(param)
            for k in range(count):
                if self.arrays[k] == NULL:
                    continue
                item = param if k == 0 else grads[i] if k == 1 else (<tuple>self.state[k - 2])[i]
                if k > 1 and not is_twin(item, param, True):
                    check(item, kind, True, names[k], i)
                    check_alike(item, param, names[k], "params", i)
                if size > 0:
                    # All are dense, so that the first byte and the number of bytes say where they lie.
                    self.arrays[k][active] = cnp.PyArray_DATA(<cnp.ndarray>item)
                    touched = self.spans + (self.arrays[k] - self.arrays[0]) + active
                    touched.begin = <uintptr_t>self.arrays[k][active]
                    touched.end = touched.begin + size * itemsize
                    touched.written, touched.list, touched.index = k != 1, k, i
            if size > 0:
                counts[active] = taken[i] + 1
                offsets[active + 1] = offsets[active] + size
                active += 1
        # List after list, since the arrays of one often lie in memory in this order: that sorts quickly.
        touched = self.spans
        for k in range(count):
            if self.arrays[k] != NULL:
                memmove(touched, self.spans + (self.arrays[k] - self.arrays[0]), active * sizeof(MemorySpan))
                touched += active
        touched[0] = span_of(self.steps, True, -1)
        touched.list = count
        self.span_count = touched - self.spans + 1
        self.kind = cnp.NPY_FLOAT if kind == cnp.NPY_NOTYPE else kind
        self.size = offsets[active]
        self.tensors.count = active
        self.tensors.offsets = offsets
        self.tensors.steps = counts
        self.grads = tuple(grads)
        self.is_good = True

    cdef int take_state(self, tuple names) except -1:
        """Keep the lists of state, of as many arrays as there are parameters, and the step counts."""
        cdef Py_ssize_t n = len(self.params), k
        for k in range(len(self.given) - 1):
            items = None if self.given[k] is None else as_tuple(self.given[k], names[k + 2])
            if items is not None and len(<tuple>items) != n:
                raise ValueError(f"{names[k + 2]} must have {n} arrays, as many as params, had {len(items)}")
            self.state.append(items)
        steps = self.given[len(self.given) - 1]
        check(steps, cnp.NPY_INT64, True, "steps")
        self.steps = steps
        if cnp.PyArray_NDIM(self.steps) != 1 or cnp.PyArray_DIMS(self.steps)[0] != n:
            raise ValueError(f"steps must have shape ({n},), one count a parameter, had {steps.shape}")
        if not cnp.PyArray_CHKFLAGS(self.steps, cnp.NPY_ARRAY_C_CONTIGUOUS):
            raise ValueError("steps must be contiguous; use np.ascontiguousarray")

    def call(self, step, dict options):
        """Run a step of any backend on these arrays, with its options."""
        PyObject_Call(step, (self, self.grads, *self.given), options)

    cdef bint are_for(self, object grads, tuple given):
        """Whether these very lists have been checked, and nothing has been run since."""
        if not self.is_good or grads is not self.grads or len(given) != len(self.given):
            return False
        for k in range(len(given)):
            if given[k] is not self.given[k]:
                return False
        return True

    cdef int run(self, kernel step, const void *args) except -1:
        cdef int64_t *taken = <int64_t *>cnp.PyArray_DATA(self.steps)
        cdef Py_ssize_t i
        self.is_good = False
        run_by_elements(step, self.kind == cnp.NPY_DOUBLE, args, self.size)
        for i in range(len(self.grads)):
            if self.grads[i] is not None:
                taken[i] += 1


def check_steps(calls, grads):
    """Check all arrays of some optimizer steps, so that none is written to if one of them is wrong.

    calls : list of (params, size, members, order, given, dtype, in_c_order), one for each step. `params` is a list of
        `size` arrays, `members` are the positions of the step's in it, `order` those of their gradients in the list
        `grads`, or both None for all in their order; `given` is what the step takes after params and grads, lists of
        state and the counts; `dtype` is that of its arrays; `in_c_order` says whether they must be C-contiguous.

    Returns a list of `Tensors`. Pass each to a step as `params`, with its own `grads` and `given`, as `call` does: the
    step then does not check them again, unless it is run twice or gets other lists.
    """
    cdef list steps = []
    cdef Tensors t
    cdef MemorySpan *spans
    cdef Py_ssize_t count = 0
    cdef tuple names = ("params", "grads", "state", "state", "state", "state", "state")
    for params, size, members, order, given, dtype, in_c_order in calls:
        if len(params) != size:
            raise ValueError(f"params must keep its length {size}, was {len(params)}")
        if not 1 <= len(given) < LISTS or dtype.num not in (cnp.NPY_FLOAT, cnp.NPY_DOUBLE):
            raise ValueError(f"a step must have up to {LISTS - 2} lists of state, the counts, and arrays of float32 or "
                             "float64")
        t = Tensors.__new__(Tensors)
        t.fill(names, tuple(picked(params, members)), picked(grads, order), given, (<cnp.dtype?>dtype).type_num)
        if in_c_order:
            for i in range(len(t.params)):
                if t.grads[i] is not None:
                    check_c_contiguous(t.params[i], place("params", i))
        count += t.span_count
        steps.append(t)
    if len(steps) == 1:
        check_spans(t.spans, count, names)
        return steps
    spans = <MemorySpan *>malloc(count * sizeof(MemorySpan) + 1)
    if spans == NULL:
        raise MemoryError
    try:
        count = 0
        for t in steps:
            memcpy(spans + count, t.spans, t.span_count * sizeof(MemorySpan))
            count += t.span_count
        check_spans(spans, count, names)
    finally:
        free(spans)
    return steps


@cython.boundscheck(True)
cdef list picked(object items, list positions):
    """The items at these positions, or all."""
    cdef list found = items if type(items) is list else list(items), chosen
    cdef Py_ssize_t k
    if positions is None:
        return list(found)
    chosen = list(positions)
    for k in range(len(chosen)):
        chosen[k] = found[<Py_ssize_t>chosen[k]]
    return chosen


def is_unchanged(options, list values not None):
    """Whether `options` is a dict the values of which are still these very objects, in this order."""
    cdef list now = PyDict_Values(options) if type(options) is dict else None
    cdef Py_ssize_t i, n = len(values)
    if now is None or len(now) != n:
        return False
    for i in range(n):
        if now[i] is not values[i]:
            return False
    return True


cdef Tensors tensors_of(tuple names, object params, object grads, tuple given, int required):
    """The arrays of a step, checked here or by `check_steps`. All but the first `required` lists may be None."""
    cdef Tensors t
    cdef Py_ssize_t k
    if type(params) is Tensors and (<Tensors>params).are_for(grads, given):
        t = params
    else:
        params = (<Tensors>params).params if type(params) is Tensors else params
        t = Tensors.__new__(Tensors)
        t.fill(names, as_tuple(params, "params"), list(as_tuple(grads, "grads")), given, cnp.NPY_NOTYPE)
        check_spans(t.spans, t.span_count, names)
    for k in range(2, required):
        if t.arrays[k] == NULL:
            raise TypeError(f"{names[k]} must be a list of arrays, was NoneType")
    return t


cdef inline bint is_twin(object item, cnp.ndarray param, bint written) noexcept:
    """Whether an array is good beside `param`, as nearly all are: of its dtype and shape, both in C order."""
    cdef int flags = (cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED | (cnp.NPY_ARRAY_WRITEABLE if written else 0))
    return (cnp.PyArray_CheckExact(item) and cnp.PyArray_CHKFLAGS(<cnp.ndarray>item, flags)
            and cnp.PyArray_DESCR(<cnp.ndarray>item) is cnp.PyArray_DESCR(param)
            and cnp.PyArray_CHKFLAGS(param, cnp.NPY_ARRAY_C_CONTIGUOUS) and same_shape(<cnp.ndarray>item, param))


cdef cnp.ndarray laid_out_as(object grad, cnp.ndarray param, Py_ssize_t i):
    """A gradient, which is only read, in the memory order of its parameter: itself, or a copy."""
    cdef cnp.ndarray array, copy
    if cnp.PyArray_CheckScalar(grad) and not cnp.PyArray_Check(grad):
        grad = cnp.PyArray_FROM_O(grad)
    if not cnp.PyArray_Check(grad) or cnp.PyArray_TYPE(<cnp.ndarray>grad) != cnp.PyArray_TYPE(param):
        explain(grad, cnp.PyArray_TYPE(param), False, place("grads", i))
    array = grad
    if not cnp.PyArray_CheckExact(grad):
        # Nothing of a subclass is called, which might do anything to the arrays that have been checked.
        if "MaskedArray" in [base.__name__ for base in type(grad).__mro__]:
            raise TypeError(f"{place('grads', i)} must not be a masked array; use .filled(0)")
        array = cnp.PyArray_FROM_OF(grad, cnp.NPY_ARRAY_ENSUREARRAY)  # a matrix multiplies otherwise
    if not same_shape(array, param):
        check_alike(array, param, "grads", "params", i)
    if (same_strides(array, param) and cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_ALIGNED)
            and cnp.PyArray_ISNOTSWAPPED(array)):
        return array
    copy = empty_like(param)
    cnp.PyArray_CopyInto(copy, array)
    return copy


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


cdef int take_arrays(step_args *a, Tensors t, int ema) except -1:
    """The lists that every step has; the averages are number `ema`."""
    a.tensors = t.tensors
    a.params, a.grads, a.ema_params = t.arrays[0], t.arrays[1], t.arrays[ema]
