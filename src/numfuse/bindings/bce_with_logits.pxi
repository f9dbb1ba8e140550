def bce_with_logits(prediction, target, pos_weight, sample_weight, *, bint mean, bint gradient=True, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.bce_with_logits`."""
    cdef loss_args a
    cdef cnp.ndarray grad = check_pair(prediction, target, pos_weight, sample_weight, mean, gradient, out, &a)
    cdef double divisor = a.divisor
    a.divisor = 1
    if run_loss(active_kernels.bce_with_logits_count_outside, &a, cnp.PyArray_TYPE(prediction)) > 0:
        raise ValueError(f"target must be from 0 to 1, was {target[(target < 0) | (target > 1)][0]}")
    a.divisor = divisor
    return run_loss(active_kernels.bce_with_logits, &a, cnp.PyArray_TYPE(prediction)), grad
