"""Layers and losses on NumPy arrays: arrays in, arrays out, with PyTorch's names and meanings.

>>> import numpy as np
>>> from numfuse import nn
>>> net = nn.Sequential(nn.Linear(4, 8, rng=0), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3, rng=1))
>>> loss = nn.CrossEntropyLoss()
>>> x, labels = np.ones((6, 4), np.float32), np.array([0, 1, 2, 0, 1, 2])
>>> value = loss.forward(net.forward(x), labels)
>>> grad_x = net.backward(loss.backward())
>>> [gradient.shape for gradient in net.gradients()]
[(8, 4), (8,), (8,), (8,), (3, 8), (3,)]
"""

from . import init
from .activation import ELU, GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from .batch_norm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .bce_with_logits import BCEWithLogitsLoss
from .containers import ModuleDict, ModuleList
from .cross_entropy import CrossEntropyLoss
from .dropout import Dropout, Dropout1d, Dropout2d, Dropout3d
from .flatten import Flatten
from .huber import HuberLoss
from .inference import fold_batch_norm, fold_dropout, mc_predict, reestimate_batch_norm, scale_weights
from .linear import Linear
from .module import Module
from .mse import MSELoss
from .sequential import Sequential
from .softmax import Softmax

__all__ = [
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "CrossEntropyLoss",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "ELU",
    "Flatten",
    "GELU",
    "HuberLoss",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "Module",
    "ModuleDict",
    "ModuleList",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "fold_batch_norm",
    "fold_dropout",
    "init",
    "mc_predict",
    "reestimate_batch_norm",
    "scale_weights",
]
