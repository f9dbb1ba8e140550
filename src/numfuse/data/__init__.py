"""Data sets for training: loading, batches, splitting and scaling."""

from .batches import batch_rows, batches, split_rows
from .datasets import Dataset, load
from .readers import DataError
from .scaling import SCALERS, MinMax, Scaler, Standardize

__all__ = ["SCALERS", "DataError", "Dataset", "MinMax", "Scaler", "Standardize", "batch_rows", "batches", "load",
           "split_rows"]
