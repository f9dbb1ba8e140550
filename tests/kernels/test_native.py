"""What `numfuse.native` promises around its kernels: instruction sets, threads, forks, floating-point mode."""

import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from helpers.cases import CASES, PLAIN
from helpers.paths import ROOT
import numfuse
from numfuse import native

ADAM = dict(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, **PLAIN)


def run_python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


@pytest.fixture
def threads():
    before = native.get_num_threads()
    yield native.set_num_threads
    native.set_num_threads(before)


def adam_arguments(n):
    rng = np.random.default_rng(n)
    arrays = [rng.standard_normal(n, dtype=np.float32) for _ in range(2)]
    return [[a] for a in arrays] + [[np.zeros(n, np.float32)] for _ in range(2)] + [None, None, np.zeros(1, np.int64)]


def test_instruction_sets_are_listed_best_first():
    assert native.isas()[-1] in ("baseline", "neon")
    assert native.isa() in native.isas()


FLAGS = {"baseline": set(), "avx2": {"avx2", "fma", "bmi2"}}
FLAGS |= dict.fromkeys(("avx512", "avx512wide"), FLAGS["avx2"] | {"avx512f", "avx512dq", "avx512bw", "avx512vl"})


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="only Linux on x86-64 lists the CPU's flags"
)
def test_instruction_sets_are_those_that_the_system_reports():
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    assert set(native.isas()) == {isa for isa, needed in FLAGS.items() if needed <= set(flags)}


def test_an_unknown_instruction_set_is_refused():
    message = f"name must be one of {', '.join(native._ranks())}, was 'mmx'; this CPU can run {', '.join(native.isas())}"
    with pytest.raises(ValueError, match=f"^{message}$"):
        native.use_isa("mmx")


def test_an_instruction_set_that_this_cpu_lacks_is_refused():
    lacking = set(native._ranks()) - set(native.isas())
    for name in lacking:
        message = f"name was '{name}', which this CPU cannot run; it can run {', '.join(native.isas())}"
        with pytest.raises(ValueError, match=f"^{message}$"):
            native.use_isa(name)
    if not lacking:
        pytest.skip("this CPU can run all")


ZEN3 = {"avx512wide": 0, "avx512": 0, "avx2": 2, "baseline": 1}
ZEN4, ZEN5 = ZEN3 | {"avx512wide": 3, "avx512": 4}, ZEN3 | {"avx512wide": 5, "avx512": 4}


@pytest.mark.parametrize("ranks, cap, best", [
    (ZEN3, "avx512wide", "avx2"), (ZEN3, "avx512", "avx2"), (ZEN3, "avx2", "avx2"), (ZEN3, "baseline", "baseline"),
    (ZEN4, "avx512wide", "avx512"), (ZEN4, "avx512", "avx512"), (ZEN4, "avx2", "avx2"),
    (ZEN5, "avx512wide", "avx512wide"), (ZEN5, "avx512", "avx512"), (ZEN5, "avx2", "avx2"),
])  # fmt: skip
def test_a_cap_leaves_the_best_of_what_is_not_wider(ranks, cap, best):
    assert native._best_isa(ranks, cap) == best


def test_max_isa_caps_the_choice():
    for cap in native._ranks():
        done = run_python("import numfuse; print(numfuse.native.isa())", NUMFUSE_MAX_ISA=cap)
        assert done.stdout.split() == [native._best_isa(native._ranks(), cap)], done.stderr


def test_an_unknown_max_isa_is_an_error():
    done = run_python("import numfuse", NUMFUSE_MAX_ISA="sse9")
    names, runs = (", ".join(names) for names in (native._ranks(), native.isas()))
    assert f"ValueError: NUMFUSE_MAX_ISA must be one of {names}, was 'sse9'; this CPU can run {runs}" in done.stderr
    assert done.returncode != 0


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"NUMFUSE_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"),
        ({"NUMFUSE_NUM_THREADS": "", "OMP_NUM_THREADS": "5,2"}, "5"),
    ],
)
def test_the_environment_sets_the_number_of_threads(environment, expected):
    done = run_python("import numfuse; print(numfuse.get_num_threads())", **environment)
    assert done.stdout.split() == [expected], done.stderr


def test_a_bad_number_of_threads_in_the_environment_is_an_error():
    done = run_python("import numfuse", NUMFUSE_NUM_THREADS="many")
    assert "NUMFUSE_NUM_THREADS must be an integer in [1, " in done.stderr and done.returncode != 0


@pytest.mark.parametrize("n, error", [(0, ValueError), (-1, ValueError), (10**6, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_a_bad_number_of_threads_is_refused(threads, n, error):
    before = numfuse.get_num_threads()
    with pytest.raises(error, match="^n must be"):
        numfuse.set_num_threads(n)
    assert numfuse.get_num_threads() == before


def test_a_call_from_a_second_thread_while_the_pool_is_busy_gives_the_same_bits(threads):
    threads(2)
    n = native.thread_threshold("adam_step") + 1
    expected = adam_arguments(n)
    for _ in range(20):
        native.adam_step(*expected, **ADAM)

    def steps(arguments):
        for _ in range(20):
            native.adam_step(*arguments, **ADAM)

    jobs = [adam_arguments(n) for _ in range(3)]
    callers = [threading.Thread(target=steps, args=(job,)) for job in jobs]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for job in jobs:
        for arrays, wanted in zip(job[:4], expected):
            np.testing.assert_array_equal(arrays[0], wanted[0])


WORK = """
import sys
import numpy as np
from numfuse import native
from helpers.cases import find

def threads():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Threads"))

case = find(sys.argv[1])
native.set_num_threads(2)
counts = [threads()]
for n in native.thread_threshold(case.kernel) // 2, native.thread_threshold(case.kernel) + 1:
    getattr(native, case.kernel)(**case.arguments(n, np.float32, np.random.default_rng(0)))
    counts.append(threads())
print(counts[1] - counts[0], counts[2] - counts[0])
"""


# A case of each kernel, of activations a cheap one; the kernel that is left out has a part that begins earlier.
FIRST = {case.kernel: case.name for case in reversed(CASES)} | {"activation_forward": "activation_forward leaky_relu"}
del FIRST["batch_norm_relu_dropout_forward"]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="counts threads by /proc")
@pytest.mark.parametrize("case", FIRST.values())
def test_a_second_thread_is_started_where_there_is_work_for_it(case):
    path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = run_python(WORK, case, PYTHONPATH=path)
    assert done.stdout.split() == ["0", "1"], done.stderr


@pytest.mark.parametrize("name", ["nosuch", "adam", "loss", "batch_norm_nosuch", "set_num_threads"])
def test_the_threshold_of_an_unknown_kernel_is_refused(name):
    with pytest.raises(ValueError, match=f"^kernel must be the name of a kernel, .* was '{name}'"):
        native.thread_threshold(name)


FORK = """
import os, sys, warnings
import numpy as np
import numfuse
from numfuse import native, nn, optim

warnings.simplefilter("ignore", DeprecationWarning)  # OpenBLAS has threads of its own at the fork
n = native.thread_threshold("adam_step") + 1
numfuse.set_num_threads(2)
parameter, gradient = np.zeros(n, np.float32), np.ones(n, np.float32)
optimizer = optim.Adam([parameter])
optimizer.step([gradient])
child = os.fork()
if child == 0:
    assert numfuse.get_num_threads() == 1
    for threads in 1, 2:
        numfuse.set_num_threads(threads)
        optimizer.step([gradient])
    os._exit(0 if (parameter < -2.9e-3).all() else 3)
_, status = os.waitpid(child, 0)
optimizer.step([gradient])
print(status, numfuse.get_num_threads(), bool((parameter < -1.9e-3).all()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_trains_and_exits():
    done = run_python(FORK)
    assert done.stdout.split() == ["0", "2", "True"], done.stderr


MODE = """
import sys
import numpy as np
import numfuse
from numfuse import native

n = native.thread_threshold("adam_step") + 1
numfuse.set_num_threads(2)
numfuse.optim.Adam([np.ones(n, np.float32)]).step([np.ones(n, np.float32)])
tiny = sys.float_info.min
print(tiny / 2 != 0, np.float32(1e-38) * np.float32(0.1) != 0)
"""


def test_subnormal_numbers_survive_import_and_use():
    assert run_python(MODE).stdout.split() == ["True", "True"]


def test_importing_needs_numpy_alone():
    done = run_python("import sys, numfuse; print({'rich', 'matplotlib', 'sklearn', 'scipy', 'threadpoolctl'} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr
