def mse(prediction, target, sample_weight, *, bint mean, bint gradient=True, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.mse`."""
    cdef loss_args a
    cdef cnp.ndarray grad = check_pair(prediction, target, None, sample_weight, mean, gradient, out, &a)
    return run_loss(active_kernels.mse, &a, cnp.PyArray_TYPE(prediction)), grad
