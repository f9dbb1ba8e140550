"""The declarations of csrc/ that operations share. An argument struct is in its operation's file in bindings/; setup.py
makes bindings/kernel_list.pxi, the table of kernels, from csrc/kernel_list.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cimport numpy as cnp

cdef extern from "<stdbool.h>" nogil:
    ctypedef bint c_bool "bool"

cdef extern from "kernels.h" nogil:
    ctypedef struct tensor_list:
        ptrdiff_t count
        const ptrdiff_t *offsets
        const int64_t *steps
    ctypedef struct step_args:
        tensor_list tensors
        void **params
        void **grads
        void **ema_params
        double lr, weight_decay, l1, max_grad_value, ema_decay, grad_scale
        bint decoupled, proximal, maximize
    ctypedef void task(const void *args, ptrdiff_t begin, ptrdiff_t end) noexcept nogil
    ctypedef struct kernel:
        task *of[2]  # float, double
        int64_t cost

include "bindings/kernel_list.pxi"

cdef extern from "kernels.h" nogil:
    enum: MAX_ISAS
    size_t nontemporal_bytes
    int list_kernels(const kernel_table **tables, int *ranks) noexcept

cdef extern from "pool.h" nogil:
    int POOL_MAX_THREADS, POOL_THRESHOLD
    void pool_init() noexcept
    void pool_set_threads(int threads) noexcept
    int pool_get_threads() noexcept
    void pool_run(task *run, const void *args, ptrdiff_t size, ptrdiff_t grain, int64_t work) noexcept

cdef extern from "buffers.h" nogil:
    void buffers_init() noexcept
    void *buffer_take(size_t bytes) noexcept
    void buffer_give(void *data) noexcept
    void buffers_set_limit(size_t bytes) noexcept
    size_t buffers_get_limit() noexcept
    size_t buffers_kept() noexcept
    void buffers_empty() noexcept

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewLikeArray(cnp.ndarray prototype, cnp.NPY_ORDER order, void *descr, int subok)
