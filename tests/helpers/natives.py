"""Every way in which the C kernels can run on this CPU."""

from numfuse import native


def each_native(counts=(1, 2, 3)):
    """Set up every instruction set and thread count in turn, yielding its name; afterwards all is as before."""
    before, threads = native.isa(), native.get_num_threads()
    try:
        for isa in native.isas():
            for count in counts:
                native.use_isa(isa)
                native.set_num_threads(count)
                yield f"{isa}, {count} threads"
    finally:
        native.use_isa(before)
        native.set_num_threads(threads)
