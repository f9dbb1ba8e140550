# Optimizer steps: lists of arrays, checked and handed over in one call.

cdef enum:
    LISTS = 5

cdef class Table:
    """The tensors of one optimizer step, checked, as C arrays. Those without a gradient are left out."""
    cdef void *memory
    cdef void **arrays[LISTS]
    cdef tensors tensors
    cdef ptrdiff_t size
    cdef int kind
    cdef tuple lists
    cdef cnp.ndarray steps

    def __dealloc__(self):
        free(self.memory)

    cdef int fill(self, tuple names, tuple lists, int required, object steps) except -1:
        """Only the lists from number `required` on may be None."""
        cdef Py_ssize_t n, i, stretches = 0, found, other = 0, active = 0
        cdef int k
        cdef ptrdiff_t *offsets
        cdef int64_t *counts
        cdef int64_t *taken
        cdef stretch *memory
        cdef cnp.ndarray array, param
        cdef tuple arrays, params
        self.lists = tuple([None if items is None and k >= required else as_tuple(items, names[k])
                            for k, items in enumerate(lists)])
        params = self.lists[0]
        n = len(params)
        for k in range(1, LISTS):
            if k < len(names) and self.lists[k] is not None and len(<tuple>self.lists[k]) != n:
                raise ValueError(f"{names[k]} must have {n} arrays, as many as params, had {len(self.lists[k])}")
        check(steps, cnp.NPY_INT64, True, "steps")
        self.steps = steps
        if cnp.PyArray_NDIM(self.steps) != 1 or cnp.PyArray_DIMS(self.steps)[0] != n:
            raise ValueError(f"steps must have shape ({n},), one count a parameter, had {steps.shape}")
        if not cnp.PyArray_CHKFLAGS(self.steps, cnp.NPY_ARRAY_C_CONTIGUOUS):
            raise ValueError("steps must be contiguous; use np.ascontiguousarray")
        self.memory = malloc(n * (LISTS * (sizeof(void *) + sizeof(stretch)) + 2 * sizeof(int64_t)) + 64
                             + sizeof(stretch))
        if self.memory == NULL:
            raise MemoryError
        memory = <stretch *>self.memory
        offsets = <ptrdiff_t *>(memory + LISTS * n + 1)
        counts = <int64_t *>(offsets + n + 1)
        taken = <int64_t *>cnp.PyArray_DATA(self.steps)
        for k in range(LISTS):
            self.arrays[k] = NULL
            if k < len(names) and self.lists[k] is not None:
                self.arrays[k] = <void **>(counts + n) + k * n
        self.kind = cnp.NPY_FLOAT
        offsets[0] = 0
        for i in range(n):
            if (<tuple>self.lists[1])[i] is None:
                continue
            if active == 0:
                check(params[i], cnp.NPY_NOTYPE, True, "params", i)
                self.kind = cnp.PyArray_TYPE(<cnp.ndarray>params[i])
            if not 0 <= taken[i] < INT64_MAX:
                raise ValueError(f"steps[{i}] must be in [0, 2^63 - 1), was {taken[i]}")
            for k in range(len(names)):
                if self.arrays[k] == NULL:
                    continue
                arrays = self.lists[k]
                check(arrays[i], self.kind, k != 1, names[k], i)
                array = arrays[i]
                if k == 0:
                    param = array
                    if not cnp.PyArray_CHKFLAGS(param, cnp.NPY_ARRAY_C_CONTIGUOUS):
                        check_dense(param, "params", i)
                elif (not same_shape(array, param) or not cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS)
                        or not cnp.PyArray_CHKFLAGS(param, cnp.NPY_ARRAY_C_CONTIGUOUS)):
                    check_alike(array, param, names[k], "params", i)
                if cnp.PyArray_SIZE(param) == 0:
                    continue
                self.arrays[k][active] = cnp.PyArray_DATA(array)
                memory[stretches] = stretch_of(array, k != 1, i)
                memory[stretches].list = k
                stretches += 1
            if cnp.PyArray_SIZE(param) == 0:
                continue
            counts[active] = taken[i] + 1
            offsets[active + 1] = offsets[active] + cnp.PyArray_SIZE(param)
            active += 1
        memory[stretches] = stretch_of(self.steps, True, -1)
        memory[stretches].list = <int>len(names)
        names += ("steps",)
        found = find_overlap(memory, stretches + 1, &other)
        if found >= 0:
            raise ValueError(f"{place(names[memory[found].list], memory[found].index)} must not overlap "
                             f"{place(names[memory[other].list], memory[other].index)} in memory")
        self.size = offsets[active]
        self.tensors.count = active
        self.tensors.offsets = offsets
        self.tensors.steps = counts

    cdef int run(self, kernel *const *both, const void *args) except -1:
        cdef kernel *task = both[self.kind == cnp.NPY_DOUBLE]
        cdef int64_t *taken = <int64_t *>cnp.PyArray_DATA(self.steps)
        cdef Py_ssize_t i
        run_by_elements(task, args, self.size)
        for i in range(len(self.lists[1])):
            if (<tuple>self.lists[1])[i] is not None:
                taken[i] += 1


cdef tuple as_tuple(object items, str name):
    # A copy: the caller's list may change, and its arrays die, while the GIL is released.
    if isinstance(items, (list, tuple)):
        return tuple(items)
    raise TypeError(f"{name} must be a list of arrays, was {type(items).__name__}")


cdef int check_momentum_buffers(object buffers, double momentum) except -1:
    if (buffers is None) != (momentum == 0):
        raise ValueError(f"momentum_buffers must be {'None' if momentum == 0 else 'a list of arrays'} "
                         f"when momentum is {momentum:g}")


def sgd_step(params, grads, momentum_buffers, steps, *,
             lr, momentum, dampening, weight_decay, bint nesterov, bint maximize):
    """The kernel whose meaning, shapes and formula are those of `onepass.reference.sgd_step`."""
    cdef sgd_args a
    cdef Table t = Table.__new__(Table)
    a.lr = number(lr, "lr", 0, INFINITY)
    a.momentum = number(momentum, "momentum", 0, INFINITY)
    a.dampening = number(dampening, "dampening", 0, INFINITY)
    a.weight_decay = number(weight_decay, "weight_decay", 0, INFINITY)
    a.nesterov = nesterov
    a.maximize = maximize
    if nesterov and (a.momentum == 0 or a.dampening != 0):
        raise ValueError(f"nesterov needs a momentum above 0 and a dampening of 0, had {momentum!r} and {dampening!r}")
    check_momentum_buffers(momentum_buffers, a.momentum)
    t.fill(("params", "grads", "momentum_buffers"), (params, grads, momentum_buffers), 2, steps)
    a.tensors = t.tensors
    a.params, a.grads, a.momentum_buffers = t.arrays[0], t.arrays[1], t.arrays[2]
    t.run(table.sgd_step, &a)


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, steps, *,
                 lr, alpha, eps, momentum, weight_decay, bint maximize):
    """The kernel whose meaning, shapes and formula are those of `onepass.reference.rmsprop_step`."""
    cdef rmsprop_args a
    cdef Table t = Table.__new__(Table)
    a.lr = number(lr, "lr", 0, INFINITY)
    a.alpha = number(alpha, "alpha", 0, 1)
    a.eps = number(eps, "eps", 0, INFINITY)
    a.momentum = number(momentum, "momentum", 0, INFINITY)
    a.weight_decay = number(weight_decay, "weight_decay", 0, INFINITY)
    a.maximize = maximize
    check_momentum_buffers(momentum_buffers, a.momentum)
    t.fill(("params", "grads", "square_avgs", "grad_avgs", "momentum_buffers"),
           (params, grads, square_avgs, grad_avgs, momentum_buffers), 3, steps)
    a.tensors = t.tensors
    a.params, a.grads, a.square_avgs = t.arrays[0], t.arrays[1], t.arrays[2]
    a.grad_avgs, a.momentum_buffers = t.arrays[3], t.arrays[4]
    t.run(table.rmsprop_step, &a)


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, *,
              lr, beta1, beta2, eps, weight_decay, bint decoupled, bint maximize):
    """The kernel whose meaning, shapes and formula are those of `onepass.reference.adam_step`."""
    cdef adam_args a
    cdef Table t = Table.__new__(Table)
    a.lr = number(lr, "lr", 0, INFINITY)
    a.beta1 = number(beta1, "beta1", 0, 1, True)
    a.beta2 = number(beta2, "beta2", 0, 1, True)
    a.eps = number(eps, "eps", 0, INFINITY)
    a.weight_decay = number(weight_decay, "weight_decay", 0, INFINITY)
    a.decoupled = decoupled
    a.maximize = maximize
    t.fill(("params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"),
           (params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs), 4, steps)
    a.tensors = t.tensors
    a.params, a.grads, a.exp_avgs = t.arrays[0], t.arrays[1], t.arrays[2]
    a.exp_avg_sqs, a.max_exp_avg_sqs = t.arrays[3], t.arrays[4]
    t.run(table.adam_step, &a)
