"""Every case on every backend under pytest-benchmark: `pytest benchmarks`, or one kernel with `-k adam_step`.

`--benchmark-autosave` keeps the numbers of a run, and `--benchmark-compare` sets the next beside them.
"""

from functools import partial

import numpy as np
import pytest

from onepass import native, reference
from onepass.bench.cases import CASES

BACKENDS = ["textbook", "in_place", "reference", *native.isas()]


@pytest.fixture(autouse=True)
def one_thread():
    isa, threads = native.isa(), native.get_num_threads()
    native.set_num_threads(1)
    yield
    native.use_isa(isa)
    native.set_num_threads(threads)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1 << 14, 1 << 20])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_speed(benchmark, case, size, backend):
    benchmark.group = f"{case.name} {size}"
    arguments = case.steady_arguments(size, np.float32, np.random.default_rng(0))
    if backend in ("textbook", "in_place"):
        call = getattr(case, backend)(arguments)
    elif backend == "reference":
        call = partial(getattr(reference, case.kernel), **arguments)
    else:
        native.use_isa(backend)
        call = partial(getattr(native, case.kernel), **arguments)
    benchmark(call)
