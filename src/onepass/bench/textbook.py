"""The kernels' work as a NumPy user writes it from the paper, temporary arrays and all.

Each function takes the arguments of the kernel of its name and returns the function that does the
work once. Speed-ups are quoted against these. `onepass.reference` is something else: it has the
kernels' bits, at the price of more work. Steps counted before and `maximize=False` are assumed.
"""

from functools import partial

import numpy as np


def sgd_step(params, grads, momentum_buffers, steps, *,
             lr, momentum, dampening, weight_decay, nesterov, maximize):
    def step():
        for i, (p, g) in enumerate(zip(params, grads)):
            if weight_decay:
                g = g + weight_decay * p
            if momentum:
                gain = (1 - dampening) * g if dampening else g
                momentum_buffers[i] = v = momentum * momentum_buffers[i] + gain
                g = g + momentum * v if nesterov else v
            p -= lr * g
    return step


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, steps, *,
                 lr, alpha, eps, momentum, weight_decay, maximize):
    def step():
        for i, (p, g) in enumerate(zip(params, grads)):
            square_avgs[i] = variance = alpha * square_avgs[i] + (1 - alpha) * g**2
            if grad_avgs is not None:
                grad_avgs[i] = alpha * grad_avgs[i] + (1 - alpha) * g
                variance = np.maximum(variance - grad_avgs[i] ** 2, 0)
            u = g / (np.sqrt(variance) + eps)
            if momentum:
                momentum_buffers[i] = u = momentum * momentum_buffers[i] + u
            p -= lr * u
    return step


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, *,
              lr, beta1, beta2, eps, weight_decay, decoupled, maximize):
    def step():
        steps[...] += 1
        for i, (p, g, t) in enumerate(zip(params, grads, steps.tolist())):
            if weight_decay and decoupled:
                p -= lr * weight_decay * p
            elif weight_decay:
                g = g + weight_decay * p
            exp_avgs[i] = beta1 * exp_avgs[i] + (1 - beta1) * g
            exp_avg_sqs[i] = v = beta2 * exp_avg_sqs[i] + (1 - beta2) * g**2
            if max_exp_avg_sqs is not None:
                max_exp_avg_sqs[i] = v = np.maximum(max_exp_avg_sqs[i], v)
            m_hat = exp_avgs[i] / (1 - beta1**t)
            v_hat = v / (1 - beta2**t)
            p -= lr * m_hat / (np.sqrt(v_hat) + eps)
    return step


def batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out):
    axes, n = other_axes(x, axis), x.size / x.shape[axis]
    if weight is not None:
        weight, bias = np.expand_dims(weight, axes), np.expand_dims(bias, axes)

    def step():
        mean = x.mean(axis=axes, keepdims=True)
        var = x.var(axis=axes, keepdims=True)
        running_mean[...] = (1 - momentum) * running_mean + momentum * mean.ravel()
        running_var[...] = (1 - momentum) * running_var + momentum * var.ravel() * n / (n - 1)
        xhat = (x - mean) / np.sqrt(var + eps)
        return xhat if weight is None else weight * xhat + bias
    return step


def batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out):
    axes = other_axes(x, axis)
    mean, var = np.expand_dims(running_mean, axes), np.expand_dims(running_var, axes)
    weight, bias = np.expand_dims(weight, axes), np.expand_dims(bias, axes)
    return lambda: weight * ((x - mean) / np.sqrt(var + eps)) + bias


def batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out):
    axes = other_axes(x, axis)
    mean, rstd = (np.expand_dims(a.astype(x.dtype), axes) for a in (mean, rstd))
    average = partial(np.mean, axis=axes, keepdims=True)

    def step():
        xhat = (x - mean) * rstd
        grad_xhat = grad_y
        if weight is not None:
            grad_weight[...] = (grad_y * xhat).sum(axis=axes)
            grad_bias[...] = grad_y.sum(axis=axes)
            grad_xhat = grad_y * np.expand_dims(weight, axes)
        return rstd * (grad_xhat - average(grad_xhat) - xhat * average(grad_xhat * xhat))
    return step


def dropout_forward(x, *, p, seed, offset, out):
    rng = np.random.default_rng(seed)

    def step():
        mask = rng.random(x.shape, dtype=np.float32) < 1 - p
        return x * mask * (1 / (1 - p)), mask
    return step


def dropout_backward(grad_y, mask, *, p, out):
    mask = float_mask(mask, grad_y, p)
    return lambda: grad_y * mask


def other_axes(x, axis):
    """All axes of x but the channels'."""
    return tuple(i for i in range(x.ndim) if i != axis % x.ndim)


def float_mask(mask, like, p):
    """A kernel's bit mask as the array of 0 and 1 / (1 - p) that a NumPy user keeps."""
    bits = np.unpackbits(mask.astype("<u4").view(np.uint8), count=like.size, bitorder="little")
    return bits.reshape(like.shape).astype(like.dtype) * (1 / (1 - p))
