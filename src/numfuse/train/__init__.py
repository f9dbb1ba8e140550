"""Training: the loop, with validation, early stopping, schedules and checkpoints."""

from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .epoch import Epoch, train_batch
from .fit import SCHEDULES, History, fit
from .model import Model, evaluate, mlp, predict

__all__ = ["SCHEDULES", "CheckpointError", "Epoch", "History", "Model", "evaluate", "fit", "load_checkpoint", "mlp",
           "predict", "save_checkpoint", "train_batch"]
