# Losses: the value and the gradient in one pass, by blocks of rows.

cdef double run_loss(kernel *const *both, loss_args *a, cnp.ndarray prediction, object target, object grad,
                     bint mean, int64_t cost) except? -1:
    cdef kernel *task = both[cnp.PyArray_TYPE(prediction) == cnp.NPY_DOUBLE]
    cdef ptrdiff_t size = cnp.PyArray_SIZE(prediction), blocks
    cdef double value
    blocks = (a.rows + a.block_rows - 1) // a.block_rows
    a.prediction, a.target = cnp.PyArray_DATA(prediction), cnp.PyArray_DATA(<cnp.ndarray>target)
    a.grad = NULL if grad is None else cnp.PyArray_DATA(<cnp.ndarray>grad)
    a.mean = mean
    a.partial = <double *>malloc(<size_t>(blocks + 1) * sizeof(double))
    if a.partial == NULL:
        raise MemoryError
    cost = cost * size << (cnp.PyArray_TYPE(prediction) == cnp.NPY_DOUBLE)
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
    run(table.loss_value, a, 1, 1, blocks)


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


def cross_entropy(prediction, target, *, bint mean, out=None):
    """The kernel whose meaning, shapes and formula are those of `onepass.reference.cross_entropy`."""
    cdef loss_args a
    cdef cnp.ndarray grad, labels
    check(prediction, cnp.NPY_NOTYPE, False, "prediction")
    if cnp.PyArray_NDIM(<cnp.ndarray>prediction) != 2:
        raise ValueError(f"prediction must have shape (N, C), had {prediction.shape}")
    check_c_contiguous(prediction, "prediction")
    a.rows, a.classes = cnp.PyArray_DIMS(<cnp.ndarray>prediction)[0], cnp.PyArray_DIMS(<cnp.ndarray>prediction)[1]
    a.block_rows = min(<ptrdiff_t>LOSS_BLOCK_ROWS, max(<ptrdiff_t>1, LOSS_BLOCK // max(<ptrdiff_t>1, a.classes)))
    labels = checked_labels(target, a.rows, a.classes)
    grad = dense_output(out, prediction, "prediction")
    if out is not None:
        check_apart(("out", "prediction", "target"), (out, prediction, target), 1)
    return run_loss(table.cross_entropy, &a, prediction, labels, grad, mean, CROSS_ENTROPY_COST), grad


cdef cnp.ndarray check_pair(object prediction, object target, object out, loss_args *a):
    """Refuse what does not suit an element-wise loss, and set the sizes; returns the array for the gradient."""
    cdef cnp.ndarray grad
    check(prediction, cnp.NPY_NOTYPE, False, "prediction")
    check(target, cnp.PyArray_TYPE(<cnp.ndarray>prediction), False, "target")
    check_dense(prediction, "prediction")
    check_alike(target, prediction, "target", "prediction")
    grad = dense_output(out, prediction, "prediction")
    if out is not None:
        check_apart(("out", "prediction", "target"), (out, prediction, target), 1)
    a.rows, a.classes, a.block_rows = cnp.PyArray_SIZE(<cnp.ndarray>prediction), 1, LOSS_BLOCK
    return grad


def mse(prediction, target, *, bint mean, out=None):
    """The kernel whose meaning, shapes and formula are those of `onepass.reference.mse`."""
    cdef loss_args a
    cdef cnp.ndarray grad = check_pair(prediction, target, out, &a)
    return run_loss(table.mse, &a, prediction, target, grad, mean, MSE_COST), grad


def bce_with_logits(prediction, target, *, bint mean, out=None):
    """The kernel whose meaning, shapes and formula are those of `onepass.reference.bce_with_logits`."""
    cdef loss_args a
    cdef cnp.ndarray grad = check_pair(prediction, target, out, &a)
    if run_loss(table.count_outside, &a, prediction, target, None, False, STREAM_COST) > 0:
        raise ValueError(f"target must be from 0 to 1, was {target[(target < 0) | (target > 1)][0]}")
    return run_loss(table.bce_with_logits, &a, prediction, target, grad, mean, BCE_COST), grad
