# Instruction sets: the tables of kernels, and the one in use.

cdef const kernel_table *tables[MAX_ISAS]  # all that were compiled, best first
cdef c_bool runs[MAX_ISAS]
cdef int table_count = list_kernels(tables, runs)
cdef const kernel_table *active_kernels


def isas():
    """The instruction sets this CPU can run, best first."""
    return [tables[i].isa.decode() for i in range(table_count) if runs[i]]


def isa():
    """The instruction set in use."""
    return active_kernels.isa.decode()


def use_isa(str name not None):
    """Use the kernels of one instruction set, for tests and benchmarks.

    ValueError if `name` is unknown or this CPU cannot run it.
    """
    global active_kernels
    for i in range(table_count):
        if runs[i] and tables[i].isa.decode() == name:
            active_kernels = tables[i]
            return
    raise ValueError(f"name must be one of {', '.join(isas())} on this CPU, was {name!r}")


def _default_isa():
    """The best instruction set this CPU can run, but none better than NUMFUSE_MAX_ISA."""
    names = [tables[i].isa.decode() for i in range(table_count)]
    cap = os.environ.get("NUMFUSE_MAX_ISA") or names[0]
    if cap not in names:
        raise ValueError(f"NUMFUSE_MAX_ISA must be one of {', '.join(names)}, was {cap!r}")
    return next(name for name in names[names.index(cap):] if name in isas())
