"""Whether a CPU is ours alone at this moment.

Two threads of execution, often those of two virtual machines, share a core: while the other one works, this
one is slower, and not by the same factor whatever it does. The other's work comes and goes within
milliseconds, so that the moments without it can be waited for.
"""

import math
import time

import numpy as np

SLOWER = 1.25  # than ever before: on a shared core it is 1.5 to 2.5, and frequencies vary by less


class Probe:
    """A microsecond's work in the first level cache, again and again; it takes longer on a shared core."""

    def __init__(self):
        self._from, self._to = np.ones(2048, np.float32), np.empty(2048, np.float32)
        self._fastest = math.inf
        for _ in range(1000):
            self.quiet()

    def quiet(self):
        """Whether the work takes hardly longer than it ever did."""
        np.multiply(self._from, self._from, out=self._to)  # brings the arrays back into the cache
        start = time.perf_counter()
        for _ in range(5):
            np.multiply(self._from, self._from, out=self._to)
        seconds = time.perf_counter() - start
        self._fastest = min(self._fastest, seconds)
        return seconds < SLOWER * self._fastest

    def wait(self, end):
        """Wait for a quiet moment, until time.perf_counter() is `end`. Whether there was one."""
        while not self.quiet():
            if time.perf_counter() > end:
                return False
        return True
