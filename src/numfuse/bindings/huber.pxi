def huber(prediction, target, sample_weight, *, bint mean, delta, bint gradient=True, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.huber`."""
    cdef loss_args a
    cdef cnp.ndarray grad
    cdef double threshold = number(delta, "delta", 0, INFINITY)
    if threshold == 0:
        raise ValueError(f"delta must be finite and > 0, was {delta!r}")
    grad = check_pair(prediction, target, None, sample_weight, mean, gradient, out, &a)
    a.delta = threshold
    return run_loss(active_kernels.huber, &a, cnp.PyArray_TYPE(prediction)), grad
