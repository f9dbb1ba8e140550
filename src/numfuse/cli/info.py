"""`numfuse info`: versions, instruction sets and threads."""

import platform
import statistics
import subprocess
import sys

import numpy as np

import numfuse


def add_arguments(parser):
    """`numfuse info` has no options."""


def run(args):
    """Print a line for each, and return the exit code 0."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    rows = {
        "numfuse": numfuse.__version__,
        "instruction sets": f"{' '.join(numfuse.native.isas())} (in use: {numfuse.native.isa()})",
        "threads": numfuse.get_num_threads(),
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "NumPy": np.__version__,
        "BLAS": f"{blas.get('name', 'unknown')} {blas.get('version', '')}",
        "import": f"{_import_seconds() * 1e3:.1f} ms beyond NumPy's",
    }
    for name, value in rows.items():
        print(f"{name:<18}{value}")
    return 0


def _import_seconds(runs=5):
    """The time of importing numfuse where NumPy is imported already: the median of fresh processes."""
    code = ("import time, numpy; start = time.perf_counter(); import numfuse; "
            "print(time.perf_counter() - start)")
    command = [sys.executable, "-P", "-c", code]
    return statistics.median(
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(runs))
