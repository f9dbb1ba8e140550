# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""The C kernels. What each one computes is documented at its twin in `numfuse.reference`.

These doors check, release the GIL and call; there is no arithmetic here.
"""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBuffer_FillInfo
from libc.math cimport INFINITY, isfinite
from libc.stdint cimport INT64_MAX, INTPTR_MAX, int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

from .kernels cimport *

import operator
import os
import sys

cnp.import_array()


# Below this many elements a kernel takes less time than giving the GIL away and getting it back.
cdef ptrdiff_t GIL_THRESHOLD = 8192
# Elements that a thread takes at a time; a multiple of what dropout draws together.
cdef ptrdiff_t GRAIN = 16384

# Every active_kernels that was compiled, best first, and the one in use.
cdef const kernels *kernel_tables[MAX_ISAS]
cdef c_bool runs[MAX_ISAS]
cdef int kernel_table_count = list_kernels(kernel_tables, runs)
cdef const kernels *active_kernels


# Picoseconds that kernels take an element of float32 on one thread, in cache: what says whether threads are worth
# waking. Measured with AVX2, and rounded: a factor of 1.5 matters little.
cdef enum:
    SGD_COST = 300
    RMSPROP_COST = 550
    ADAM_COST = 600
    ADAGRAD_COST = 550
    MAX_NORM_COST = 250
    GRAD_NORM_COST = 100
    DRAW_COST = 250  # a mask; of one random bit an element, for p = 0.5:
    HALF_DRAW_COST = 50
    MASK_COST = 130
    CHANNEL_MASK_COST = 250
    BIAS_RELU_COST = 180
    MOMENTS_COST = 180  # and normalising as much
    SIGMOID_COST = 900
    LEAKY_RELU_COST = 180
    ELU_COST = 700
    GELU_COST = 1500
    SILU_GRADIENT_COST = 1100
    GRADIENT_COST = 240
    SOFTMAX_COST = 1000
    CROSS_ENTROPY_COST = 1200
    MSE_COST = 230
    HUBER_COST = 300
    BCE_COST = 1800
    STREAM_COST = 100

_COSTS = {
    "sgd_step": SGD_COST, "rmsprop_step": RMSPROP_COST, "adam_step": ADAM_COST,
    "adagrad_step": ADAGRAD_COST, "max_norm": MAX_NORM_COST, "grad_norm": GRAD_NORM_COST,
    "dropout_forward": MASK_COST + HALF_DRAW_COST, "dropout_backward": MASK_COST,
    "channel_dropout_forward": CHANNEL_MASK_COST, "channel_dropout_backward": CHANNEL_MASK_COST,
    "bias_relu_dropout_forward": BIAS_RELU_COST, "bias_relu_dropout_backward": BIAS_RELU_COST,
    "batch_norm_forward": MOMENTS_COST, "batch_norm_inference": MOMENTS_COST, "batch_norm_backward": MOMENTS_COST,
    "batch_norm_relu_dropout_forward": HALF_DRAW_COST, "batch_norm_relu_dropout_backward": MOMENTS_COST,
    "activation_forward": LEAKY_RELU_COST, "activation_backward": GRADIENT_COST,
    "softmax_forward": SOFTMAX_COST, "softmax_backward": GRADIENT_COST,
    "cross_entropy": CROSS_ENTROPY_COST, "mse": MSE_COST, "huber": HUBER_COST,
    "bce_with_logits": BCE_COST, "stream": STREAM_COST,
}  # fmt: skip


cdef int64_t draw_cost(double p) noexcept:
    return 0 if p == 0 else HALF_DRAW_COST if p == 0.5 else DRAW_COST


cdef void run(kernel *task, const void *args, ptrdiff_t size, ptrdiff_t grain, int64_t work) noexcept nogil:
    if size > 0:
        pool_run(task, args, size, grain, work)


cdef void run_by_elements(kernel *task, const void *args, ptrdiff_t size, int64_t cost) noexcept:
    if size >= GIL_THRESHOLD:
        with nogil:
            run(task, args, size, GRAIN, size * cost)
    else:
        run(task, args, size, GRAIN, size * cost)


include "doors/memory.pxi"
include "doors/checks.pxi"
include "doors/steps.pxi"
include "doors/grad_norm.pxi"
include "doors/max_norm.pxi"
include "doors/batch_norm.pxi"
include "doors/dropout.pxi"
include "doors/channel_dropout.pxi"
include "doors/bias_relu_dropout.pxi"
include "doors/batch_norm_relu_dropout.pxi"
include "doors/losses.pxi"
include "doors/activation.pxi"
include "doors/softmax.pxi"


# Measuring memory

def stream(reads, updates, writes, *, bint nontemporal=False):
    """Touch memory as a kernel with these arrays would, doing next to no arithmetic.

    Every array of `reads` is read once, of `updates` read and written back as it was, of `writes`
    filled with anything. All are contiguous and of the same number of bytes. `nontemporal` writes
    around the cache, for 1 or 2 arrays to read and 1 to write. It measures the machine's streaming
    speed for the numbers of arrays that kernels have (csrc/kernels/stream.h lists them; others are
    slower), on as many threads as a kernel would use.
    """
    cdef stream_args a
    cdef uint32_t *arrays[STREAM_ARRAYS]
    cdef ptrdiff_t nbytes = -1
    cdef tuple read = as_tuple(reads, "reads"), update = as_tuple(updates, "updates"), write = as_tuple(writes, "writes")
    a.reads, a.updates, a.writes = len(read), len(update), len(write)
    if not 1 <= a.reads + a.updates + a.writes <= STREAM_ARRAYS:
        raise ValueError(f"reads, updates and writes must hold 1 to {STREAM_ARRAYS} arrays together")
    if nontemporal and not (a.reads in (1, 2) and a.updates == 0 and a.writes == 1):
        raise ValueError("nontemporal needs 1 or 2 arrays in reads, none in updates and 1 in writes, "
                         f"got {a.reads}, {a.updates} and {a.writes}")
    point(read, "reads", arrays, &nbytes)
    point(update, "updates", arrays + a.reads, &nbytes)
    point(write, "writes", arrays + a.reads + a.updates, &nbytes)
    a.size = nbytes // <ptrdiff_t>sizeof(uint32_t)
    a.arrays, a.zero, a.nontemporal = arrays, 0, nontemporal
    run_by_elements(active_kernels.stream, &a, a.size, STREAM_COST)


cdef int point(tuple items, str name, uint32_t **arrays, ptrdiff_t *nbytes) except -1:
    """Point at the data of arrays, all of `nbytes` bytes; of as many as the first if that is negative."""
    cdef cnp.ndarray array
    cdef Py_ssize_t i
    for i, item in enumerate(items):
        check(item, cnp.NPY_NOTYPE, name != "reads", name, i)
        array = item
        check_dense(array, name, i)
        if nbytes[0] >= 0 and cnp.PyArray_NBYTES(array) != nbytes[0]:
            raise ValueError(f"{name}[{i}] must have {nbytes[0]} bytes as the first array, had {item.nbytes}")
        nbytes[0] = cnp.PyArray_NBYTES(array)
        arrays[i] = <uint32_t *>cnp.PyArray_DATA(array)


# Recycled memory

def empty_cache():
    """Free the memory that is kept for further results. Arrays in use are not touched."""
    with nogil:
        buffers_empty()


def cached_bytes():
    """Bytes of memory that are kept for further results."""
    return buffers_kept()


def set_cache_limit(nbytes):
    """Keep at most so many bytes for further results; 0 turns recycling off."""
    buffers_set_limit(integer(nbytes, "nbytes", sys.maxsize))


def get_cache_limit():
    """The most bytes that are kept for further results: at first 1 GiB, or a quarter of the memory if that is less."""
    return buffers_get_limit()


def _default_cache_limit():
    """1 GiB, four results of 64 Mi float32, but no more than a quarter of the memory this process may use."""
    memory = [4 << 30]
    try:
        memory.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        pass  # unknown to this system
    memory += [limit for limit, in _group_limits("memory.max")]
    return min(memory) // 4


# Instruction sets

def isas():
    """The instruction sets this CPU can run, best first."""
    return [kernel_tables[i].isa.decode() for i in range(kernel_table_count) if runs[i]]


def isa():
    """The instruction set in use."""
    return active_kernels.isa.decode()


def use_isa(str name not None):
    """Use the kernels of one instruction set, for tests and benchmarks.

    ValueError if `name` is unknown or this CPU cannot run it.
    """
    global active_kernels
    for i in range(kernel_table_count):
        if runs[i] and kernel_tables[i].isa.decode() == name:
            active_kernels = kernel_tables[i]
            return
    raise ValueError(f"name must be one of {', '.join(isas())} on this CPU, was {name!r}")


def _default_isa():
    """The best instruction set this CPU can run, but none better than NUMFUSE_MAX_ISA."""
    names = [kernel_tables[i].isa.decode() for i in range(kernel_table_count)]
    cap = os.environ.get("NUMFUSE_MAX_ISA") or names[0]
    if cap not in names:
        raise ValueError(f"NUMFUSE_MAX_ISA must be one of {', '.join(names)}, was {cap!r}")
    return next(name for name in names[names.index(cap):] if name in isas())


# Threads

def set_num_threads(n):
    """Let kernels use n threads, the caller included. Results do not depend on it."""
    try:
        whole = operator.index(n)
    except TypeError:
        raise TypeError(f"n must be an integer, was {type(n).__name__}") from None
    if not 1 <= whole <= POOL_MAX_THREADS:
        raise ValueError(f"n must be in [1, {POOL_MAX_THREADS}], was {whole}")
    pool_set_threads(whole)


def get_num_threads():
    """The number of threads that kernels may use, the caller included."""
    return pool_get_threads()


def thread_threshold(str kernel not None):
    """The number of float32 elements, over all tensors of a call, from which on a kernel uses threads all through."""
    return POOL_THRESHOLD // _COSTS[kernel]


def _group_limits(name):
    """What the files of this name say in the process's control group and those above it."""
    group = "/"
    try:
        with open("/proc/self/cgroup") as file:
            group = next((line.strip()[3:] for line in file if line.startswith("0::")), "/")
    except OSError:
        pass
    while True:
        try:
            with open(f"/sys/fs/cgroup{group.rstrip('/')}/{name}") as file:
                yield [int(word) for word in file.read().split()]
        except (OSError, ValueError):
            pass  # no such file, or no limit
        if group == "/":
            return
        group = os.path.dirname(group)


def _cpus():
    """CPUs this process may use: its affinity, and the quotas of its control group and those above it."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:
        cpus = os.cpu_count() or 1
    return min([cpus] + [max(1, -(-quota // period)) for quota, period in _group_limits("cpu.max")])


def _default_threads():
    """NUMFUSE_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs this process may use."""
    value = os.environ.get("NUMFUSE_NUM_THREADS")
    if value:
        if not value.isdecimal() or not 1 <= int(value) <= POOL_MAX_THREADS:
            raise ValueError(f"NUMFUSE_NUM_THREADS must be an integer in [1, {POOL_MAX_THREADS}], was {value!r}")
        return int(value)
    value = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    threads = int(value) if value.isdecimal() and int(value) > 0 else _cpus()
    return min(threads, POOL_MAX_THREADS)


use_isa(_default_isa())
pool_init()
buffers_init()
set_cache_limit(_default_cache_limit())
pool_set_threads(_default_threads())
