# Batch normalisation: arrays of any layout seen as (outer, channels, inner).

cdef extern from "kernels.h" nogil:
    int BATCH_NORM_BLOCK_ROWS
    ctypedef struct view:
        void *data
        ptrdiff_t outer_stride, channel_stride, inner_stride
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
        bint training, relu
        double p
        uint32_t *mask
        double *partial
        void *coefficients


cdef enum:
    MAX_VIEWS = 3
    # Doubles of scratch memory on the stack: what a small net's layers need.
    SMALL_SCRATCH = 1024
    # Doubles in a cache line.
    LINE = 8

cdef kernel NO_SUMS  # in inference: of no cost


@cython.final
@cython.freelist(8)
cdef class Layout:
    """Arrays of one shape seen as (outer, channels, inner), found by merging axes that follow each other in memory."""
    cdef batch_norm_args args
    cdef bint by_rows
    cdef int is_double
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
                if cnp.PyArray_DIMS(array)[i] > 1 and cnp.PyArray_STRIDES(array)[i] % item:
                    raise ValueError(f"{names[k]} must have strides that are multiples of its item size; use .copy()")
        self.by_rows = rows and not contiguous
        self.is_double = is_double(x)

    cdef int reserve(self, double *small, bint has_sums) except -1:
        """Scratch memory for the kernels that go by rows: `small`, if that will do."""
        cdef ptrdiff_t sums, n
        if self.by_rows:
            sums = self.blocks() * 2 * self.args.channels if has_sums else 0
            n = sums + (5 if self.is_double else 3) * self.args.channels + LINE  # 5 floats are in 3 doubles
            if n > SMALL_SCRATCH:
                self.memory = malloc(<size_t>n * sizeof(double))
                if self.memory == NULL:
                    raise MemoryError
                small = <double *>self.memory
            # Vectors that each lie in two cache lines would be loaded at half the speed.
            self.args.coefficients = small + (-(<uintptr_t>small // sizeof(double))) % LINE
            self.args.partial = <double *>self.args.coefficients + (n - sums - LINE)

    cdef ptrdiff_t blocks(self) noexcept nogil:
        return (self.args.outer * self.args.inner + BATCH_NORM_BLOCK_ROWS - 1) // BATCH_NORM_BLOCK_ROWS

    cdef ptrdiff_t size(self) noexcept nogil:
        return self.args.outer * self.args.channels * self.args.inner

    cdef int run(self, kernel by_channels, kernel sums, kernel merge, kernel apply) except -1:
        cdef double small[SMALL_SCRATCH]
        self.reserve(small, sums.cost > 0)
        if self.size() >= GIL_THRESHOLD:
            with nogil:
                self.run_parts(by_channels, sums, merge, apply)
        else:
            self.run_parts(by_channels, sums, merge, apply)

    cdef void run_parts(self, kernel by_channels, kernel sums, kernel merge, kernel apply) noexcept nogil:
        cdef batch_norm_args *a = &self.args
        cdef bint is_double = self.is_double, has_sums = sums.cost > 0
        cdef ptrdiff_t blocks = self.blocks(), size = self.size()
        if not self.by_rows:
            run(by_channels, is_double, a, a.channels, 1, 2 * size if has_sums else size)
            return
        if has_sums:
            run(sums, is_double, a, blocks, 1, size)
        run(merge, is_double, a, a.channels, 256, blocks * a.channels)
        run(apply, is_double, a, a.outer * a.inner, BATCH_NORM_BLOCK_ROWS, size)


def batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.batch_norm_forward`."""
    cdef dropout_args nothing
    nothing.p = 0
    return batch_norm_train(x, weight, bias, running_mean, running_var, axis, momentum, eps, out, False, &nothing)[:3]


cdef tuple batch_norm_train(x, weight, bias, running_mean, running_var, axis, momentum, eps, out, bint relu,
                            dropout_args *d):
    """Batch normalisation in training, then ReLU and dropout if asked: (y, mean, rstd, mask or None)."""
    cdef Layout layout = Layout.__new__(Layout)
    cdef batch_norm_args *a = &layout.args
    cdef cnp.ndarray y, mean, rstd, mask = None
    cdef cnp.npy_intp words
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
    a.eps = number(eps, "eps", 0, INFINITY)
    if cnp.PyArray_SIZE(<cnp.ndarray>x) == cnp.PyArray_DIMS(<cnp.ndarray>x)[channels] > 0:
        raise ValueError(f"x must have more than 1 value per channel in training, had shape {x.shape}")
    if relu or d.p > 0:
        check_c_contiguous(x, "x")
    y = output(out, x)
    if relu or d.p > 0:
        check_c_contiguous(y, "out")
    check_apart(("out", "running_mean", "running_var", "x", "weight", "bias"),
                (out, running_mean, running_var, x, weight, bias), 3, in_place=x)
    layout.fill(channels, ("x", "out"), (x, y))
    mean = cnp.PyArray_EMPTY(1, cnp.PyArray_DIMS(<cnp.ndarray>x) + channels, cnp.NPY_DOUBLE, 0)
    rstd = cnp.PyArray_EMPTY(1, cnp.PyArray_DIMS(<cnp.ndarray>x) + channels, cnp.NPY_DOUBLE, 0)
    a.mean, a.rstd = <double *>cnp.PyArray_DATA(mean), <double *>cnp.PyArray_DATA(rstd)
    a.relu, a.p = relu, d.p
    if relu or d.p > 0:
        words = (cnp.PyArray_SIZE(<cnp.ndarray>x) + 31) // 32
        mask = new_array(1, &words, cnp.NPY_UINT32)
        d.size, d.mask = cnp.PyArray_SIZE(<cnp.ndarray>x), <uint32_t *>cnp.PyArray_DATA(mask)
        a.mask = d.mask
        run_by_elements(active_kernels.dropout_mask, False, d, d.size, draw_cost(d.p))
    layout.run(active_kernels.batch_norm_forward, active_kernels.batch_norm_row_moments,
               active_kernels.batch_norm_merge_moments, active_kernels.batch_norm_normalize_rows)
    return y, mean, rstd, mask


def batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.batch_norm_inference`."""
    cdef Layout layout = Layout.__new__(Layout)
    cdef batch_norm_args *a = &layout.args
    cdef cnp.ndarray y
    cdef int channels, kind
    check(x, cnp.NPY_NOTYPE, False, "x")
    kind = cnp.PyArray_TYPE(<cnp.ndarray>x)
    channels = channel_axis(x, axis, "x")
    a.weight = per_channel(weight, kind, False, x, channels, "weight")
    a.bias = per_channel(bias, kind, False, x, channels, "bias")
    a.running_mean = per_channel(running_mean, kind, False, x, channels, "running_mean", required=True)
    a.running_var = per_channel(running_var, kind, False, x, channels, "running_var", required=True)
    a.eps = number(eps, "eps", 0, INFINITY)
    y = output(out, x)
    if out is not None:
        check_apart(("out", "x", "weight", "bias", "running_mean", "running_var"),
                    (out, x, weight, bias, running_mean, running_var), 1, in_place=x)
    layout.fill(channels, ("x", "out"), (x, y))
    layout.run(active_kernels.batch_norm_inference, NO_SUMS, active_kernels.batch_norm_prepare_inference,
               active_kernels.batch_norm_inference_rows)
    return y


def batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, bint training, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.batch_norm_backward`."""
    return batch_norm_gradient(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, axis, training, out, None, 0)


cdef cnp.ndarray batch_norm_gradient(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, axis, bint training, out,
                                     mask, double p):
    """The gradient through ReLU and dropout, if there is a mask, and batch normalisation."""
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
    a.weight = per_channel(weight, kind, False, x, channels, "weight")
    a.mean = <double *>per_channel(mean, cnp.NPY_DOUBLE, False, x, channels, "mean", required=True)
    a.rstd = <double *>per_channel(rstd, cnp.NPY_DOUBLE, False, x, channels, "rstd", required=True)
    a.grad_weight = per_channel(grad_weight, kind, True, x, channels, "grad_weight")
    a.grad_bias = per_channel(grad_bias, kind, True, x, channels, "grad_bias")
    a.training = training
    if mask is not None:
        check_c_contiguous(x, "x")
        check_c_contiguous(grad_y, "grad_y")
        check_mask(mask, grad_y)
        a.mask, a.p = <uint32_t *>cnp.PyArray_DATA(<cnp.ndarray>mask), p
    grad_x = output(out, x)
    if mask is not None:
        check_c_contiguous(grad_x, "out")
    check_apart(("out", "grad_weight", "grad_bias", "grad_y", "x", "weight", "mean", "rstd", "mask"),
                (out, grad_weight, grad_bias, grad_y, x, weight, mean, rstd, mask), 3, in_place=grad_y)
    layout.fill(channels, ("x", "grad_y", "out"), (x, grad_y, grad_x))
    layout.run(active_kernels.batch_norm_backward, active_kernels.batch_norm_row_sums,
               active_kernels.batch_norm_merge_sums, active_kernels.batch_norm_grad_rows)
    return grad_x
