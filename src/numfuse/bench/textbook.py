"""Every kernel as a NumPy user writes it from the paper, temporary arrays and all.

The functions take the kernels' arguments and return what these return, so that this module can take
their place (`set_backend`); speed-ups are quoted against it. `numfuse.reference` is something else: it
has the kernels' bits, at the price of more work. Here dropout draws its masks from NumPy's generator and
keeps them as floats, `out` is not used, results may differ in the last digits, and a step takes it that
no gradient is None, that `maximize` is False and that momentum begins with buffers of 0, dropout that p is below 1.
"""

import math

import numpy as np

GENERATOR = np.random.default_rng(0)
SQRT_2, SQRT_2PI, GELU_SCALE = math.sqrt(2), math.sqrt(2 * math.pi), math.sqrt(2 / math.pi)


def sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
             lr, momentum, dampening, running_average, nesterov, **regularization):
    if running_average:
        dampening = momentum
    for i, (p, g) in enumerate(zip(params, grads)):
        g = _regularize_before(g, p, lr=lr, **regularization)
        if momentum:
            gain = (1 - dampening) * g if dampening else g
            momentum_buffers[i] = v = momentum * momentum_buffers[i] + gain
            g = gain + momentum * v if nesterov else v
        p -= lr * g
        _regularize_after(p, ema_params, i, lr=lr, **regularization)


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                 lr, alpha, eps, momentum, nesterov, **regularization):
    for i, (p, g) in enumerate(zip(params, grads)):
        g = _regularize_before(g, p, lr=lr, **regularization)
        square_avgs[i] = variance = alpha * square_avgs[i] + (1 - alpha) * g**2
        if grad_avgs is not None:
            grad_avgs[i] = alpha * grad_avgs[i] + (1 - alpha) * g
            variance = np.maximum(variance - grad_avgs[i] ** 2, 0)
        u = g / (np.sqrt(variance) + eps)
        if momentum:
            momentum_buffers[i] = b = momentum * momentum_buffers[i] + u
            u = u + momentum * b if nesterov else b
        p -= lr * u
        _regularize_after(p, ema_params, i, lr=lr, **regularization)


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
              lr, beta1, beta2, eps, **regularization):
    steps += 1
    for i, (p, g, t) in enumerate(zip(params, grads, steps.tolist())):
        g = _regularize_before(g, p, lr=lr, **regularization)
        exp_avgs[i] = beta1 * exp_avgs[i] + (1 - beta1) * g
        exp_avg_sqs[i] = v = beta2 * exp_avg_sqs[i] + (1 - beta2) * g**2
        if max_exp_avg_sqs is not None:
            max_exp_avg_sqs[i] = v = np.maximum(max_exp_avg_sqs[i], v)
        m_hat = exp_avgs[i] / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p -= lr * m_hat / (np.sqrt(v_hat) + eps)
        _regularize_after(p, ema_params, i, lr=lr, **regularization)


def adagrad_step(params, grads, sums, ema_params, steps, *, lr, lr_decay, eps, **regularization):
    for i, (p, g, t) in enumerate(zip(params, grads, steps.tolist())):
        step_lr = lr / (1 + t * lr_decay)
        g = _regularize_before(g, p, lr=step_lr, **regularization)
        sums[i] = sums[i] + g**2
        p -= step_lr * g / (np.sqrt(sums[i]) + eps)
        _regularize_after(p, ema_params, i, lr=step_lr, **regularization)
    steps += 1


def max_norm(params, ema_params, *, max_norm, ema_decay):
    for i, p in enumerate(params):
        if p.ndim >= 2:
            norm = np.sqrt(np.sum(p**2, axis=tuple(range(1, p.ndim)), keepdims=True))
            p *= np.minimum(1, max_norm / np.maximum(norm, 1e-30))
        if ema_params is not None:
            ema_params[i] = ema_decay * ema_params[i] + (1 - ema_decay) * p


def _regularize_before(g, p, *, lr, weight_decay, decoupled, l1, proximal, max_grad_value, grad_scale, **_):
    if grad_scale != 1:
        g = grad_scale * g
    if max_grad_value < math.inf:
        g = np.clip(g, -max_grad_value, max_grad_value)
    if weight_decay and decoupled:
        p -= lr * weight_decay * p
    elif weight_decay:
        g = g + weight_decay * p
    if l1 and not proximal:
        g = g + l1 * np.sign(p)
    return g


def _regularize_after(p, ema_params, i, *, lr, l1, proximal, ema_decay, **_):
    if l1 and proximal:
        p[...] = np.sign(p) * np.maximum(np.abs(p) - lr * l1, 0)
    if ema_params is not None:
        ema_params[i] = ema_decay * ema_params[i] + (1 - ema_decay) * p


def grad_norm(grads):
    return math.sqrt(sum(float(np.sum(g**2)) for g in grads))


def batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out=None):
    axes, shape = layout(x, axis)
    n = x.size / x.shape[axis]
    mean = x.mean(axis=axes, keepdims=True)
    var = x.var(axis=axes, keepdims=True)
    running_mean[...] = (1 - momentum) * running_mean + momentum * mean.ravel()
    running_var[...] = (1 - momentum) * running_var + momentum * var.ravel() * n / (n - 1)
    std = np.sqrt(var + eps)
    xhat = (x - mean) / std
    y = xhat if weight is None else weight.reshape(shape) * xhat + bias.reshape(shape)
    return y, mean.ravel(), 1 / std.ravel()


def batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out=None):
    _, shape = layout(x, axis)
    weight, bias, mean, var = (a.reshape(shape) for a in (weight, bias, running_mean, running_var))
    return weight * ((x - mean) / np.sqrt(var + eps)) + bias


def batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out=None):
    axes, shape = layout(x, axis)
    mean, rstd = (a.astype(x.dtype).reshape(shape) for a in (mean, rstd))
    xhat = (x - mean) * rstd
    grad_xhat = grad_y
    if weight is not None:
        grad_weight[...] = (grad_y * xhat).sum(axis=axes)
        grad_bias[...] = grad_y.sum(axis=axes)
        grad_xhat = grad_y * weight.reshape(shape)
    average = grad_xhat.mean(axis=axes, keepdims=True)
    slope = (grad_xhat * xhat).mean(axis=axes, keepdims=True)
    return rstd * (grad_xhat - average - xhat * slope)


def dropout_forward(x, *, p, seed, offset, inverted, out=None):
    return _drop(x, x.shape, p, inverted)


def dropout_backward(grad_y, mask, *, p, out=None):
    return grad_y * mask


def channel_dropout_forward(x, *, p, seed, offset, inverted, axis, out=None):
    return _drop(x, channel_shape(x, axis), p, inverted)


def channel_dropout_backward(grad_y, mask, *, p, axis, out=None):
    return grad_y * mask


def _drop(x, shape, p, inverted):
    mask = (GENERATOR.random(shape, dtype=np.float32) < 1 - p) * x.dtype.type(1 / (1 - p) if inverted else 1)
    return x * mask, mask


def batch_norm_relu_dropout_forward(x, weight, bias, running_mean, running_var, *,
                                    axis, momentum, eps, relu, p, seed, offset, out=None):
    y, mean, rstd = batch_norm_forward(
        x, weight, bias, running_mean, running_var, axis=axis, momentum=momentum, eps=eps)
    y, mask = bias_relu_dropout_forward(y, None, relu=relu, p=p, seed=seed, offset=offset)
    return y, mean, rstd, mask


def batch_norm_relu_dropout_backward(grad_y, x, weight, mean, rstd, mask, grad_weight, grad_bias, *, axis, p, out=None):
    passed = grad_y if mask is None else grad_y * mask
    return batch_norm_backward(passed, x, weight, mean, rstd, grad_weight, grad_bias, axis=axis, training=True)


def bias_relu_dropout_forward(x, bias, *, relu, p, seed, offset, out=None):
    y, mask = x if bias is None else x + bias, None
    if relu:
        y = np.maximum(y, 0)
        mask = (y > 0).astype(x.dtype)
    if p:
        y, kept = dropout_forward(y, p=p, seed=seed, offset=offset, inverted=True)
        mask = kept * mask if relu else kept
    return y, mask


def bias_relu_dropout_backward(grad_y, mask, *, p, grad_bias, out=None):
    grad_x = grad_y if mask is None else grad_y * mask
    if grad_bias is not None:
        grad_bias[...] = grad_x.reshape(-1, grad_bias.size).sum(axis=0)
    return grad_x


def cross_entropy(prediction, target, weight, sample_weight, *, mean, label_smoothing, out=None):
    n, classes = prediction.shape
    rows = np.arange(n)
    exp = np.exp(prediction - prediction.max(axis=1, keepdims=True))
    softmax = exp / exp.sum(axis=1, keepdims=True)
    if weight is None and sample_weight is None and not label_smoothing:
        count = n if mean else 1
        value = -np.log(softmax[rows, target]).sum() / count
        softmax[rows, target] -= 1
        return float(value), softmax / count
    v = np.ones(classes, prediction.dtype) if weight is None else weight
    w = np.ones(n, prediction.dtype) if sample_weight is None else sample_weight
    wanted = np.full_like(prediction, label_smoothing / classes)
    wanted[rows, target] += 1 - label_smoothing
    wanted *= w[:, None] * v
    count = (w * v[target]).sum() if mean else 1
    value = -(wanted * np.log(softmax)).sum() / count
    return float(value), (wanted.sum(axis=1, keepdims=True) * softmax - wanted) / count


def mse(prediction, target, sample_weight, *, mean, out=None):
    difference = prediction - target
    return weighted(difference**2, 2 * difference, sample_weight, mean)


def huber(prediction, target, sample_weight, *, mean, delta, out=None):
    d = prediction - target
    size = np.abs(d)
    terms = np.where(size <= delta, d**2 / 2, delta * (size - delta / 2))
    return weighted(terms, np.clip(d, -delta, delta), sample_weight, mean)


def bce_with_logits(prediction, target, pos_weight, sample_weight, *, mean, out=None):
    x = prediction
    if pos_weight is None:
        terms = np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))
        return weighted(terms, 1 / (1 + np.exp(-x)) - target, sample_weight, mean)
    mixed = 1 + (pos_weight - 1) * target
    terms = (1 - target) * x + mixed * (np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0))
    return weighted(terms, mixed / (1 + np.exp(-x)) - pos_weight * target, sample_weight, mean)


def weighted(terms, slopes, sample_weight, mean):
    """A loss and its gradient from those of the elements."""
    n = terms.size
    if sample_weight is not None:
        w = sample_weight.reshape(-1, *[1] * (terms.ndim - 1))
        terms, slopes, n = w * terms, w * slopes, w.sum() * (n // max(w.size, 1))
    n = n if mean else 1
    return float(terms.sum() / n), slopes / n


def activation_forward(x, bias, *, function, alpha, out=None):
    if bias is not None:
        x = x + bias
    if function == "sigmoid":
        return 1 / (1 + np.exp(-x))
    if function == "tanh":
        return np.tanh(x)
    if function == "leaky_relu":
        return np.where(x > 0, x, alpha * x)
    if function == "elu":
        return np.where(x > 0, x, alpha * (np.exp(np.minimum(x, 0)) - 1))
    if function == "silu":
        return x / (1 + np.exp(-x))
    if function == "gelu":
        return 0.5 * x * (1 + erf(x / SQRT_2))
    return 0.5 * x * (1 + np.tanh(GELU_SCALE * (x + 0.044715 * x**3)))


def activation_backward(grad_y, saved, bias, *, function, alpha, grad_bias, out=None):
    x = y = saved
    if bias is not None and function not in ("sigmoid", "tanh"):
        x = x + bias
    if function == "sigmoid":
        slope = y * (1 - y)
    elif function == "tanh":
        slope = 1 - y**2
    elif function == "leaky_relu":
        slope = np.where(x > 0, 1, alpha).astype(x.dtype)
    elif function == "elu":
        slope = np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0)))
    elif function == "silu":
        sigmoid = 1 / (1 + np.exp(-x))
        slope = sigmoid * (1 + x * (1 - sigmoid))
    elif function == "gelu":
        slope = 0.5 * (1 + erf(x / SQRT_2)) + x * np.exp(-0.5 * x**2) / SQRT_2PI
    else:
        tanh = np.tanh(GELU_SCALE * (x + 0.044715 * x**3))
        slope = 0.5 * (1 + tanh) + 0.5 * x * (1 - tanh**2) * GELU_SCALE * (1 + 3 * 0.044715 * x**2)
    grad_x = grad_y * slope
    if grad_bias is not None:
        grad_bias[...] = grad_x.sum(axis=0)
    return grad_x


def erf(x):
    """NumPy has none; SciPy's would be faster."""
    return np.array([math.erf(v) for v in x.ravel().tolist()], x.dtype).reshape(x.shape)


def softmax_forward(x, *, out=None):
    exp = np.exp(x - x.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


def softmax_backward(grad_y, y, *, out=None):
    return y * (grad_y - (grad_y * y).sum(axis=-1, keepdims=True))


def layout(x, axis):
    """All axes of x but the channels', and the shape in which one value per channel broadcasts."""
    axis %= x.ndim
    axes = tuple(i for i in range(x.ndim) if i != axis)
    return axes, [x.shape[i] if i == axis else 1 for i in range(x.ndim)]


def channel_shape(x, axis):
    """The shape in which one value per sample and channel broadcasts."""
    between = [1] * (x.ndim - 2)
    return (len(x), x.shape[1], *between) if axis == 1 else (len(x), *between, x.shape[-1])
