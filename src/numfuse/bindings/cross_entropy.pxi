cdef cnp.ndarray checked_labels(object target, ptrdiff_t rows, ptrdiff_t classes):
    """A copy of the labels as int64, all in range: the caller's own might change before the kernel reads them."""
    cdef cnp.ndarray copy
    cdef const int64_t *labels
    cdef ptrdiff_t i
    if not cnp.PyArray_Check(target):
        raise TypeError(f"target must be a NumPy array, was {type(target).__name__}")
    if not cnp.PyArray_ISINTEGER(<cnp.ndarray>target):
        raise TypeError(f"target must be integer labels, was {target.dtype}; use .astype(np.int64)")
    if cnp.PyArray_NDIM(<cnp.ndarray>target) != 1 or cnp.PyArray_DIMS(<cnp.ndarray>target)[0] != rows:
        raise ValueError(f"target must have shape ({rows},), one label a row of prediction, had {target.shape}")
    copy = cnp.PyArray_Cast(target, cnp.NPY_INT64)  # always a new array; a label beyond its range becomes negative
    labels = <const int64_t *>cnp.PyArray_DATA(copy)
    for i in range(rows):
        if not 0 <= labels[i] < classes:
            raise ValueError(f"target must be labels from 0 to {classes - 1}; target[{i}] is {target[i]}")
    return copy


def cross_entropy(prediction, target, weight, sample_weight, *, bint mean, label_smoothing, bint gradient=True,
                  out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.cross_entropy`."""
    cdef loss_args a
    cdef cnp.ndarray grad, labels, x, scratch
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
    grad = gradient_output(gradient, out, x)
    if out is not None:
        check_apart(("out", "prediction", "target", "weight", "sample_weight"),
                    (out, prediction, target, weight, sample_weight), 1)
    if gradient:
        a.grad = cnp.PyArray_DATA(grad)
    elif classes > LOSS_BLOCK:  # the exponentials of a row need some place
        scratch = empty_like(x)
        a.grad = cnp.PyArray_DATA(scratch)
    return run_loss(active_kernels.cross_entropy, &a, kind), grad
