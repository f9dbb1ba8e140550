# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: freethreading_compatible=True
"""The C kernels. What each one computes is documented at its twin in `numfuse.reference`.

The bindings check arguments, release the GIL and call; all numerical work is in csrc/. An operation's bindings are in
its file in bindings/. bindings/operations.pxi, which setup.py makes from csrc/kernel_list.h, includes them all.
"""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.dict cimport PyDict_Values
from cpython.object cimport PyObject_Call
from libc.math cimport INFINITY, isfinite
from libc.stdint cimport INT64_MAX, INTPTR_MAX, int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

from .kernels cimport *

import operator
import os
import sys

cnp.import_array()

include "bindings/isas.pxi"
include "bindings/threads.pxi"
include "bindings/run.pxi"
include "bindings/memory.pxi"
include "bindings/checks.pxi"
include "bindings/overlap.pxi"
include "bindings/tensor_lists.pxi"
include "bindings/operations.pxi"


def operations():
    """The names of all operations, in the order of csrc/kernel_list.h; each is the name of its files."""
    return _OPERATIONS


use_isa(_default_isa())
pool_init()
buffers_init()
set_cache_limit(_default_cache_limit())
pool_set_threads(_default_threads())
