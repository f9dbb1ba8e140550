"""The C kernels. What each one computes is documented at its twin in `numfuse.reference`.

Arrays must be aligned, in native byte order, and those written to must be writable and must not
overlap any other argument. Lists of arrays are lists or tuples. Anything else raises TypeError or
ValueError before an array is touched. The gradients of optimizer steps may be of any layout, and
NumPy scalars, and must have no mask; masks of all other arrays are not looked at.

Results of 16 KiB and more lie in recycled memory, see `empty`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]

class Tensors:
    """The arrays of one optimizer step, checked: the sequence of its parameters."""

    @property
    def grads(self) -> tuple[Array | None, ...]: ...
    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Array]: ...
    def __getitem__(self, i: int) -> Array: ...
    def call(self, step: Callable[..., None], options: dict[str, Any]) -> None: ...

def check_steps(calls: list[tuple[Any, ...]], grads: list[Array | None]) -> list[Tensors]: ...
def is_unchanged(options: object, values: list[Any]) -> bool: ...
def sgd_step(
    params: Sequence[Array] | Tensors,
    grads: Sequence[Array | None],
    momentum_buffers: Sequence[Array] | None,
    ema_params: Sequence[Array] | None,
    steps: NDArray[np.int64],
    *,
    lr: float,
    momentum: float,
    dampening: float,
    running_average: bool,
    nesterov: bool,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    l1: float = 0.0,
    proximal: bool = False,
    max_grad_value: float = ...,
    ema_decay: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
) -> None: ...
def rmsprop_step(
    params: Sequence[Array] | Tensors,
    grads: Sequence[Array | None],
    square_avgs: Sequence[Array],
    grad_avgs: Sequence[Array] | None,
    momentum_buffers: Sequence[Array] | None,
    ema_params: Sequence[Array] | None,
    steps: NDArray[np.int64],
    *,
    lr: float,
    alpha: float,
    eps: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    l1: float = 0.0,
    proximal: bool = False,
    max_grad_value: float = ...,
    ema_decay: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
) -> None: ...
def adam_step(
    params: Sequence[Array] | Tensors,
    grads: Sequence[Array | None],
    exp_avgs: Sequence[Array],
    exp_avg_sqs: Sequence[Array],
    max_exp_avg_sqs: Sequence[Array] | None,
    ema_params: Sequence[Array] | None,
    steps: NDArray[np.int64],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    l1: float = 0.0,
    proximal: bool = False,
    max_grad_value: float = ...,
    ema_decay: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
) -> None: ...
def adagrad_step(
    params: Sequence[Array] | Tensors,
    grads: Sequence[Array | None],
    sums: Sequence[Array],
    ema_params: Sequence[Array] | None,
    steps: NDArray[np.int64],
    *,
    lr: float,
    lr_decay: float,
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    l1: float = 0.0,
    proximal: bool = False,
    max_grad_value: float = ...,
    ema_decay: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
) -> None: ...
def lion_step(
    params: Sequence[Array] | Tensors,
    grads: Sequence[Array | None],
    exp_avgs: Sequence[Array],
    ema_params: Sequence[Array] | None,
    steps: NDArray[np.int64],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    l1: float = 0.0,
    proximal: bool = False,
    max_grad_value: float = ...,
    ema_decay: float = 0.0,
    maximize: bool = False,
    grad_scale: float = 1.0,
) -> None: ...
def max_norm(
    params: Sequence[Array], ema_params: Sequence[Array] | None, *, max_norm: float, ema_decay: float
) -> None: ...
def grad_norm(grads: Sequence[Array | None]) -> float: ...
def batch_norm_forward(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    axis: int,
    momentum: float,
    eps: float,
    out: Array | None = None,
) -> tuple[Array, NDArray[np.float64], NDArray[np.float64]]: ...
def batch_norm_inference(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    *,
    axis: int,
    eps: float,
    out: Array | None = None,
) -> Array: ...
def batch_norm_backward(
    grad_y: Array,
    x: Array,
    weight: Array | None,
    mean: NDArray[np.float64],
    rstd: NDArray[np.float64],
    grad_weight: Array | None,
    grad_bias: Array | None,
    *,
    axis: int,
    training: bool,
    out: Array | None = None,
) -> Array: ...
def dropout_forward(
    x: Array, *, p: float, seed: int, offset: int, inverted: bool, out: Array | None = None
) -> tuple[Array, NDArray[np.uint32]]: ...
def dropout_backward(
    grad_y: Array, mask: NDArray[np.uint32], *, p: float, out: Array | None = None
) -> Array: ...
def channel_dropout_forward(
    x: Array, *, p: float, seed: int, offset: int, inverted: bool, axis: int, out: Array | None = None
) -> tuple[Array, NDArray[np.uint32]]: ...
def channel_dropout_backward(
    grad_y: Array, mask: NDArray[np.uint32], *, p: float, axis: int, out: Array | None = None
) -> Array: ...
def bias_forward(x: Array, bias: Array, *, out: Array | None = None) -> Array: ...
def bias_backward(grad_y: Array, grad_bias: Array) -> None: ...
def bias_relu_dropout_forward(
    x: Array,
    bias: Array | None,
    *,
    relu: bool,
    p: float,
    seed: int,
    offset: int,
    out: Array | None = None,
) -> tuple[Array, NDArray[np.uint32] | None]: ...
def bias_relu_dropout_backward(
    grad_y: Array,
    mask: NDArray[np.uint32] | None,
    *,
    p: float,
    grad_bias: Array | None,
    out: Array | None = None,
) -> Array: ...
def batch_norm_relu_dropout_forward(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    running_mean: Array | None,
    running_var: Array | None,
    *,
    axis: int,
    momentum: float,
    eps: float,
    relu: bool,
    p: float,
    seed: int,
    offset: int,
    out: Array | None = None,
) -> tuple[Array, NDArray[np.float64], NDArray[np.float64], NDArray[np.uint32] | None]: ...
def batch_norm_relu_dropout_backward(
    grad_y: Array,
    x: Array,
    weight: Array | None,
    mean: NDArray[np.float64],
    rstd: NDArray[np.float64],
    mask: NDArray[np.uint32] | None,
    grad_weight: Array | None,
    grad_bias: Array | None,
    *,
    axis: int,
    p: float,
    out: Array | None = None,
) -> Array: ...
def cross_entropy(
    prediction: Array,
    target: NDArray[np.integer[Any]],
    weight: Array | None,
    sample_weight: Array | None,
    *,
    mean: bool,
    label_smoothing: float,
    gradient: bool = True,
    out: Array | None = None,
) -> tuple[float, Array]: ...
def mse(
    prediction: Array,
    target: Array,
    sample_weight: Array | None,
    *,
    mean: bool,
    gradient: bool = True,
    out: Array | None = None,
) -> tuple[float, Array]: ...
def huber(
    prediction: Array,
    target: Array,
    sample_weight: Array | None,
    *,
    mean: bool,
    delta: float,
    gradient: bool = True,
    out: Array | None = None,
) -> tuple[float, Array]: ...
def bce_with_logits(
    prediction: Array,
    target: Array,
    pos_weight: Array | None,
    sample_weight: Array | None,
    *,
    mean: bool,
    gradient: bool = True,
    out: Array | None = None,
) -> tuple[float, Array]: ...
def activation_forward(
    x: Array, bias: Array | None, *, function: str, alpha: float, out: Array | None = None
) -> Array: ...
def activation_backward(
    grad_y: Array,
    saved: Array,
    bias: Array | None,
    *,
    function: str,
    alpha: float,
    grad_bias: Array | None,
    out: Array | None = None,
) -> Array: ...
def softmax_forward(x: Array, *, out: Array | None = None) -> Array: ...
def softmax_backward(grad_y: Array, y: Array, *, out: Array | None = None) -> Array: ...
def stream(
    reads: Sequence[Array], updates: Sequence[Array], writes: Sequence[Array], *, nontemporal: bool = False
) -> None:
    """Touch memory as a kernel with these arrays would, doing next to no arithmetic.

    Every array of `reads` is read once, of `updates` read and written back as it was, of `writes`
    filled with anything. All are contiguous and of the same number of bytes. `nontemporal` writes
    around the cache, for 1 or 2 arrays to read and 1 to write. It measures the machine's streaming
    speed for the numbers of arrays that kernels have (csrc/kernels/stream.h lists them; others are
    slower), on as many threads as a kernel would use.
    """

def empty(shape: int | Sequence[int], dtype: DTypeLike) -> Array:
    """A C-contiguous array of anything, in recycled memory unless it is small: what kernels return their results in.

    >>> from numfuse import native
    >>> native.empty((2, 3), "float32").shape
    (2, 3)

    It is as any other array, but for `resize` in place, which NumPy refuses to arrays that do not own
    their memory. `dtype` is a native number type. Once the array and its views are gone, the memory is
    kept for the next one.
    """

def empty_cache() -> None:
    """Free the memory that is kept for further results. Arrays in use are not touched."""

def cached_bytes() -> int:
    """Bytes of memory that are kept for further results."""

def set_cache_limit(nbytes: int) -> None:
    """Keep at most so many bytes for further results; 0 turns recycling off."""

def get_cache_limit() -> int:
    """The most bytes that are kept for further results: at first 1 GiB, or a quarter of the memory if that is less."""

def isas() -> list[str]:
    """The instruction sets this CPU can run, best first."""

def isa() -> str:
    """The instruction set in use."""

def use_isa(name: str) -> None:
    """Use the kernels of one instruction set, for tests and benchmarks.

    ValueError if `name` is unknown or this CPU cannot run it.
    """

def set_num_threads(n: int) -> None:
    """Let kernels use n threads, the caller included. Results do not depend on it."""

def get_num_threads() -> int:
    """The number of threads that kernels may use, the caller included."""

def thread_threshold(kernel: str) -> int:
    """The number of float32 elements, over all tensors of a call, from which on a kernel uses threads all through."""

def operations() -> tuple[str, ...]:
    """The names of all operations, in the order of csrc/kernel_list.h; each is the name of its files."""
