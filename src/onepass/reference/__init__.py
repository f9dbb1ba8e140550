"""Every kernel of `onepass.native` in plain NumPy: same names, same arguments, same results.

These functions are the definition of the kernels, the oracle of the tests and the baseline of the
benchmarks. Made of + - * / sqrt, comparisons and integers, they fix the order of every operation,
so that the C kernels give the same bits; batch normalisation's sums are the one exception.
"""

from .adam import adam_step
from .batch_norm import batch_norm_backward, batch_norm_forward, batch_norm_inference
from .bias_relu_dropout import bias_relu_dropout_backward, bias_relu_dropout_forward
from .dropout import dropout_backward, dropout_forward
from .rmsprop import rmsprop_step
from .sgd import sgd_step

__all__ = [
    "adam_step",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "bias_relu_dropout_backward",
    "bias_relu_dropout_forward",
    "dropout_backward",
    "dropout_forward",
    "rmsprop_step",
    "sgd_step",
]
