"""The limits that the machine sets to a row: its memory, and the arithmetic of the kernel itself."""

import functools
import math

from .. import native
from .machine import l2_bytes, l3_bytes

L1_BYTES = 24 << 10  # leaves a part of the smallest L1 caches, of 32 KiB, to others
LEAST_ROWS = 4


def traffic(passes, touched):
    """The bytes of all passes, and where the arrays that are touched lie: "L2", "L3", "DRAM", or None if unknown."""
    passed = sum(array.nbytes * times for reads, updates, writes in passes
                 for times, group in ((1, reads), (2, updates), (1, writes)) for array in group)
    return {"bytes": passed, "data": _level(_bytes(touched))}


def streams(passes):
    """Plain loops over the memory of some passes, {name: call}; around the cache, too, if it cannot hold a result."""
    kinds = {"stream": _stream(passes)}
    writing = [one for one in passes if one[2]]
    # `native.stream` has such loops for these numbers of arrays alone.
    fits = all((len(reads), len(updates), len(writes)) in ((1, 0, 1), (2, 0, 1)) for reads, updates, writes in writing)
    if fits and any(writes[0].nbytes > (l2_bytes() or 0) for _, _, writes in writing):
        kinds["stream nontemporal"] = _stream(passes, nontemporal=True)
    return kinds


def two_in_l1(first, touched):
    """Two shapes like that of the array `first`, the second with fewer rows than the first.

    All arrays that are touched would lie in the L1 cache. Rows are taken away first, since each costs the same whatever
    their number, and from the last axis, along which memory runs, last.
    """
    fewer, per_element = list(first.shape), _bytes(touched) / first.size
    for axis, least in enumerate((LEAST_ROWS, *[1] * (first.ndim - 1))):
        rest = math.prod(fewer) // fewer[axis]
        fewer[axis] = min(fewer[axis], max(least, int(L1_BYTES / per_element) // rest))
    rows = max(LEAST_ROWS, fewer[0] // LEAST_ROWS * LEAST_ROWS)
    return (rows, *fewer[1:]), (max(2, rows // 4), *fewer[1:])  # of one row a channel has no variance


def _level(total):
    caches = {name: size for name, size in (("L2", l2_bytes()), ("L3", l3_bytes())) if size}
    return next((name for name, size in caches.items() if total <= size), "DRAM" if caches else None)


def _bytes(arrays):
    return sum({id(array): array.nbytes for array in arrays}.values())


def _stream(passes, **options):
    if len(passes) == 1:  # no loop of Python's that would be measured, too
        return functools.partial(native.stream, *passes[0], **options)

    def stream():
        for one in passes:
            native.stream(*one, **options if one[2] else {})
    return stream
