# What losses share: the value and the gradient in one pass, by blocks of rows.

cdef extern from "kernels.h" nogil:
    int LOSS_BLOCK, LOSS_BLOCK_ROWS
    ctypedef struct loss_args:
        ptrdiff_t rows, classes, block_rows
        const void *prediction
        const void *target
        void *grad
        double *partial
        double divisor
        const void *weight
        ptrdiff_t weight_count
        double weight_sum
        const void *sample_weight
        ptrdiff_t sample_size
        double label_smoothing, delta


cdef loss_args new_loss(ptrdiff_t rows, ptrdiff_t classes, ptrdiff_t block_rows) noexcept:
    """The arguments of the sum over unweighted rows; the arrays are still to be set."""
    cdef loss_args a
    memset(&a, 0, sizeof(a))
    a.rows, a.classes, a.block_rows = rows, classes, block_rows
    a.divisor, a.sample_size = 1, 1
    return a


cdef double run_loss(kernel loss, loss_args *a, int kind) except? -1:
    cdef ptrdiff_t size = a.rows * a.classes, blocks
    cdef bint is_double = kind == cnp.NPY_DOUBLE
    cdef double value
    blocks = (a.rows + a.block_rows - 1) // a.block_rows
    a.partial = <double *>malloc(<size_t>(blocks + 1) * sizeof(double))
    if a.partial == NULL:
        raise MemoryError
    if size >= GIL_THRESHOLD:
        with nogil:
            run_loss_parts(loss, is_double, a, blocks)
    else:
        run_loss_parts(loss, is_double, a, blocks)
    value = a.partial[0]
    free(a.partial)
    return value


cdef void run_loss_parts(kernel loss, bint is_double, loss_args *a, ptrdiff_t blocks) noexcept nogil:
    cdef ptrdiff_t grain = max(<ptrdiff_t>1, GRAIN // (a.block_rows * max(<ptrdiff_t>1, a.classes)))
    run(loss, is_double, a, blocks, grain, a.rows * a.classes)
    run(active_kernels.loss_value, False, a, 1, 1, blocks)


cdef double weigh_rows(const loss_args *a, int kind) except? -1:
    """What the rows weigh together: NaN if a weight is below 0 or NaN, which the product with another may hide."""
    cdef loss_args b = new_loss(a.rows, 1, LOSS_BLOCK_ROWS)
    b.target, b.weight, b.sample_weight = a.target, a.weight, a.sample_weight
    return run_loss(active_kernels.loss_sum_weights, &b, kind)


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


cdef cnp.ndarray check_pair(object prediction, object target, object weight, object sample_weight, bint mean,
                            bint gradient, object out, loss_args *a):
    """Refuse what does not suit an element-wise loss, and set its arguments; returns the array for the gradient.

    It is None without a gradient.
    """
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
        a.weight_count = 1 if cnp.PyArray_SIZE(<cnp.ndarray>weight) == 1 else cnp.PyArray_DIMS(x)[cnp.PyArray_NDIM(x) - 1]
        checked_weights(weight, "pos_weight", x, a.weight_count, "class")
        a.weight = cnp.PyArray_DATA(<cnp.ndarray>weight)
    if sample_weight is not None:
        rows = cnp.PyArray_DIMS(x)[0]
        total = checked_weights(sample_weight, "sample_weight", x, rows, "row of prediction")
        a.sample_weight, a.sample_size = cnp.PyArray_DATA(<cnp.ndarray>sample_weight), size // max(<ptrdiff_t>1, rows)
        a.divisor = total * a.sample_size if mean else 1
        if mean:
            check_divisor(a, None, sample_weight)
    grad = gradient_output(gradient, out, x)
    if out is not None:
        check_apart(("out", "prediction", "target", "pos_weight", "sample_weight"),
                    (out, prediction, target, weight, sample_weight), 1)
    if gradient:
        a.grad = cnp.PyArray_DATA(grad)
    return grad


cdef cnp.ndarray gradient_output(bint gradient, object out, cnp.ndarray prediction):
    """The array for the gradient; None without one."""
    if gradient:
        return dense_output(out, prediction, "prediction")
    if out is not None:
        raise ValueError("out must be None where gradient is False")
    return None
