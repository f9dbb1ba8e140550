# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""The C kernels. What each one computes is documented at its twin in `onepass.reference`.

These doors check, release the GIL and call; there is no arithmetic here.
"""

cimport cython
cimport numpy as cnp
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

import os

cnp.import_array()


cdef extern from "<stdbool.h>" nogil:
    ctypedef bint c_bool "bool"

cdef extern from "kernels.h" nogil:
    ctypedef struct tensors:
        ptrdiff_t count
        const ptrdiff_t *offsets
        const int64_t *steps
    ctypedef struct sgd_args:
        tensors tensors
        void **params
        void **grads
        void **momentum_buffers
        double lr, momentum, dampening, weight_decay
        bint nesterov, maximize
    ctypedef struct rmsprop_args:
        tensors tensors
        void **params
        void **grads
        void **square_avgs
        void **grad_avgs
        void **momentum_buffers
        double lr, alpha, eps, momentum, weight_decay
        bint maximize
    ctypedef struct adam_args:
        tensors tensors
        void **params
        void **grads
        void **exp_avgs
        void **exp_avg_sqs
        void **max_exp_avg_sqs
        double lr, beta1, beta2, eps, weight_decay
        bint decoupled, maximize
    ctypedef struct view:
        void *data
        ptrdiff_t outer_stride, channel_stride, inner_stride
    int BATCH_NORM_BLOCK_ROWS
    ctypedef struct batch_norm_args:
        ptrdiff_t outer, channels, inner
        view x, y, grad_y, grad_x
        const void *weight
        const void *bias
        void *running_mean
        void *running_var
        void *grad_weight
        void *grad_bias
        double *mean
        double *rstd
        double momentum, eps
        bint training
        double *partial
        void *coefficients
    ctypedef struct dropout_args:
        ptrdiff_t size
        const void *x
        void *y
        uint32_t *mask
        double p
        uint64_t seed
        uint32_t offset
    ctypedef struct stream_args:
        ptrdiff_t size, reads, updates, writes
        float **arrays
    ctypedef void kernel(const void *args, ptrdiff_t begin, ptrdiff_t end) noexcept nogil
    ctypedef struct kernels:
        const char *isa
        kernel *sgd_step[2]
        kernel *rmsprop_step[2]
        kernel *adam_step[2]
        kernel *dropout_forward[2]
        kernel *dropout_backward[2]
        kernel *stream
        kernel *batch_norm_forward[2]
        kernel *batch_norm_inference[2]
        kernel *batch_norm_backward[2]
        kernel *batch_norm_row_moments[2]
        kernel *batch_norm_merge_moments[2]
        kernel *batch_norm_normalize_rows[2]
        kernel *batch_norm_prepare_inference[2]
        kernel *batch_norm_row_sums[2]
        kernel *batch_norm_merge_sums[2]
        kernel *batch_norm_grad_rows[2]
    int MAX_ISAS
    int list_kernels(const kernels **tables, c_bool *runs) noexcept

cdef extern from "pool.h" nogil:
    int POOL_MAX_THREADS, POOL_THRESHOLD
    void pool_init() noexcept
    void pool_set_threads(int threads) noexcept
    int pool_get_threads() noexcept
    void pool_run(kernel *task, const void *args, ptrdiff_t size, ptrdiff_t grain, ptrdiff_t work) noexcept

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, void *descr, int subok)


# Below this many elements a kernel takes less time than giving the GIL away and getting it back.
cdef ptrdiff_t GIL_THRESHOLD = 8192
# Elements that a thread takes at a time; a multiple of what dropout draws together.
cdef ptrdiff_t GRAIN = 16384

# Every table that was compiled, best first, and the one in use.
cdef const kernels *tables[4]
cdef c_bool runs[4]
cdef int table_count = list_kernels(tables, runs)
cdef const kernels *table


cdef void run(kernel *task, const void *args, ptrdiff_t size, ptrdiff_t grain, ptrdiff_t work) noexcept nogil:
    if size > 0:
        pool_run(task, args, size, grain, work)


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
    if isfinite(x) and low <= x and (x < high or (x == high and not open_end)):
        return x
    if high < 1e300:
        raise ValueError(f"{name} must be in [{low:g}, {high:g}{')' if open_end else ']'}, was {value!r}")
    raise ValueError(f"{name} must be finite and >= {low:g}, was {value!r}")


cdef uint64_t integer(object value, str name, object limit) except? 1:
    try:
        whole = value.__index__()
    except AttributeError:
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
        if ((found == kind or (kind == cnp.NPY_NOTYPE and (found == cnp.NPY_FLOAT or found == cnp.NPY_DOUBLE)))
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


cdef bint same_shape(cnp.ndarray a, cnp.ndarray b) noexcept:
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIMS(a)[i] != cnp.PyArray_DIMS(b)[i]:
            return False
    return True


cdef bint same_strides(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two arrays of one shape and dtype put their elements in the same order, gaps included."""
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


# Overlap. Sorted by where they begin, the stretches of memory that a call touches are compared with
# the furthest end so far: that of all of them for one that is written to, else that of those written to.

cdef struct stretch:
    uintptr_t begin, end
    bint written
    int list
    Py_ssize_t index


cdef Py_ssize_t find_overlap(stretch *s, Py_ssize_t n, Py_ssize_t *other) noexcept:
    """The index of a stretch that overlaps an earlier one (in `other`), one of them written to; else -1."""
    cdef Py_ssize_t gap = 1, i, j, furthest = -1, furthest_written = -1
    cdef stretch moved
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


# Optimizer steps

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
            if taken[i] < 0:
                raise ValueError(f"steps[{i}] must be >= 0, was {taken[i]}")
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
                memory[stretches].begin = <uintptr_t>cnp.PyArray_DATA(array)
                memory[stretches].end = memory[stretches].begin + cnp.PyArray_NBYTES(array)
                memory[stretches].written = k != 1
                memory[stretches].list = k
                memory[stretches].index = i
                stretches += 1
            if cnp.PyArray_SIZE(param) == 0:
                continue
            counts[active] = taken[i] + 1
            offsets[active + 1] = offsets[active] + cnp.PyArray_SIZE(param)
            active += 1
        found = find_overlap(memory, stretches, &other)
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
        if self.size >= GIL_THRESHOLD:
            with nogil:
                run(task, args, self.size, GRAIN, self.size)
        else:
            run(task, args, self.size, GRAIN, self.size)
        for i in range(len(self.lists[1])):
            if (<tuple>self.lists[1])[i] is not None:
                taken[i] += 1


cdef tuple as_tuple(object items, str name):
    # A copy: the caller's list may change, and its arrays die, while the GIL is released.
    if type(items) is list or type(items) is tuple:
        return tuple(items)
    raise TypeError(f"{name} must be a list of arrays, was {type(items).__name__}")


cdef int check_momentum_buffers(object buffers, double momentum) except -1:
    if (buffers is None) != (momentum == 0):
        raise ValueError(f"momentum_buffers must be {'None' if momentum == 0 else 'a list of arrays'} "
                         f"when momentum is {momentum:g}")


def sgd_step(params, grads, momentum_buffers, steps, *,
             lr, momentum, dampening, weight_decay, bint nesterov, bint maximize):
    cdef sgd_args a
    cdef Table t = Table.__new__(Table)
    a.lr = number(lr, "lr", 0, 1e308)
    a.momentum = number(momentum, "momentum", 0, 1e308)
    a.dampening = number(dampening, "dampening", 0, 1e308)
    a.weight_decay = number(weight_decay, "weight_decay", 0, 1e308)
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
    cdef rmsprop_args a
    cdef Table t = Table.__new__(Table)
    a.lr = number(lr, "lr", 0, 1e308)
    a.alpha = number(alpha, "alpha", 0, 1)
    a.eps = number(eps, "eps", 0, 1e308)
    a.momentum = number(momentum, "momentum", 0, 1e308)
    a.weight_decay = number(weight_decay, "weight_decay", 0, 1e308)
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
    cdef adam_args a
    cdef Table t = Table.__new__(Table)
    a.lr = number(lr, "lr", 0, 1e308)
    a.beta1 = number(beta1, "beta1", 0, 1, True)
    a.beta2 = number(beta2, "beta2", 0, 1, True)
    a.eps = number(eps, "eps", 0, 1e308)
    a.weight_decay = number(weight_decay, "weight_decay", 0, 1e308)
    a.decoupled = decoupled
    a.maximize = maximize
    t.fill(("params", "grads", "exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs"),
           (params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs), 4, steps)
    a.tensors = t.tensors
    a.params, a.grads, a.exp_avgs = t.arrays[0], t.arrays[1], t.arrays[2]
    a.exp_avg_sqs, a.max_exp_avg_sqs = t.arrays[3], t.arrays[4]
    t.run(table.adam_step, &a)


# Batch normalisation

cdef enum:
    MAX_DIMS = 5
    MAX_VIEWS = 3

cdef ptrdiff_t magnitude(ptrdiff_t x) noexcept:
    return -x if x < 0 else x


cdef class Layout:
    """Arrays of one shape seen as (outer, channels, inner), found by merging axes that follow each other in memory."""
    cdef batch_norm_args args
    cdef bint by_rows
    cdef int double_precision
    cdef void *memory

    def __dealloc__(self):
        free(self.memory)

    cdef int fill(self, int axis, tuple names, tuple arrays) except -1:
        cdef cnp.ndarray x = arrays[0], array
        cdef int ndim = cnp.PyArray_NDIM(x), count = <int>len(arrays), groups = 0, axes, i, j, k
        cdef int order[MAX_DIMS]
        cdef ptrdiff_t sizes[MAX_DIMS]
        cdef ptrdiff_t strides[MAX_VIEWS][MAX_DIMS]
        cdef view *views[MAX_VIEWS]
        cdef bint merges, contiguous = True, rows = True
        cdef ptrdiff_t item = cnp.PyArray_ITEMSIZE(x), channels = cnp.PyArray_DIMS(x)[axis], stride
        # The axes other than the channels', the one with the longest stride in x first.
        for i in range(ndim):
            if i == axis or cnp.PyArray_DIMS(x)[i] == 1:
                continue
            j = groups
            while j > 0 and (magnitude(cnp.PyArray_STRIDES(x)[order[j - 1]]) < magnitude(cnp.PyArray_STRIDES(x)[i])):
                order[j] = order[j - 1]
                j -= 1
            order[j] = i
            groups += 1
        axes, groups = groups, 0
        for i in range(axes):
            merges = groups > 0
            for k in range(count):
                stride = cnp.PyArray_STRIDES(<cnp.ndarray>arrays[k])[order[i]]
                merges = merges and strides[k][groups - 1] == stride * cnp.PyArray_DIMS(x)[order[i]]
            if merges:
                groups -= 1
            else:
                sizes[groups] = 1
            sizes[groups] *= cnp.PyArray_DIMS(x)[order[i]]
            for k in range(count):
                strides[k][groups] = cnp.PyArray_STRIDES(<cnp.ndarray>arrays[k])[order[i]]
            groups += 1
        if groups > 2 and cnp.PyArray_SIZE(x) > 0:
            raise ValueError(f"{' and '.join(names)} must be contiguous but for slices along outer axes, in either memory "
                             f"order, had shape {(<object>x).shape} and strides "
                             f"{' and '.join([str(a.strides) for a in arrays])}; use np.ascontiguousarray")
        self.args.channels = channels
        self.args.outer = sizes[0] if groups > 1 else 1
        self.args.inner = sizes[groups - 1] if groups > 0 else 1
        if cnp.PyArray_SIZE(x) == 0:
            self.args.outer, self.args.inner = 0, 1
            groups = 0
        views[0], views[1], views[2] = &self.args.x, &self.args.y, NULL
        if count == 3:
            views[1], views[2] = &self.args.grad_y, &self.args.grad_x
        for k in range(count):
            array = arrays[k]
            views[k].data = cnp.PyArray_DATA(array)
            views[k].outer_stride = strides[k][0] // item if groups > 1 else 0
            views[k].inner_stride = strides[k][groups - 1] // item if groups > 0 else 0
            views[k].channel_stride = cnp.PyArray_STRIDES(array)[axis] // item if channels > 1 else 1
            contiguous = contiguous and views[k].inner_stride == 1
            rows = rows and views[k].channel_stride == 1
            for i in range(ndim):
                if cnp.PyArray_STRIDES(array)[i] % item:
                    raise ValueError(f"{names[k]} must have strides that are multiples of its item size; use .copy()")
        self.by_rows = rows and not contiguous
        self.double_precision = cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE

    cdef int reserve(self) except -1:
        """Scratch memory for the kernels that go by rows."""
        cdef ptrdiff_t n
        if self.by_rows:
            n = self.blocks() * 2 + (5 if self.double_precision else 3)
            self.memory = malloc(<size_t>(n * self.args.channels + 1) * sizeof(double))
            if self.memory == NULL:
                raise MemoryError
            self.args.partial = <double *>self.memory
            self.args.coefficients = self.args.partial + self.blocks() * 2 * self.args.channels

    cdef ptrdiff_t blocks(self) noexcept nogil:
        return (self.args.outer * self.args.inner + BATCH_NORM_BLOCK_ROWS - 1) // BATCH_NORM_BLOCK_ROWS

    cdef ptrdiff_t size(self) noexcept nogil:
        return self.args.outer * self.args.channels * self.args.inner

    cdef int run(self, kernel *const *by_channels, kernel *const *sums, kernel *const *merge, kernel *const *apply) except -1:
        cdef int d = self.double_precision
        self.reserve()
        if self.size() >= GIL_THRESHOLD:
            with nogil:
                self.run_parts(by_channels[d], NULL if sums == NULL else sums[d], merge[d], apply[d])
        else:
            self.run_parts(by_channels[d], NULL if sums == NULL else sums[d], merge[d], apply[d])

    cdef void run_parts(self, kernel *by_channels, kernel *sums, kernel *merge, kernel *apply) noexcept nogil:
        cdef batch_norm_args *a = &self.args
        cdef ptrdiff_t blocks = self.blocks(), size = self.size()
        if not self.by_rows:
            run(by_channels, a, a.channels, 1, size)
            return
        if sums != NULL:
            run(sums, a, blocks, 1, size)
        run(merge, a, a.channels, 256, blocks * a.channels)
        run(apply, a, a.outer * a.inner, BATCH_NORM_BLOCK_ROWS, size)


cdef int channel_axis(cnp.ndarray x, object axis, str name) except -1:
    cdef int ndim = cnp.PyArray_NDIM(x)
    if not 2 <= ndim <= MAX_DIMS:
        raise ValueError(f"{name} must have 2 to {MAX_DIMS} dimensions, had shape {(<object>x).shape}")
    if axis == 1:
        return 1
    if axis == -1:
        return ndim - 1
    raise ValueError(f"axis must be 1 or -1, was {axis!r}")


cdef void *per_channel(object array, int kind, bint written, cnp.ndarray x, int axis, str name) except? NULL:
    """The data of a contiguous (channels,) array; NULL for None."""
    if array is None:
        return NULL
    check(array, kind, written, name)
    if cnp.PyArray_NDIM(<cnp.ndarray>array) != 1 or cnp.PyArray_DIMS(<cnp.ndarray>array)[0] != cnp.PyArray_DIMS(x)[axis]:
        raise ValueError(f"{name} must have shape ({cnp.PyArray_DIMS(x)[axis]},), one value a channel, had {array.shape}")
    if not cnp.PyArray_CHKFLAGS(<cnp.ndarray>array, cnp.NPY_ARRAY_C_CONTIGUOUS):
        raise ValueError(f"{name} must be contiguous; use np.ascontiguousarray")
    return cnp.PyArray_DATA(<cnp.ndarray>array)


cdef cnp.ndarray output(object out, cnp.ndarray model):
    """An array like `model`: `out` if that fits."""
    if out is None:
        return PyArray_NewLikeArray(model, cnp.NPY_KEEPORDER, NULL, 0)
    check(out, cnp.PyArray_TYPE(model), True, "out")
    if not same_shape(out, model):
        raise ValueError(f"out must have shape {(<object>model).shape}, had {out.shape}")
    return out


cdef bint same_memory(cnp.ndarray a, cnp.ndarray b) noexcept:
    return cnp.PyArray_DATA(a) == cnp.PyArray_DATA(b) and same_shape(a, b) and same_strides(a, b)


cdef int check_apart(dict written, dict read, object in_place=None) except -1:
    """No written array may overlap another, but for "out", which may be the array `in_place` itself."""
    cdef list names = list(written)
    for i, name in enumerate(names):
        array = written[name]
        if array is None:
            continue
        for other_name, other in [(n, written[n]) for n in names[i + 1:]] + list(read.items()):
            if other is None or (name == "out" and other is in_place and same_memory(array, other)):
                continue
            if overlap(array, other):
                raise ValueError(f"{name} must not overlap {other_name} in memory")


cdef bint overlap(cnp.ndarray a, cnp.ndarray b) except -1:
    import numpy as np

    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=100_000)
    except np.exceptions.TooHardError:
        return True


def batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out=None):
    cdef Layout layout = Layout.__new__(Layout)
    cdef batch_norm_args *a = &layout.args
    cdef cnp.ndarray y, mean, rstd
    cdef int channels, kind
    check(x, cnp.NPY_NOTYPE, False, "x")
    kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    channels = channel_axis(x, axis, "x")
    a.weight = per_channel(weight, kind, False, x, channels, "weight")
    a.bias = per_channel(bias, kind, False, x, channels, "bias")
    a.running_mean = per_channel(running_mean, kind, True, x, channels, "running_mean")
    a.running_var = per_channel(running_var, kind, True, x, channels, "running_var")
    if (running_mean is None) != (running_var is None):
        raise ValueError("running_mean and running_var must both be arrays or both be None")
    a.momentum = number(momentum, "momentum", 0, 1)
    a.eps = number(eps, "eps", 0, 1e308)
    if cnp.PyArray_SIZE(<cnp.ndarray>x) == cnp.PyArray_DIMS(<cnp.ndarray>x)[channels] > 0:
        raise ValueError(f"x must have more than 1 value per channel in training, had shape {x.shape}")
    y = output(out, x)
    if not (out is None and running_mean is None):
        check_apart({"out": out, "running_mean": running_mean, "running_var": running_var},
                    {"x": x, "weight": weight, "bias": bias}, in_place=x)
    layout.fill(channels, ("x", "out"), (x, y))
    mean = cnp.PyArray_EMPTY(1, cnp.PyArray_DIMS(<cnp.ndarray>x) + channels, cnp.NPY_DOUBLE, 0)
    rstd = cnp.PyArray_EMPTY(1, cnp.PyArray_DIMS(<cnp.ndarray>x) + channels, cnp.NPY_DOUBLE, 0)
    a.mean, a.rstd = <double *>cnp.PyArray_DATA(mean), <double *>cnp.PyArray_DATA(rstd)
    layout.run(table.batch_norm_forward, table.batch_norm_row_moments, table.batch_norm_merge_moments,
               table.batch_norm_normalize_rows)
    return y, mean, rstd


def batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out=None):
    cdef Layout layout = Layout.__new__(Layout)
    cdef batch_norm_args *a = &layout.args
    cdef cnp.ndarray y
    cdef int channels, kind
    check(x, cnp.NPY_NOTYPE, False, "x")
    kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    channels = channel_axis(x, axis, "x")
    check(running_mean, kind, False, "running_mean")
    check(running_var, kind, False, "running_var")
    a.weight = per_channel(weight, kind, False, x, channels, "weight")
    a.bias = per_channel(bias, kind, False, x, channels, "bias")
    a.running_mean = per_channel(running_mean, kind, False, x, channels, "running_mean")
    a.running_var = per_channel(running_var, kind, False, x, channels, "running_var")
    a.eps = number(eps, "eps", 0, 1e308)
    y = output(out, x)
    if out is not None:
        check_apart({"out": out}, {"x": x, "weight": weight, "bias": bias, "running_mean": running_mean,
                                   "running_var": running_var}, in_place=x)
    layout.fill(channels, ("x", "out"), (x, y))
    layout.run(table.batch_norm_inference, NULL, table.batch_norm_prepare_inference, table.batch_norm_normalize_rows)
    return y


def batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, bint training, out=None):
    cdef Layout layout = Layout.__new__(Layout)
    cdef batch_norm_args *a = &layout.args
    cdef cnp.ndarray grad_x
    cdef int channels, kind
    check(x, cnp.NPY_NOTYPE, False, "x")
    kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    check(grad_y, kind, False, "grad_y")
    channels = channel_axis(x, axis, "x")
    if not same_shape(grad_y, x):
        raise ValueError(f"grad_y must have the shape of x, {x.shape}, had {grad_y.shape}")
    check(mean, cnp.NPY_DOUBLE, False, "mean")
    check(rstd, cnp.NPY_DOUBLE, False, "rstd")
    a.weight = per_channel(weight, kind, False, x, channels, "weight")
    a.mean = <double *>per_channel(mean, cnp.NPY_DOUBLE, False, x, channels, "mean")
    a.rstd = <double *>per_channel(rstd, cnp.NPY_DOUBLE, False, x, channels, "rstd")
    a.grad_weight = per_channel(grad_weight, kind, True, x, channels, "grad_weight")
    a.grad_bias = per_channel(grad_bias, kind, True, x, channels, "grad_bias")
    a.training = training
    grad_x = output(out, x)
    if not (out is None and grad_weight is None and grad_bias is None):
        check_apart({"out": out, "grad_weight": grad_weight, "grad_bias": grad_bias},
                    {"grad_y": grad_y, "x": x, "weight": weight, "mean": mean, "rstd": rstd}, in_place=grad_y)
    layout.fill(channels, ("x", "grad_y", "out"), (x, grad_y, grad_x))
    layout.run(table.batch_norm_backward, table.batch_norm_row_sums, table.batch_norm_merge_sums,
               table.batch_norm_grad_rows)
    return grad_x


# Dropout

cdef cnp.ndarray dense_output(object out, cnp.ndarray model, str name):
    check_dense(model, name)
    cdef cnp.ndarray y = output(out, model)
    if out is not None:
        check_alike(y, model, "out", name)
    return y


cdef int run_dropout(kernel *const *both, dropout_args *a, cnp.ndarray x, cnp.ndarray y, cnp.ndarray mask) except -1:
    cdef kernel *task = both[cnp.PyArray_TYPE(x) == cnp.NPY_DOUBLE]
    a.size = cnp.PyArray_SIZE(x)
    a.x, a.y, a.mask = cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), <uint32_t *>cnp.PyArray_DATA(mask)
    if a.size >= GIL_THRESHOLD:
        with nogil:
            run(task, a, a.size, GRAIN, a.size)
    else:
        run(task, a, a.size, GRAIN, a.size)


def dropout_forward(x, *, p, seed, offset, out=None):
    cdef dropout_args a
    cdef cnp.ndarray y, mask
    cdef cnp.npy_intp words
    check(x, cnp.NPY_NOTYPE, False, "x")
    a.p = number(p, "p", 0, 1)
    a.seed = integer(seed, "seed", 1 << 64)
    a.offset = <uint32_t>integer(offset, "offset", 1 << 32)
    y = dense_output(out, x, "x")
    if out is not None:
        check_apart({"out": out}, {"x": x}, in_place=x)
    words = (cnp.PyArray_SIZE(<cnp.ndarray>x) + 31) // 32
    mask = cnp.PyArray_EMPTY(1, &words, cnp.NPY_UINT32, 0)
    run_dropout(table.dropout_forward, &a, x, y, mask)
    return y, mask


def dropout_backward(grad_y, mask, *, p, out=None):
    cdef dropout_args a
    cdef cnp.ndarray grad_x
    cdef cnp.npy_intp words
    check(grad_y, cnp.NPY_NOTYPE, False, "grad_y")
    check(mask, cnp.NPY_UINT32, False, "mask")
    a.p = number(p, "p", 0, 1)
    words = (cnp.PyArray_SIZE(<cnp.ndarray>grad_y) + 31) // 32
    if (cnp.PyArray_NDIM(<cnp.ndarray>mask) != 1 or cnp.PyArray_DIMS(<cnp.ndarray>mask)[0] != words
            or not cnp.PyArray_CHKFLAGS(<cnp.ndarray>mask, cnp.NPY_ARRAY_C_CONTIGUOUS)):
        raise ValueError(f"mask must be contiguous with shape ({words},), one bit an element of grad_y, had {mask.shape}")
    grad_x = dense_output(out, grad_y, "grad_y")
    if out is not None:
        check_apart({"out": out}, {"grad_y": grad_y, "mask": mask}, in_place=grad_y)
    run_dropout(table.dropout_backward, &a, grad_y, grad_x, mask)
    return grad_x


# Measuring memory

def stream(reads, updates, writes):
    """Touch memory as a kernel with these arrays would, doing next to no arithmetic.

    Every array of `reads` is read once, of `updates` read and written once, of `writes` written
    once. All are contiguous and of the same number of bytes. It measures the machine's streaming
    speed for a given pattern of arrays, on as many threads as a kernel would use.
    """
    cdef stream_args a
    cdef float *arrays[16]
    cdef cnp.ndarray array
    cdef ptrdiff_t nbytes = -1
    cdef int n = 0
    names = ("reads", "updates", "writes")
    lists = [as_tuple(items, name) for items, name in zip((reads, updates, writes), names)]
    if not 1 <= sum([len(items) for items in lists]) <= 16:
        raise ValueError("reads, updates and writes must hold 1 to 16 arrays together")
    for items, name in zip(lists, names):
        for i, item in enumerate(items):
            check(item, cnp.NPY_NOTYPE, name != "reads", name, i)
            array = item
            check_dense(array, name, i)
            if nbytes >= 0 and cnp.PyArray_NBYTES(array) != nbytes:
                raise ValueError(f"{name}[{i}] must have {nbytes} bytes as the first array, had {item.nbytes}")
            nbytes = cnp.PyArray_NBYTES(array)
            arrays[n] = <float *>cnp.PyArray_DATA(array)
            n += 1
    a.size = nbytes // <ptrdiff_t>sizeof(float)
    a.reads, a.updates, a.writes = len(lists[0]), len(lists[1]), len(lists[2])
    a.arrays = arrays
    with nogil:
        run(table.stream, &a, a.size, GRAIN, a.size)


# Instruction sets

def isas():
    """The instruction sets this CPU can run, best first."""
    return [tables[i].isa.decode() for i in range(table_count) if runs[i]]


def isa():
    """The instruction set in use."""
    return table.isa.decode()


def use_isa(str name not None):
    """Use the kernels of one instruction set, for tests and benchmarks.

    ValueError if `name` is unknown or this CPU cannot run it.
    """
    global table
    for i in range(table_count):
        if runs[i] and tables[i].isa.decode() == name:
            table = tables[i]
            return
    raise ValueError(f"name must be one of {', '.join(isas())} on this CPU, was {name!r}")


def _default_isa():
    """The best instruction set this CPU can run, but none better than ONEPASS_MAX_ISA."""
    names = [tables[i].isa.decode() for i in range(table_count)]
    cap = os.environ.get("ONEPASS_MAX_ISA") or names[0]
    if cap not in names:
        raise ValueError(f"ONEPASS_MAX_ISA must be one of {', '.join(names)}, was {cap!r}")
    return next(name for name in names[names.index(cap):] if name in isas())


# Threads

def set_num_threads(n):
    """Let kernels use n threads, the caller included. Results do not depend on it."""
    cdef int threads
    try:
        whole = n.__index__()
    except AttributeError:
        raise TypeError(f"n must be an integer, was {type(n).__name__}") from None
    if not 1 <= whole <= POOL_MAX_THREADS:
        raise ValueError(f"n must be in [1, {POOL_MAX_THREADS}], was {whole}")
    pool_set_threads(whole)


def get_num_threads():
    """The number of threads that kernels may use, the caller included."""
    return pool_get_threads()


def thread_threshold():
    """The number of elements, over all tensors of a call, from which on kernels use threads."""
    return POOL_THRESHOLD


def _cpus():
    """CPUs this process may use: its affinity, and the quota of its control group."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:
        cpus = os.cpu_count() or 1
    for path in ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"):
        try:
            with open(path) as file:
                words = file.read().split()
            if len(words) == 1:
                with open(path.replace("quota", "period")) as file:
                    words += file.read().split()
            quota, period = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0 and period > 0:
            cpus = min(cpus, max(1, -(-quota // period)))
    return cpus


def _default_threads():
    """ONEPASS_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs this process may use."""
    value = os.environ.get("ONEPASS_NUM_THREADS")
    if value:
        if not value.isdecimal() or not 1 <= int(value) <= POOL_MAX_THREADS:
            raise ValueError(f"ONEPASS_NUM_THREADS must be an integer in [1, {POOL_MAX_THREADS}], was {value!r}")
        return int(value)
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    threads = int(value) if value.isdecimal() and int(value) > 0 else _cpus()
    return min(threads, POOL_MAX_THREADS)


use_isa(_default_isa())
pool_init()
pool_set_threads(_default_threads())
