import math

import numpy as np


def norm_of(kernels, calls, steps):
    """The L2 norm of all gradients of some calls' steps; infinite or NaN only where one of them, or the norm, is."""
    grads_of = {}
    for call, tensors in zip(calls, steps):
        grads_of.setdefault(call.dtype, []).extend(tensors.grads)
    norms = [_norm_of_one_dtype(kernels, grads) for grads in grads_of.values()]
    # hypot makes infinity of infinity and NaN.
    return math.nan if any(map(math.isnan, norms)) else math.hypot(*norms)


def _norm_of_one_dtype(kernels, grads):
    norm = kernels.grad_norm(grads)
    if norm == math.inf:  # squares may lie beyond float64 where numbers do not
        grads = [grad for grad in grads if grad is not None and grad.size]
        largest = max(float(np.abs(grad).max()) for grad in grads)
        if largest < math.inf:
            return largest * kernels.grad_norm([np.asarray(grad / largest) for grad in grads])
    return norm
