"""A process of its own that measures, with a number of threads that all libraries keep to.

Most libraries read that number when they are imported, so that every number of threads has its process. A
process that dies, as one does that the system runs out of memory for, costs one row and not the run.
"""

import contextlib
import multiprocessing
import os
import platform
import signal
import traceback

import numpy as np

from .. import __version__, native
from . import peers
from .measure import measure

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
           "NUMBA_NUM_THREADS", "NPROC")
# glibc hands the memory of a freed array out again with its pages, or gets new ones, which takes longer than most
# kernels, as sizes and what was freed before have it. Here it always keeps them, which is best for whoever allocates.
MALLOC = {"mmap_max": 0, "trim_threshold": 1 << 40, "hugetlb": 1}
MEMORY = ("With glibc, malloc keeps the pages of freed arrays and uses them again; pages are huge where the system has "
          "such.")


class Worker:
    """A process that measures with `threads` threads.

    peers : names of libraries to try
    versions, left_out : of the libraries that are there, and why others are not
    """

    def __init__(self, threads, peers):
        self._settings = threads, peers
        self._start()

    def measure(self, contest, plan):
        """The rows of a contest. One of a process that died says so, and a new process stands ready."""
        try:
            self._connection.send((contest, plan))
            rows, error = self._connection.recv()
        except (EOFError, OSError):
            self.stop()
            self._start()
            return [dict(contest.row, threads=self._settings[0], busy=plan.busy[0], isa=plan.isas[0],
                         refused={}, left_out={}, error="the measuring process was killed: out of memory?")]
        if error:
            raise RuntimeError(f"measuring {contest.row['case']} failed:\n{error}")
        return rows

    def stop(self):
        self._process.kill()
        self._process.join()
        self._connection.close()

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._settings), daemon=True)
        malloc = ":".join(f"glibc.malloc.{name}={value}" for name, value in MALLOC.items())
        with environment({**dict.fromkeys(THREADS, str(self._settings[0])), "GLIBC_TUNABLES": malloc}):
            self._process.start()
        theirs.close()
        try:
            self.versions, self.left_out = self._connection.recv()
        except EOFError:
            names = ", ".join(self._settings[1])
            raise RuntimeError(f"the measuring process ended while it imported {names}") from None


def _serve(connection, threads, wanted):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business, which then stops this process
    _die_first()
    native.set_num_threads(threads)
    connection.send(_load(wanted, threads))
    with np.errstate(all="ignore"), contextlib.suppress(EOFError, OSError):
        while True:
            contest, plan = connection.recv()
            try:
                answer = measure(contest, plan), None
            except Exception:
                answer = None, traceback.format_exc()
            connection.send(answer)


def _load(wanted, threads):
    """Versions of Python, NumPy, numfuse and the peers that are there; and why others are not."""
    versions = {"numfuse": __version__, "numpy": np.__version__, "python": platform.python_version()}
    left_out = {}
    for name in wanted:
        try:
            peer = peers.load(name)
            peer.configure(threads)
            versions |= peer.versions()
        except ModuleNotFoundError as error:
            left_out[name] = f"{error.name} is not installed: {peers.INSTALL}"
        except Exception as error:
            left_out[name] = f"cannot be imported: {error}"
    return versions, left_out


def _die_first():
    """If memory runs out, let the system choose this process and not the one that keeps the results."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


@contextlib.contextmanager
def environment(variables):
    """Environment variables for a while, for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
