# Instruction sets: the tables of kernels, and the one in use.

cdef const kernel_table *tables[MAX_ISAS]  # all that were compiled, the widest vectors first
cdef int isa_ranks[MAX_ISAS]  # 0 where this CPU cannot run a table, else the higher the better
cdef int table_count = list_kernels(tables, isa_ranks)
cdef const kernel_table *active_kernels


def _ranks():
    """{instruction set: rank}, of all that were compiled."""
    return {tables[i].isa.decode(): isa_ranks[i] for i in range(table_count)}


def isas():
    """The instruction sets this CPU can run, best first."""
    ranks = _ranks()
    return sorted(filter(ranks.get, ranks), key=ranks.get, reverse=True)


def isa():
    """The instruction set in use."""
    return active_kernels.isa.decode()


def use_isa(str name not None):
    """Use the kernels of one instruction set, for tests and benchmarks.

    ValueError if `name` is unknown or this CPU cannot run it.
    """
    global active_kernels
    _check_isa("name", name)
    if name not in isas():
        raise ValueError(f"name was {name!r}, which this CPU cannot run; it can run {', '.join(isas())}")
    active_kernels = tables[list(_ranks()).index(name)]


def _set_nontemporal_bytes(size_t number):
    """Write results of this many bytes and more around the cache; for tests. Returns what it was."""
    global nontemporal_bytes
    before, nontemporal_bytes = nontemporal_bytes, number
    return before


def _check_isa(str argument, str name):
    if name not in _ranks():
        raise ValueError(
            f"{argument} must be one of {', '.join(_ranks())}, was {name!r}; this CPU can run {', '.join(isas())}"
        )


def _best_isa(ranks, cap):
    """The best of `cap` and the instruction sets with shorter vectors, which come after it in ranks."""
    names = list(ranks)
    return max(names[names.index(cap):], key=ranks.get)


def _default_isa():
    ranks = _ranks()
    cap = os.environ.get("NUMFUSE_MAX_ISA") or next(iter(ranks))
    _check_isa("NUMFUSE_MAX_ISA", cap)
    return _best_isa(ranks, cap)
