"""PyTorch, eager: its optimizers in all their forms, and its layers.

Tensors share the memory of the NumPy arrays. On a CPU an optimizer's default is a loop over the tensors.
"""

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..rivals import Rival

FORMS = {"torch": {}, "torch foreach": {"foreach": True}}
FORMS_WITH_FUSED = FORMS | {"torch fused": {"fused": True}}


def configure(threads):
    torch.set_num_threads(threads)


def versions():
    return {"torch": str(torch.__version__)}


def block(x, grad_y, weight, bias, p):
    norm = (nn.BatchNorm1d if x.ndim == 2 else nn.BatchNorm2d)(x.shape[1])
    net, last = nn.Sequential(norm, nn.ReLU(), nn.Dropout(p)), [None]
    x, grad_y, weight, bias = shared(x, grad_y, weight, bias)
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
    x, y = shared(x, y)
    return {label: _training(work, params, x, y, form) for label, form in FORMS_WITH_FUSED.items()}


def learner(task, seed):
    torch.manual_seed(seed)
    sizes = [task.x_train.shape[1], *task.hidden]
    layers = [layer for pair in zip(sizes, sizes[1:]) for layer in (nn.Linear(*pair), nn.ReLU())]
    net = nn.Sequential(*layers, nn.Linear(sizes[-1], task.classes))
    optimizer = torch.optim.Adam(net.parameters(), lr=task.lr, eps=task.eps, fused=True)
    x, y = shared(task.x_train, task.y_train)

    def epoch():
        for rows in torch.randperm(len(x)).split(task.batch):
            optimizer.zero_grad()
            functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()

    @torch.no_grad()
    def predict(x):
        return net(torch.from_numpy(x)).argmax(dim=1).numpy()

    return epoch, predict


def steps(make, forms, grad_scale, steps, params, grads, **state):
    """The rivals of an optimizer, `make(params, **form)`, that begin with these counts of steps and lists of state."""
    lists = {"params": params, "grads": grads} | {name: arrays for name, arrays in state.items() if arrays is not None}
    rivals = {}
    for label, form in forms.items():
        state = {name: shared(*arrays) for name, arrays in lists.items()}
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


def shared(*arrays):
    """Tensors in the memory of NumPy arrays; None for None."""
    return [None if array is None else torch.from_numpy(array) for array in arrays]


def channels_second(array, axis):
    """The tensor as PyTorch wants it: a channels-last array becomes its tensor in channels_last format."""
    return torch.from_numpy(array).movedim(axis, 1)


def rival(run, results):
    """The one rival whose runs write into arrays by these names."""
    return {"torch": Rival(run, lambda: results)}
