# Losses: the value and the gradient in one pass, by blocks of rows.

cdef loss_args new_loss(ptrdiff_t rows, ptrdiff_t classes, ptrdiff_t block_rows) noexcept:
    """The arguments of the sum over unweighted rows; the arrays are still to be set."""
    cdef loss_args a
    memset(&a, 0, sizeof(a))
    a.rows, a.classes, a.block_rows = rows, classes, block_rows
    a.divisor, a.sample_size = 1, 1
    return a


cdef double run_loss(kernel *const *both, loss_args *a, int kind, int64_t cost) except? -1:
    cdef kernel *task = both[kind == cnp.NPY_DOUBLE]
    cdef ptrdiff_t size = a.rows * a.classes, blocks
    cdef double value
    blocks = (a.rows + a.block_rows - 1) // a.block_rows
    a.partial = <double *>malloc(<size_t>(blocks + 1) * sizeof(double))
    if a.partial == NULL:
        raise MemoryError
    cost = cost * size << (kind == cnp.NPY_DOUBLE)
    if size >= GIL_THRESHOLD:
        with nogil:
            run_loss_parts(task, a, blocks, cost)
    else:
        run_loss_parts(task, a, blocks, cost)
    value = a.partial[0]
    free(a.partial)
    return value


cdef void run_loss_parts(kernel *task, loss_args *a, ptrdiff_t blocks, int64_t work) noexcept nogil:
    run(task, a, blocks, max(<ptrdiff_t>1, GRAIN // (a.block_rows * max(<ptrdiff_t>1, a.classes))), work)
    run(active_kernels.loss_value, a, 1, 1, blocks)


cdef double weigh_rows(const loss_args *a, int kind) except? -1:
    """What the rows weigh together: NaN if a weight is below 0 or NaN, which the product with another may hide."""
    cdef loss_args b = new_loss(a.rows, 1, LOSS_BLOCK_ROWS)
    b.target, b.weight, b.sample_weight = a.target, a.weight, a.sample_weight
    return run_loss(active_kernels.sum_weights, &b, kind, STREAM_COST)


cdef double checked_weights(object weight, str name, cnp.ndarray prediction, ptrdiff_t count, str thing) except? -1:
    """Refuse what are no weights of `count` things; returns their sum."""
    cdef loss_args a = new_loss(count, 1, LOSS_BLOCK_ROWS)
    cdef double total
    check(weight, cnp.PyArray_TYPE(prediction), False, name)
    if cnp.PyArray_NDIM(<cnp.ndarray>weight) != 1 or cnp.PyArray_DIMS(<cnp.ndarray>weight)[0] != count:
        raise ValueError(f"{name} must have shape ({count},), one weight a {thing}, had {weight.shape}")
    check_c_contiguous(weight, name)
    a.sample_weight = cnp.PyArray_DATA(<cnp.ndarray>weight)
    total = weigh_rows(&a, cnp.PyArray_TYPE(prediction))
    if not isfinite(total):
        fine = (weight >= 0) & (weight < INFINITY)
        i = int(fine.argmin())
        if not fine[i]:
            raise ValueError(f"{name} must be finite and >= 0; {name}[{i}] is {weight[i]}")
        raise ValueError(f"{name} must have a finite sum")
    return total


cdef int check_divisor(loss_args *a, object weight, object sample_weight) except -1:
    """A mean needs rows that weigh something; that of no rows is NaN."""
    if a.rows > 0 and not 0 < 1 / a.divisor < INFINITY:
        given = [name for name, array in (("weight", weight), ("sample_weight", sample_weight)) if array is not None]
        raise ValueError(f"{' and '.join(given)} must have a finite sum above 0 over the rows of a mean, "
                         f"was {a.divisor:g}")


cdef cnp.ndarray checked_labels(object target, ptrdiff_t rows, ptrdiff_t classes):
    """A copy of the labels, all in range: the caller's own might change before the kernel reads them."""
    cdef cnp.ndarray copy
    cdef const int64_t *labels
    cdef ptrdiff_t i
    check(target, cnp.NPY_INT64, False, "target")
    if cnp.PyArray_NDIM(<cnp.ndarray>target) != 1 or cnp.PyArray_DIMS(<cnp.ndarray>target)[0] != rows:
        raise ValueError(f"target must have shape ({rows},), one label a row of prediction, had {target.shape}")
    check_c_contiguous(target, "target")
    copy = cnp.PyArray_NewCopy(target, cnp.NPY_CORDER)
    labels = <const int64_t *>cnp.PyArray_DATA(copy)
    for i in range(rows):
        if not 0 <= labels[i] < classes:
            raise ValueError(f"target must be labels from 0 to {classes - 1}; target[{i}] is {labels[i]}")
    return copy


cdef int check_c_contiguous(cnp.ndarray array, str name) except -1:
    if not cnp.PyArray_CHKFLAGS(array, cnp.NPY_ARRAY_C_CONTIGUOUS):
        raise ValueError(f"{name} must be C-contiguous, had shape {(<object>array).shape} and strides "
                         f"{(<object>array).strides}; use np.ascontiguousarray")


def cross_entropy(prediction, target, weight, sample_weight, *, bint mean, label_smoothing, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.cross_entropy`."""
    cdef loss_args a
    cdef cnp.ndarray grad, labels, x
    cdef ptrdiff_t rows, classes, block_rows
    cdef int kind
    check(prediction, cnp.NPY_NOTYPE, False, "prediction")
    x, kind = prediction, cnp.PyArray_TYPE(<cnp.ndarray>prediction)
    if cnp.PyArray_NDIM(x) != 2:
        raise ValueError(f"prediction must have shape (N, C), had {prediction.shape}")
    check_c_contiguous(x, "prediction")
    rows, classes = cnp.PyArray_DIMS(x)[0], cnp.PyArray_DIMS(x)[1]
    block_rows = min(<ptrdiff_t>LOSS_BLOCK_ROWS, max(<ptrdiff_t>1, LOSS_BLOCK // max(<ptrdiff_t>1, classes)))
    a = new_loss(rows, classes, block_rows)
    a.label_smoothing = number(label_smoothing, "label_smoothing", 0, 1)
    labels = checked_labels(target, rows, classes)
    a.prediction, a.target = cnp.PyArray_DATA(x), cnp.PyArray_DATA(labels)
    a.divisor, a.weight_sum = rows if mean else 1, classes
    if sample_weight is not None:
        total = checked_weights(sample_weight, "sample_weight", x, rows, "row of prediction")
        a.divisor = total if mean else 1
        a.sample_weight = cnp.PyArray_DATA(<cnp.ndarray>sample_weight)
    if weight is not None:
        a.weight_sum = checked_weights(weight, "weight", x, classes, "class")
        a.weight = cnp.PyArray_DATA(<cnp.ndarray>weight)
        a.divisor = weigh_rows(&a, kind) if mean else 1
    if mean:
        check_divisor(&a, weight, sample_weight)
    grad = dense_output(out, x, "prediction")
    if out is not None:
        check_apart(("out", "prediction", "target", "weight", "sample_weight"),
                    (out, prediction, target, weight, sample_weight), 1)
    a.grad = cnp.PyArray_DATA(grad)
    return run_loss(active_kernels.cross_entropy, &a, kind, CROSS_ENTROPY_COST), grad


cdef cnp.ndarray check_pair(object prediction, object target, object weight, object sample_weight, bint mean,
                            object out, loss_args *a):
    """Refuse what does not suit an element-wise loss, and set its arguments; returns the array for the gradient."""
    cdef cnp.ndarray grad, x
    cdef ptrdiff_t size, rows
    check(prediction, cnp.NPY_NOTYPE, False, "prediction")
    x, size = prediction, cnp.PyArray_SIZE(<cnp.ndarray>prediction)
    check(target, cnp.PyArray_TYPE(x), False, "target")
    check_dense(x, "prediction")
    check_alike(target, x, "target", "prediction")
    a[0] = new_loss(size, 1, LOSS_BLOCK)
    a.prediction, a.target = cnp.PyArray_DATA(x), cnp.PyArray_DATA(<cnp.ndarray>target)
    a.divisor = size if mean else 1
    if weight is not None or sample_weight is not None:
        check_c_contiguous(x, "prediction")
        if cnp.PyArray_NDIM(x) == 0:
            raise ValueError("prediction must have rows to be weighted, had shape ()")
    if weight is not None:
        check(weight, cnp.PyArray_TYPE(x), False, "pos_weight")
        a.weights = 1 if cnp.PyArray_SIZE(<cnp.ndarray>weight) == 1 else cnp.PyArray_DIMS(x)[cnp.PyArray_NDIM(x) - 1]
        checked_weights(weight, "pos_weight", x, a.weights, "class")
        a.weight = cnp.PyArray_DATA(<cnp.ndarray>weight)
    if sample_weight is not None:
        rows = cnp.PyArray_DIMS(x)[0]
        total = checked_weights(sample_weight, "sample_weight", x, rows, "row of prediction")
        a.sample_weight, a.sample_size = cnp.PyArray_DATA(<cnp.ndarray>sample_weight), size // max(<ptrdiff_t>1, rows)
        a.divisor = total * a.sample_size if mean else 1
        if mean:
            check_divisor(a, None, sample_weight)
    grad = dense_output(out, x, "prediction")
    if out is not None:
        check_apart(("out", "prediction", "target", "pos_weight", "sample_weight"),
                    (out, prediction, target, weight, sample_weight), 1)
    a.grad = cnp.PyArray_DATA(grad)
    return grad


def mse(prediction, target, sample_weight, *, bint mean, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.mse`."""
    cdef loss_args a
    cdef cnp.ndarray grad = check_pair(prediction, target, None, sample_weight, mean, out, &a)
    return run_loss(active_kernels.mse, &a, cnp.PyArray_TYPE(grad), MSE_COST), grad


def huber(prediction, target, sample_weight, *, bint mean, delta, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.huber`."""
    cdef loss_args a
    cdef cnp.ndarray grad
    cdef double threshold = number(delta, "delta", 0, INFINITY)
    if threshold == 0:
        raise ValueError(f"delta must be finite and > 0, was {delta!r}")
    grad = check_pair(prediction, target, None, sample_weight, mean, out, &a)
    a.delta = threshold
    return run_loss(active_kernels.huber, &a, cnp.PyArray_TYPE(grad), HUBER_COST), grad


def bce_with_logits(prediction, target, pos_weight, sample_weight, *, bint mean, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.bce_with_logits`."""
    cdef loss_args a
    cdef cnp.ndarray grad = check_pair(prediction, target, pos_weight, sample_weight, mean, out, &a)
    cdef double divisor = a.divisor
    a.divisor = 1
    if run_loss(active_kernels.count_outside, &a, cnp.PyArray_TYPE(grad), STREAM_COST) > 0:
        raise ValueError(f"target must be from 0 to 1, was {target[(target < 0) | (target > 1)][0]}")
    a.divisor = divisor
    return run_loss(active_kernels.bce_with_logits, &a, cnp.PyArray_TYPE(grad), BCE_COST), grad
