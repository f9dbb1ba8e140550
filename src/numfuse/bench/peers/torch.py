"""PyTorch, eager: its optimizers in all their forms, its operators and its layers.

Tensors share the memory of the NumPy arrays. On a CPU an optimizer's default is a loop over the tensors.
"""

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..rivals import Rival, Unsupported, plain

FORMS = {"torch": {}, "torch foreach": {"foreach": True}}
FORMS_WITH_FUSED = FORMS | {"torch fused": {"fused": True}}


def configure(threads):
    torch.set_num_threads(threads)


def versions():
    return {"torch": str(torch.__version__)}


def sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
             lr, momentum, dampening, running_average, nesterov, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    if running_average:
        raise Unsupported("momentum is the heavy ball")
    make = partial(torch.optim.SGD, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                   nesterov=nesterov)
    return _steps(make, FORMS_WITH_FUSED, grad_scale, steps, params, grads, momentum_buffers=momentum_buffers)


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                 lr, alpha, eps, momentum, nesterov, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    if nesterov:
        raise Unsupported("RMSProp has no Nesterov momentum")
    make = partial(torch.optim.RMSprop, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay,
                   momentum=momentum, centered=grad_avgs is not None)
    return _steps(make, FORMS, grad_scale, steps, params, grads, square_avgs=square_avgs, grad_avgs=grad_avgs,
                  momentum_buffers=momentum_buffers)


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
              lr, beta1, beta2, eps, decoupled, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    optimizer = torch.optim.AdamW if decoupled else torch.optim.Adam
    make = partial(optimizer, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay,
                   amsgrad=max_exp_avg_sqs is not None)
    return _steps(make, FORMS_WITH_FUSED, grad_scale, steps, params, grads, exp_avgs=exp_avgs,
                  exp_avg_sqs=exp_avg_sqs, max_exp_avg_sqs=max_exp_avg_sqs)


def adagrad_step(params, grads, sums, ema_params, steps, *, lr, lr_decay, eps, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    make = partial(torch.optim.Adagrad, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, eps=eps)
    return _steps(make, FORMS_WITH_FUSED, grad_scale, steps, params, grads, sums=sums)


def grad_norm(*, grads):
    grads, norm = _shared(*grads), [None]

    def run():
        norm[0] = torch.nn.utils.get_total_norm(grads)

    return {"torch": Rival(run, lambda: {"norm": float(norm[0])})}


def batch_norm_forward(*, x, weight, bias, running_mean, running_var, axis, momentum, eps, out):
    y = _channels_second(out, axis)
    # The operator beneath functional.batch_norm; of the two, only this one writes into given memory.
    run = partial(
        torch.native_batch_norm, _channels_second(x, axis), *_shared(weight, bias, running_mean, running_var),
        True, momentum, eps, out=(y, *torch.empty((2, x.shape[axis]), dtype=y.dtype)))
    return _rival(run, {"y": out, "running_mean": running_mean, "running_var": running_var})


def batch_norm_inference(*, x, weight, bias, running_mean, running_var, axis, eps, out):
    y = _channels_second(out, axis)
    run = partial(
        torch.native_batch_norm, _channels_second(x, axis), *_shared(weight, bias, running_mean, running_var),
        False, 0.0, eps, out=(y, *torch.empty((2, 0), dtype=y.dtype)))
    return _rival(run, {"y": out})


def batch_norm_backward(*, grad_y, x, weight, mean, rstd, grad_weight, grad_bias, axis, training, out):
    # Its form with `out` only copies into it what this one returns.
    backward = partial(
        torch.ops.aten.native_batch_norm_backward.default,
        _channels_second(grad_y, axis), _channels_second(x, axis), *_shared(weight), None, None,
        *_shared(mean.astype(x.dtype), rstd.astype(x.dtype)), training, 0.0,
        [True, weight is not None, weight is not None])
    grads = [None] * 3

    def run():
        grads[:] = backward()

    def results():
        found = {"grad_x": grads[0].movedim(1, axis), "grad_weight": grads[1], "grad_bias": grads[2]}
        return {name: grad.numpy() for name, grad in found.items() if grad is not None}

    return {"torch": Rival(run, results)}


def dropout_forward(*, x, p, seed, offset, inverted, out):
    return _dropout(functional.dropout, torch.from_numpy(x), p, lambda y: y)


def dropout_backward(*, grad_y, mask, p, out):
    # functional.dropout keeps its mask on a CPU as an array of 0 and 1 / (1 - p), and multiplies by it. There
    # is a native_dropout_backward with a mask of bool, several times slower.
    kept = np.unpackbits(mask.astype("<u4").view(np.uint8), count=grad_y.size, bitorder="little")
    noise = kept.reshape(grad_y.shape).astype(grad_y.dtype) / (1 - p)
    run = partial(torch.mul, *_shared(grad_y, noise), out=torch.from_numpy(out))
    return _rival(run, {"grad_x": out})


def channel_dropout_forward(*, x, p, seed, offset, inverted, axis, out):
    return _dropout(functional.dropout2d, _channels_second(x, axis), p, lambda y: y.movedim(1, axis))


def _dropout(function, x, p, as_given):
    x = x.requires_grad_()  # so that y's graph keeps the mask for backward
    y = [None]

    def run():
        y[0] = function(x, p)

    return {"torch": Rival(run, lambda: {"y": as_given(y[0].detach()).numpy()})}


def batch_norm_relu_dropout_forward(*, x, weight, bias, running_mean, running_var, axis, momentum, eps,
                                    relu, p, seed, offset, out):
    x = _channels_second(x, axis).requires_grad_()
    weight, bias, *running = _shared(weight, bias, running_mean, running_var)
    weight, bias, y = weight.requires_grad_(), bias.requires_grad_(), [None]

    def run():
        positive = functional.relu(functional.batch_norm(x, *running, weight, bias, True, momentum, eps))
        y[0] = functional.dropout(positive, p) if p else positive

    updated = {"running_mean": running_mean, "running_var": running_var}
    return {"torch": Rival(run, lambda: {"y": y[0].detach().movedim(1, axis).numpy()} | updated)}


def batch_norm_relu_dropout_backward(*, grad_y, x, weight, mean, rstd, mask, grad_weight, grad_bias, axis, p, out):
    kept = np.unpackbits(mask.astype("<u4").view(np.uint8), count=grad_y.size, bitorder="little")
    positive = kept.reshape(grad_y.shape).astype(grad_y.dtype)
    noise = positive / (1 - p)
    grad_y, x, positive, noise = (_channels_second(array, axis) for array in (grad_y, x, positive, noise))
    weight, mean, rstd = _shared(weight, mean.astype(out.dtype), rstd.astype(out.dtype))
    grads = [None] * 3

    def run():
        grad = grad_y * noise if p else grad_y
        grad = torch.ops.aten.threshold_backward.default(grad, positive, 0)
        grads[:] = torch.ops.aten.native_batch_norm_backward.default(
            grad, x, weight, None, None, mean, rstd, True, 0.0, [True, True, True])

    def results():
        return {"grad_x": grads[0].movedim(1, axis).numpy(), "grad_weight": grads[1].numpy(),
                "grad_bias": grads[2].numpy()}

    return {"torch": Rival(run, results)}


def bias_relu_dropout_forward(*, x, bias, relu, p, seed, offset, out):
    x, bias = (tensor.requires_grad_() for tensor in _shared(x, bias))
    y = [None]

    def run():
        positive = functional.relu(x + bias)
        y[0] = functional.dropout(positive, p) if p else positive

    return {"torch": Rival(run, lambda: {"y": y[0].detach().numpy()})}


def bias_relu_dropout_backward(*, grad_y, mask, p, grad_bias, out):
    # The operators that autograd calls; the mask says both what dropout kept and where ReLU's result was positive.
    kept = np.unpackbits(mask.astype("<u4").view(np.uint8), count=grad_y.size, bitorder="little")
    positive = kept.reshape(grad_y.shape).astype(grad_y.dtype)
    grad_y, positive, noise = _shared(grad_y, positive, positive / (1 - p))
    grads = [None, None]

    def run():
        grad = grad_y * noise if p else grad_y
        grads[0] = torch.ops.aten.threshold_backward.default(grad, positive, 0)
        grads[1] = grads[0].sum(0)

    return {"torch": Rival(run, lambda: {"grad_x": grads[0].numpy(), "grad_bias": grads[1].numpy()})}


def cross_entropy(*, prediction, target, weight, sample_weight, mean, label_smoothing, out):
    target, weight, sample_weight = _shared(target, weight, sample_weight)

    def total():
        return (sample_weight if weight is None else sample_weight * weight[target]).sum()

    function = partial(functional.cross_entropy, weight=weight, label_smoothing=label_smoothing)
    return _loss(function, prediction, target, sample_weight, mean, total)


def mse(*, prediction, target, sample_weight, mean, out):
    return _element_loss(functional.mse_loss, prediction, target, sample_weight, mean)


def huber(*, prediction, target, sample_weight, mean, delta, out):
    function = partial(functional.huber_loss, delta=delta)
    return _element_loss(function, prediction, target, sample_weight, mean)


def bce_with_logits(*, prediction, target, pos_weight, sample_weight, mean, out):
    (pos_weight,) = _shared(pos_weight)
    function = partial(functional.binary_cross_entropy_with_logits, pos_weight=pos_weight)
    return _element_loss(function, prediction, target, sample_weight, mean)


def _operator(function):
    return ("gelu", {"approximate": "tanh"}) if function == "gelu_tanh" else (function, {})


def activation_forward(*, x, bias, function, alpha, out):
    x, bias, y = _shared(x, bias, out)
    name, approximate = _operator(function)
    options = [alpha] if function in ("leaky_relu", "elu") else []
    compute = getattr(torch.ops.aten, name).out

    def run():
        compute(x if bias is None else torch.add(x, bias, out=y), *options, **approximate, out=y)

    return _rival(run, {"y": out})


def activation_backward(*, grad_y, saved, bias, function, alpha, grad_bias, out):
    grad_y, saved, bias, sums, grad_x = _shared(grad_y, saved, bias, grad_bias, out)
    if bias is not None and function not in ("sigmoid", "tanh"):
        saved = saved + bias
    name, approximate = _operator(function)
    options = {"leaky_relu": [saved, alpha, False], "elu": [alpha, 1, 1, False, saved]}.get(function, [saved])
    backward = getattr(torch.ops.aten, f"{name}_backward").grad_input

    def run():
        backward(grad_y, *options, **approximate, grad_input=grad_x)
        if sums is not None:
            torch.sum(grad_x, dim=0, out=sums)

    named = {"grad_x": out, "grad_bias": grad_bias}
    return _rival(run, {name: array for name, array in named.items() if array is not None})


def softmax_forward(*, x, out):
    x, y = _shared(x, out)
    return _rival(lambda: torch.softmax(x, -1, out=y), {"y": out})


def softmax_backward(*, grad_y, y, out):
    grad_y, y, grad_x = _shared(grad_y, y, out)
    backward = torch.ops.aten._softmax_backward_data.out
    return _rival(lambda: backward(grad_y, y, -1, y.dtype, grad_input=grad_x), {"grad_x": out})


def block(x, grad_y, weight, bias, p):
    norm = (nn.BatchNorm1d if x.ndim == 2 else nn.BatchNorm2d)(x.shape[1])
    net, last = nn.Sequential(norm, nn.ReLU(), nn.Dropout(p)), [None]
    x, grad_y, weight, bias = _shared(x, grad_y, weight, bias)
    x.requires_grad_()
    with torch.no_grad():
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)

    def run():
        x.grad = None
        net.zero_grad()
        last[0] = net(x)
        last[0].backward(grad_y)

    def results():
        found = {"y": last[0].detach(), "grad_x": x.grad, "grad_weight": norm.weight.grad, "grad_bias": norm.bias.grad,
                 "running_mean": norm.running_mean, "running_var": norm.running_var}
        return {name: tensor.numpy() for name, tensor in found.items()}

    return {"torch": Rival(run, results)}


def training_step(work, params, x, y):
    x, y = _shared(x, y)
    return {label: _training(work, params, x, y, form) for label, form in FORMS_WITH_FUSED.items()}


def _element_loss(function, prediction, target, sample_weight, mean):
    target, weight = _shared(target, sample_weight)
    if weight is not None:
        weight = weight.reshape(-1, *[1] * (target.ndim - 1)).expand(target.shape)
    return _loss(function, prediction, target, weight, mean, lambda: weight.sum())


def _loss(function, prediction, target, weight, mean, total):
    """`weight`, of the terms, may be None; else a mean divides by `total()`."""
    (x,) = _shared(prediction)
    x.requires_grad_()
    value = [None]

    def run():
        x.grad = None
        if weight is None:
            value[0] = function(x, target, reduction="mean" if mean else "sum")
        else:
            value[0] = (weight * function(x, target, reduction="none")).sum()
            if mean:
                value[0] = value[0] / total()
        value[0].backward()

    return {"torch": Rival(run, lambda: {"loss": value[0].item(), "grad": x.grad.numpy()})}


def _steps(make, forms, grad_scale, steps, params, grads, **state):
    lists = {"params": params, "grads": grads} | {name: arrays for name, arrays in state.items() if arrays is not None}
    rivals = {}
    for label, form in forms.items():
        state = {name: _shared(*arrays) for name, arrays in lists.items()}
        params, grads = state.pop("params"), state.pop("grads")
        optimizer = make(params, **form)
        for i, param in enumerate(params):
            param.grad = grads[i]
            # PyTorch's names are those of the lists in the singular.
            optimizer.state[param] = {name.removesuffix("s"): tensors[i] for name, tensors in state.items()}
            optimizer.state[param]["step"] = torch.tensor(float(steps[i]))
        run = optimizer.step if grad_scale == 1 else partial(_scaled_step, optimizer, params, grads, grad_scale)
        rivals[label] = Rival(run, lambda: lists)
    return rivals


def _scaled_step(optimizer, params, grads, grad_scale):
    for param, grad in zip(params, grads):
        param.grad = grad * grad_scale
    optimizer.step()


def _training(work, params, x, y, form):
    layers, inputs = [], work.inputs
    for width in work.hidden:
        layers.append(nn.Linear(inputs, width, bias=not work.batch_norm))
        if work.batch_norm:
            layers.append(nn.BatchNorm1d(width))
        layers.append(nn.ReLU())
        if work.dropout:
            layers.append(nn.Dropout(work.dropout))
        inputs = width
    net = nn.Sequential(*layers, nn.Linear(inputs, work.outputs))
    with torch.no_grad():
        for own, param in zip(net.parameters(), params):
            own.copy_(torch.from_numpy(param))
    optimizer = torch.optim.Adam(net.parameters(), lr=work.lr, betas=work.betas, eps=work.eps, **form)
    value = [np.nan]

    def run():
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        value[0] = loss.item()

    def results():
        return {"loss": value[0], "params": [param.detach().numpy() for param in net.parameters()]}

    return Rival(run, results)


def _shared(*arrays):
    return [None if array is None else torch.from_numpy(array) for array in arrays]


def _channels_second(array, axis):
    """The tensor as PyTorch wants it: a channels-last array becomes its tensor in channels_last format."""
    return torch.from_numpy(array).movedim(axis, 1)


def _rival(run, results):
    return {"torch": Rival(run, lambda: results)}
