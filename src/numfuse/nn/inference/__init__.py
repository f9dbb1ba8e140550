"""Nets made of others for inference: folding, Monte-Carlo dropout, re-estimation of running statistics."""

from .fold_batch_norm import fold_batch_norm
from .fold_dropout import fold_dropout, scale_weights
from .mc_predict import mc_predict
from .reestimate_batch_norm import reestimate_batch_norm

__all__ = ["fold_batch_norm", "fold_dropout", "mc_predict", "reestimate_batch_norm", "scale_weights"]
