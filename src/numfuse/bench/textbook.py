"""A backend: every kernel as a NumPy user writes it from the paper, temporary arrays and all.

It can take the kernels' place (`set_backend`), and speed-ups are quoted against it. `numfuse.reference` is something
else: it has the kernels' bits, at the price of more work. The functions stand in `operations`, which says what they
take for granted; `out` is not used.
"""

from .operations import function


def __getattr__(name):
    found = function("textbook", name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return found
