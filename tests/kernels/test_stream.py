"""`native.stream`, the rate of memory that other kernels are measured by."""

import numpy as np
import pytest

from numfuse import native


@pytest.fixture(params=native.isas())
def each_isa(request):
    before = native.isa()
    native.use_isa(request.param)
    yield
    native.use_isa(before)


def test_stream_refuses_arrays_of_different_length():
    with pytest.raises(ValueError, match=r"updates\[0\] must have 40 bytes"):
        native.stream([np.zeros(10, np.float32)], [np.zeros(11, np.float32)], [])


def test_stream_refuses_no_arrays():
    with pytest.raises(ValueError, match="1 to 16 arrays"):
        native.stream([], [], [])


@pytest.mark.parametrize("nontemporal", [False, True])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1003, 2**19 + 5])
def test_stream_leaves_what_is_read_and_writes_all(each_isa, size, nontemporal):
    a, b, out = (np.full(size + 3, value, np.float32)[3:] for value in (1, 1.5, np.nan))
    native.stream([a, b], [], [out], nontemporal=nontemporal)
    assert (a == 1).all() and (b == 1.5).all() and (out == 1.5).all()  # the bits of 1 are among those of 1.5


def test_stream_leaves_updated_arrays_as_they_were(each_isa):
    arrays = [np.full(1003, value, np.float32) for value in range(5)]
    native.stream(arrays[:1], arrays[1:], [])
    assert all((array == value).all() for value, array in enumerate(arrays))


def test_stream_writes_around_the_cache_from_one_or_two_arrays_to_one():
    a, b = np.zeros(10, np.float32), np.zeros(10, np.float32)
    with pytest.raises(ValueError, match="1 or 2 arrays in reads, none in updates and 1 in writes, got 1, 1 and 0"):
        native.stream([a], [b], [], nontemporal=True)
