"""Every kernel of `numfuse.native` in plain NumPy: same names, same arguments, same results.

These functions are the definition of the kernels, the oracle of the tests and the baseline of the
benchmarks. Made of + - * / sqrt, comparisons and integers, they fix the order of every operation,
so that the C kernels give the same bits. There are two exceptions: the order of long sums, in batch
normalisation, softmax and the losses, and exp, log, tanh and their kind, which are NumPy's here and the kernels'
own there.
"""

from .activation import activation_backward, activation_forward
from .adagrad import adagrad_step
from .adam import adam_step
from .batch_norm import batch_norm_backward, batch_norm_forward, batch_norm_inference
from .batch_norm_relu_dropout import batch_norm_relu_dropout_backward, batch_norm_relu_dropout_forward
from .bce_with_logits import bce_with_logits
from .bias import bias_backward, bias_forward
from .bias_relu_dropout import bias_relu_dropout_backward, bias_relu_dropout_forward
from .channel_dropout import channel_dropout_backward, channel_dropout_forward
from .cross_entropy import cross_entropy
from .dropout import dropout_backward, dropout_forward
from .grad_norm import grad_norm
from .huber import huber
from .lion import lion_step
from .max_norm import max_norm
from .mse import mse
from .rmsprop import rmsprop_step
from .sgd import sgd_step
from .softmax import softmax_backward, softmax_forward

__all__ = [
    "activation_backward",
    "activation_forward",
    "adagrad_step",
    "adam_step",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "batch_norm_relu_dropout_backward",
    "batch_norm_relu_dropout_forward",
    "bias_backward",
    "bias_forward",
    "bias_relu_dropout_backward",
    "bias_relu_dropout_forward",
    "bce_with_logits",
    "channel_dropout_backward",
    "channel_dropout_forward",
    "cross_entropy",
    "dropout_backward",
    "dropout_forward",
    "grad_norm",
    "huber",
    "lion_step",
    "max_norm",
    "mse",
    "rmsprop_step",
    "sgd_step",
    "softmax_backward",
    "softmax_forward",
]
