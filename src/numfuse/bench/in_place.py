"""The kernels' work in NumPy by someone who knows `out=`: no temporary arrays, few passes.

Each function takes the arguments of the kernel of its name (a dropout mask as floats) and returns the
function that does the work once, with scratch that is kept from call to call.
"""

import math
from functools import partial

import numpy as np

from .in_place_activations import activation_backward as activation_backward
from .in_place_activations import activation_forward as activation_forward
from .in_place_activations import sigmoid
from .in_place_activations import softmax_backward as softmax_backward
from .in_place_activations import softmax_forward as softmax_forward
from .places import empty_like
from .textbook import channel_shape, layout


def sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
             lr, momentum, dampening, running_average, nesterov, **regularization):
    if running_average:
        dampening = momentum
    before, after = _regularizers(params, ema_params, **regularization)
    scratch = [(empty_like(p, 8), empty_like(p, 9)) for p in params]

    def step():
        for i, (p, g) in enumerate(zip(params, grads)):
            a, b = scratch[i]
            g = before(i, g, lr)
            if momentum:
                v = momentum_buffers[i]
                g = np.multiply(g, 1 - dampening, out=a) if dampening else g
                v *= momentum
                v += g
                if nesterov:
                    np.multiply(v, momentum, out=b)
                    b += g
                g = b if nesterov else v
            np.multiply(g, lr, out=a)
            p -= a
            after(i, lr)
    return step


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                 lr, alpha, eps, momentum, nesterov, **regularization):
    before, after = _regularizers(params, ema_params, **regularization)
    scratch = [empty_like(p, 8) for p in params]

    def step():
        for i, (p, g, s, a) in enumerate(zip(params, grads, square_avgs, scratch)):
            g = before(i, g, lr)
            np.multiply(g, g, out=a)
            a *= 1 - alpha
            s *= alpha
            s += a
            if grad_avgs is None:
                np.sqrt(s, out=a)
            else:
                average = grad_avgs[i]
                np.multiply(g, 1 - alpha, out=a)
                average *= alpha
                average += a
                np.multiply(average, average, out=a)
                np.subtract(s, a, out=a)
                np.maximum(a, 0, out=a)
                np.sqrt(a, out=a)
            a += eps
            np.divide(g, a, out=a)
            if momentum:
                momentum_buffers[i] *= momentum
                momentum_buffers[i] += a
                if nesterov:
                    a *= lr
                    p -= a
                np.multiply(momentum_buffers[i], lr * momentum if nesterov else lr, out=a)
            else:
                a *= lr
            p -= a
            after(i, lr)
    return step


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
              lr, beta1, beta2, eps, **regularization):
    before, after = _regularizers(params, ema_params, **regularization)
    scratch = [empty_like(p, 8) for p in params]

    def step():
        steps[...] += 1
        for i, (p, g, m, v, t) in enumerate(zip(params, grads, exp_avgs, exp_avg_sqs, steps.tolist())):
            a, g = scratch[i], before(i, g, lr)
            np.multiply(g, 1 - beta1, out=a)
            m *= beta1
            m += a
            np.multiply(g, g, out=a)
            a *= 1 - beta2
            v *= beta2
            v += a
            if max_exp_avg_sqs is not None:
                v = np.maximum(max_exp_avg_sqs[i], v, out=max_exp_avg_sqs[i])
            root = math.sqrt(1 - beta2**t)
            np.sqrt(v, out=a)
            a += eps * root
            np.divide(m, a, out=a)
            a *= lr * root / (1 - beta1**t)
            p -= a
            after(i, lr)
    return step


def adagrad_step(params, grads, sums, ema_params, steps, *, lr, lr_decay, eps, **regularization):
    before, after = _regularizers(params, ema_params, **regularization)
    scratch = [(empty_like(p, 8), empty_like(p, 9)) for p in params]

    def step():
        for i, (p, g, s, t) in enumerate(zip(params, grads, sums, steps.tolist())):
            (a, b), step_lr = scratch[i], lr / (1 + t * lr_decay)
            g = before(i, g, step_lr)
            s += np.multiply(g, g, out=a)
            np.sqrt(s, out=a)
            a += eps
            np.multiply(g, step_lr, out=b)
            p -= np.divide(b, a, out=a)
            after(i, step_lr)
        steps[...] += 1
    return step


def max_norm(params, ema_params, *, max_norm, ema_decay):
    scratch = [empty_like(p, 8) for p in params]

    def step():
        for i, (p, a) in enumerate(zip(params, scratch)):
            if p.ndim >= 2:
                np.multiply(p, p, out=a)
                norm = a.sum(axis=tuple(range(1, p.ndim)), keepdims=True)
                np.sqrt(norm, out=norm)
                np.maximum(norm, max_norm, out=norm)
                np.divide(max_norm, norm, out=norm)
                p *= norm
            if ema_params is not None:
                _average(ema_params[i], p, ema_decay, a)
    return step


def _regularizers(params, ema_params, *, weight_decay, decoupled, l1, proximal, max_grad_value, ema_decay, maximize,
                  grad_scale):
    """What is done to gradient i before a step's formula, returning it, and to parameter i after it."""
    changes = grad_scale != 1 or max_grad_value < math.inf or (weight_decay and not decoupled) or (l1 and not proximal)
    buffers = [empty_like(p, 7) for p in params] if changes else []
    scratch = [empty_like(p, 10) for p in params] if weight_decay or l1 or ema_params is not None else []

    def before(i, g, lr):
        p = params[i]
        if changes:
            g = np.multiply(g, grad_scale, out=buffers[i])
            np.clip(g, -max_grad_value, max_grad_value, out=g)
        if weight_decay and not decoupled:
            g += np.multiply(p, weight_decay, out=scratch[i])
        if l1 and not proximal:
            np.sign(p, out=scratch[i])
            scratch[i] *= l1
            g += scratch[i]
        if weight_decay and decoupled:
            p *= 1 - lr * weight_decay
        return g

    def after(i, lr):
        p = params[i]
        if l1 and proximal:
            # What is cut off p at the threshold stays of it no more.
            p -= np.clip(p, -lr * l1, lr * l1, out=scratch[i])
        if ema_params is not None:
            _average(ema_params[i], p, ema_decay, scratch[i])

    return before, after


def _average(e, p, ema_decay, scratch):
    np.subtract(p, e, out=scratch)
    scratch *= 1 - ema_decay
    e += scratch


def grad_norm(grads):
    flat = [g.reshape(-1) for g in grads]
    return lambda: math.sqrt(sum(float(np.dot(g, g)) for g in flat))


def batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out):
    axes, shape, n = *layout(x, axis), x.size / x.shape[axis]
    scratch = empty_like(x, 8)
    if weight is not None:
        weight, bias = weight.reshape(shape), bias.reshape(shape)

    def step():
        mean = x.mean(axis=axes, keepdims=True)
        np.subtract(x, mean, out=out)
        var = np.multiply(out, out, out=scratch).mean(axis=axes, keepdims=True)
        running_mean[...] = (1 - momentum) * running_mean + momentum * mean.ravel()
        running_var[...] = (1 - momentum) * running_var + momentum * var.ravel() * n / (n - 1)
        rstd = 1 / np.sqrt(var + eps)
        np.multiply(out, rstd if weight is None else rstd * weight, out=out)
        return out if bias is None else np.add(out, bias, out=out)
    return step


def batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out):
    _, shape = layout(x, axis)

    def step():
        scale = weight / np.sqrt(running_var + eps)
        np.multiply(x, scale.reshape(shape), out=out)
        return np.add(out, (bias - running_mean * scale).reshape(shape), out=out)
    return step


def batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out):
    axes, shape, n = *layout(x, axis), x.size / x.shape[axis]
    mean, rstd = (a.astype(x.dtype).reshape(shape) for a in (mean, rstd))
    scale = rstd if weight is None else rstd * weight.reshape(shape)
    xhat = empty_like(x, 8)

    def step():
        np.subtract(x, mean, out=xhat)
        np.multiply(xhat, rstd, out=xhat)
        sum_g = grad_y.sum(axis=axes, keepdims=True)
        sum_g_xhat = np.multiply(grad_y, xhat, out=out).sum(axis=axes, keepdims=True)
        if weight is not None:
            grad_weight[...] = sum_g_xhat.ravel()
            grad_bias[...] = sum_g.ravel()
        np.multiply(xhat, sum_g_xhat / n, out=out)
        np.subtract(grad_y, out, out=out)
        np.subtract(out, sum_g / n, out=out)
        return np.multiply(out, scale, out=out)
    return step


def dropout_forward(x, *, p, seed, offset, inverted, out):
    rng = np.random.default_rng(seed)
    random, kept = np.empty(x.shape, dtype=np.float32), np.empty(x.shape, dtype=bool)

    def step():
        rng.random(out=random, dtype=np.float32)
        np.less(random, 1 - p, out=kept)
        np.multiply(x, kept, out=out)
        return np.multiply(out, 1 / (1 - p), out=out) if inverted else out, kept
    return step


def dropout_backward(grad_y, mask, *, p, out):
    return partial(np.multiply, grad_y, mask, out=out)


def channel_dropout_forward(x, *, p, seed, offset, inverted, axis, out):
    rng, shape = np.random.default_rng(seed), channel_shape(x, axis)
    scale = x.dtype.type(1 / (1 - p) if inverted else 1)

    def step():
        mask = (rng.random(shape, dtype=np.float32) < 1 - p) * scale
        return np.multiply(x, mask, out=out), mask
    return step


def channel_dropout_backward(grad_y, mask, *, p, axis, out):
    return partial(np.multiply, grad_y, mask, out=out)


def batch_norm_relu_dropout_forward(x, weight, bias, running_mean, running_var, *,
                                    axis, momentum, eps, relu, p, seed, offset, out):
    normalize = batch_norm_forward(x, weight, bias, running_mean, running_var, axis=axis, momentum=momentum, eps=eps,
                                   out=out)
    drop = dropout_forward(out, p=p, seed=seed, offset=offset, inverted=True, out=out) if p else None
    positive = np.empty(x.shape, dtype=bool)

    def step():
        normalize()
        np.maximum(out, 0, out=out)
        if drop:
            drop()
        return out, np.greater(out, 0, out=positive)
    return step


def batch_norm_relu_dropout_backward(grad_y, x, weight, mean, rstd, mask, grad_weight, grad_bias, *, axis, p, out):
    passed = empty_like(x, 7)
    through = batch_norm_backward(passed, x, weight, mean, rstd, grad_weight, grad_bias, axis=axis, training=True,
                                  out=out)

    def step():
        np.multiply(grad_y, mask, out=passed)
        return through()
    return step


def bias_relu_dropout_forward(x, bias, *, relu, p, seed, offset, out):
    drop = dropout_forward(out, p=p, seed=seed, offset=offset, inverted=True, out=out) if p else None
    positive = np.empty(x.shape, dtype=bool)

    def step():
        np.add(x, bias, out=out)
        np.maximum(out, 0, out=out)
        if drop:
            drop()
        return out, np.greater(out, 0, out=positive)
    return step


def bias_relu_dropout_backward(grad_y, mask, *, p, grad_bias, out):
    def step():
        np.multiply(grad_y, mask, out=out)
        np.sum(out, axis=0, out=grad_bias)
        return out
    return step


def cross_entropy(prediction, target, weight, sample_weight, *, mean, label_smoothing, out):
    n, classes = prediction.shape
    rows, share = np.arange(n), 1 / n if mean and n else 1
    if weight is not None or sample_weight is not None or label_smoothing:
        return _weighted_cross_entropy(prediction, target, weight, sample_weight, mean, label_smoothing, out)

    def step():
        np.subtract(prediction, prediction.max(axis=1, keepdims=True, initial=-np.inf), out=out)
        chosen = out[rows, target].sum()
        np.exp(out, out=out)
        total = out.sum(axis=1, keepdims=True)
        value = np.log(total).sum() - chosen
        np.multiply(out, share / total, out=out)
        out[rows, target] -= share
        return float(value * share), out
    return step


def _weighted_cross_entropy(prediction, target, weight, sample_weight, mean, label_smoothing, out):
    n, classes = prediction.shape
    rows, scratch = np.arange(n), empty_like(prediction, 7)
    v = np.ones(classes, prediction.dtype) if weight is None else weight
    w = np.ones(n, prediction.dtype) if sample_weight is None else sample_weight

    def step():
        weights = w * v[target]
        share = 1 / weights.sum() if mean and n else 1
        target_coef, smoothing_coef = weights * ((1 - label_smoothing) * share), w * (label_smoothing / classes * share)
        np.subtract(prediction, prediction.max(axis=1, keepdims=True, initial=-np.inf), out=out)
        value = -np.vdot(target_coef, out[rows, target]) - (np.vdot(smoothing_coef, out @ v) if label_smoothing else 0)
        np.exp(out, out=out)
        total, coef_sum = out.sum(axis=1), target_coef + smoothing_coef * v.sum()
        value += np.vdot(coef_sum, np.log(total))
        np.multiply(out, (coef_sum / total)[:, None], out=out)
        if label_smoothing:
            np.subtract(out, np.multiply(smoothing_coef[:, None], v, out=scratch), out=out)
        out[rows, target] -= target_coef
        return float(value), out
    return step


def mse(prediction, target, sample_weight, *, mean, out):
    scratch = empty_like(prediction, 8)

    def step():
        share, w = _share_and_weights(prediction, sample_weight, mean)
        np.subtract(prediction, target, out=out)
        slopes = out if w is None else np.multiply(out, w, out=scratch)
        value = float(np.vdot(out, slopes)) * share
        return value, np.multiply(slopes, 2 * share, out=out)
    return step


def huber(prediction, target, sample_weight, *, mean, delta, out):
    scratch, half = empty_like(prediction, 8), empty_like(prediction, 9)

    def step():
        share, w = _share_and_weights(prediction, sample_weight, mean)
        np.subtract(prediction, target, out=scratch)
        np.clip(scratch, -delta, delta, out=out)
        np.subtract(scratch, np.multiply(out, 0.5, out=half), out=scratch)
        if w is not None:
            np.multiply(out, w, out=out)
        return float(np.vdot(out, scratch)) * share, np.multiply(out, share, out=out)
    return step


def bce_with_logits(prediction, target, pos_weight, sample_weight, *, mean, out):
    scratch, linear, mixed = (empty_like(prediction, place) for place in (8, 9, 7))

    def step():
        share, w = _share_and_weights(prediction, sample_weight, mean)
        np.abs(prediction, out=scratch)
        np.negative(scratch, out=scratch)
        np.exp(scratch, out=scratch)
        np.log1p(scratch, out=scratch)
        positive = target
        if pos_weight is None:
            np.multiply(prediction, target, out=linear)
            np.maximum(prediction, 0, out=out)
            np.subtract(out, linear, out=out)
        else:
            np.maximum(np.negative(prediction, out=linear), 0, out=linear)
            np.add(scratch, linear, out=scratch)
            np.multiply(target, pos_weight - 1, out=mixed)
            np.add(mixed, 1, out=mixed)
            np.multiply(scratch, mixed, out=scratch)
            np.multiply(prediction, np.subtract(1, target, out=linear), out=out)
            positive = np.multiply(target, pos_weight, out=linear)
        np.add(out, scratch, out=out)
        value = float((out if w is None else np.multiply(out, w, out=out)).sum()) * share
        sigmoid(prediction, out)
        if pos_weight is not None:
            np.multiply(out, mixed, out=out)
        np.subtract(out, positive, out=out)
        if w is not None:
            np.multiply(out, w, out=out)
        return value, np.multiply(out, share, out=out)
    return step


def _share_and_weights(prediction, sample_weight, mean):
    """What an element of weight 1 counts in a mean or sum, and the weights in a shape that broadcasts."""
    if sample_weight is None:
        return 1 / prediction.size if mean and prediction.size else 1, None
    w = sample_weight.reshape(-1, *[1] * (prediction.ndim - 1))
    total = float(w.sum()) * (prediction.size // max(w.size, 1))
    return 1 / total if mean and total else 1, w
