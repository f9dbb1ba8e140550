"""Optimizers that update NumPy arrays in place; names, defaults and meanings are PyTorch's."""

from . import schedules
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .groups import decay_groups, groups_by_name
from .lion import Lion
from .optimizer import Optimizer
from .rmsprop import RMSProp
from .scheduler import Scheduler
from .sgd import SGD

__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "Lion", "Optimizer", "RMSProp", "Scheduler", "decay_groups", "groups_by_name",
    "schedules",
]
