"""A backend: every kernel as a NumPy user writes it from the paper, temporary arrays and all.

It can take the kernels' place (`set_backend`), and speed-ups are quoted against it. `numfuse.reference` is something
else: it has the kernels' bits, at the price of more work. The functions stand in `operations`, which says what they
take for granted; `out` is not used.
"""


def __getattr__(name):
    from .operations import function  # only now, since they take a while to import

    found = function("textbook", name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found  # so that a call costs no search
    return found
