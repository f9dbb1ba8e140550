"""Other processes that keep CPUs busy, to see what a rival's speed is worth on a machine that is not its own."""

import contextlib
import os
import subprocess
import sys

# It ends by itself when the process that wants it is no more.
HOG = """
import os, sys
print(flush=True)
while os.getppid() == int(sys.argv[1]):
    sum(range(100_000))
"""


@contextlib.contextmanager
def busy(n):
    """Keep n CPUs busy for a while, with n processes."""
    with contextlib.ExitStack() as stack:
        hogs = []
        for _ in range(n):
            command = [sys.executable, "-S", "-E", "-c", HOG, str(os.getpid())]
            hog = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL))
            stack.callback(hog.kill)
            hog.stdout.readline()  # now it runs
            hogs.append(hog)
        yield hogs
