def mse(prediction, target, sample_weight, *, bint mean, out=None):
    """The kernel whose meaning, shapes and formula are those of `numfuse.reference.mse`."""
    cdef loss_args a
    cdef cnp.ndarray grad = check_pair(prediction, target, None, sample_weight, mean, out, &a)
    return run_loss(active_kernels.mse, &a, cnp.PyArray_TYPE(grad)), grad
