"""Results in recycled memory: never shared between live arrays, no more kept than the limit, as any other array."""

import copy
import os
import pickle
import random
import resource
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numfuse
from numfuse import native, nn, optim
from numfuse.train import mlp, train_batch

KIB, MIB = 1 << 10, 1 << 20
RECYCLED = 16 * KIB  # bytes from which on memory is recycled
DROPOUT = dict(p=0.5, seed=1, offset=0, inverted=True)


@pytest.fixture(autouse=True)
def nothing_kept():
    before = native.get_cache_limit()
    native.empty_cache()
    yield
    native.set_cache_limit(before)
    native.empty_cache()


def bytes_(n):
    return native.empty(n, np.uint8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint32, bool, "c16", np.dtype(np.int8)])
@pytest.mark.parametrize(
    "shape", [(), 0, 7, (0, 3), (3, 0), (5, 7), [2, 3, 4], (100, 1001), 50_000, np.int64(9), (300, 7, 11)]
)
def test_empty_is_as_any_other_array(shape, dtype):
    array, other = native.empty(shape, dtype), np.empty(shape, dtype)
    assert (array.shape, array.strides, array.dtype) == (other.shape, other.strides, other.dtype)
    assert array.flags.c_contiguous and array.flags.aligned and array.flags.writeable
    assert array.nbytes < RECYCLED or array.ctypes.data % 64 == 0


@pytest.mark.parametrize(
    "shape, dtype, error, message",
    [
        (-1, "f4", ValueError, "^shape must be in"),
        ((3, 1.5), "f4", TypeError, "^shape must be an integer, was float"),
        ((1,) * 33, "f4", ValueError, "^shape must have at most 32 dimensions, had 33"),
        (3, object, TypeError, "^dtype must be a native number type"),
        (3, "M8[s]", TypeError, "^dtype must be a native number type"),
        (3, ">f4", TypeError, "^dtype must be a native number type, was >f4"),
        (2**62, "f4", MemoryError, "^no memory for an array of shape"),
        ((2**40, 2**40), "f4", MemoryError, "^no memory for an array of shape"),
        (2**60, "f4", MemoryError, "^no memory for an array of 4611686018427387904 bytes"),
    ],
)
def test_empty_refuses_what_cannot_be(shape, dtype, error, message):
    with pytest.raises(error, match=message):
        native.empty(shape, dtype)


@settings(deadline=None)
@given(st.permutations([0, 1, 2, 3]), st.lists(st.sampled_from([1, 2, 7, 30]), min_size=4, max_size=4))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_result_lies_in_memory_as_its_model(dtype, axes, shape):
    model = np.zeros(shape, dtype).transpose(axes)
    result, _ = native.dropout_forward(model, **DROPOUT)
    assert result.shape == model.shape and result.dtype == dtype and result.strides == np.empty_like(model).strides


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("slices", [np.s_[::2], np.s_[:, 1:], np.s_[:, :, :0], np.s_[3:4]])
def test_a_result_for_a_slice_is_dense(slices, order):
    x = np.zeros((16, 12, 10, 9), np.float32)[slices]
    if order == "F":
        x = np.zeros((9, 12, 10, 16), np.float32).T[slices]
    ones = np.ones(x.shape[1], np.float32)
    y = native.batch_norm_inference(x, ones, ones, ones, ones, axis=1, eps=1e-5)
    assert y.strides == np.empty_like(x).strides


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["new", "view", "delete"]), st.integers(0, 2**30)), max_size=60))
def test_live_arrays_never_share_memory(actions):
    native.set_cache_limit(200 * KIB)
    live = []  # what is left of each array, and the number that it was filled with
    for number, (action, choice) in enumerate(actions):
        if action == "new":
            live.append((bytes_(RECYCLED + choice % (3 * RECYCLED)), number))
            live[-1][0].fill(number)
        elif live:
            array, filled = live.pop(choice % len(live))
            if action == "view" and array.size:
                live.append((array[choice % array.size :][::-1], filled))
        assert all((array == filled).all() for array, filled in live)
        assert native.cached_bytes() <= 200 * KIB


def test_arrays_pass_between_threads():
    native.set_cache_limit(200 * KIB)
    slots, wrong = [None] * 4, []

    def work(number):
        choices = random.Random(number)
        for _ in range(300):
            array = bytes_(choices.randrange(RECYCLED, 3 * RECYCLED))
            array.fill(choices.randrange(256))
            i = choices.randrange(len(slots))
            array, slots[i] = slots[i], array
            if array is not None and (array != array[0]).any():
                wrong.append(array)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and native.cached_bytes() <= 200 * KIB


def test_memory_is_used_again_once_the_last_view_is_gone():
    array = bytes_(MIB)
    address, view = array.ctypes.data, array[5:9].reshape(2, 2).T
    del array
    assert native.cached_bytes() == 0 and bytes_(MIB).ctypes.data != address
    native.empty_cache()
    del view
    assert native.cached_bytes() == MIB and bytes_(MIB).ctypes.data == address


def test_small_arrays_are_numpys():
    assert bytes_(RECYCLED - 1).flags.owndata and not bytes_(RECYCLED).flags.owndata
    assert native.cached_bytes() == RECYCLED


def test_the_limit_holds_and_old_sizes_go_first():
    native.set_cache_limit(3 * MIB)
    for size in MIB, MIB, MIB // 2, MIB // 4:
        bytes_(size)  # each reuses what fits, and comes back
    assert native.cached_bytes() == MIB + MIB // 2 + MIB // 4
    old = bytes_(MIB), bytes_(MIB)
    del old
    wanted = [bytes_(2 * MIB), bytes_(MIB - 128 * KIB)]
    addresses = [array.ctypes.data for array in wanted]
    while wanted:
        del wanted[0]
    assert native.cached_bytes() <= 3 * MIB
    assert [bytes_(2 * MIB).ctypes.data, bytes_(MIB - 128 * KIB).ctypes.data] == addresses
    bytes_(3 * MIB + 1)
    assert native.cached_bytes() <= 3 * MIB
    native.set_cache_limit(MIB)
    assert 0 < native.cached_bytes() <= MIB
    native.set_cache_limit(0)
    bytes_(MIB)
    assert native.cached_bytes() == 0


def test_the_limit_is_a_gibibyte_or_a_quarter_of_the_memory():
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < native.get_cache_limit() <= min(1 << 30, memory // 4)


@pytest.mark.parametrize(
    "nbytes, error", [(-1, ValueError), (1 << 64, ValueError), (1.5, TypeError), (None, TypeError)]
)
def test_a_bad_limit_is_refused(nbytes, error):
    before = native.get_cache_limit()
    with pytest.raises(error, match="^nbytes must be"):
        native.set_cache_limit(nbytes)
    assert native.get_cache_limit() == before


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads the resident size from /proc")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@needs_proc
def test_empty_cache_gives_memory_back():
    native.set_cache_limit(64 * MIB)
    bytes_(64 * MIB).fill(1)
    assert native.cached_bytes() == 64 * MIB
    before = resident()
    numfuse.empty_cache()
    assert native.cached_bytes() == 0
    assert before - resident() > 60 * MIB  # of 64, where others may have touched a few


# glibc's malloc, which NumPy uses, keeps blocks of up to 32 MiB without a fault too, once it has seen their like.
@pytest.mark.parametrize("rows, steps", [(512, 100), (6000, 10)])
def test_steady_training_steps_make_no_page_faults_and_do_not_grow(rows, steps):
    native.set_cache_limit(1 << 30)
    net = nn.Sequential(nn.BatchNorm1d(2048), nn.Dropout(0.2, rng=0))
    x = np.random.default_rng(0).standard_normal((rows, 2048), dtype=np.float32)

    def step():
        y = net.forward(x)
        net.backward(y)

    step()
    step()
    kept = native.cached_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step()
        assert native.cached_bytes() == kept
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    # A fresh result makes one fault at least, even in huge pages; the interpreter makes one now and then.
    assert faults < steps


@needs_proc
def test_a_steady_training_of_a_net_makes_no_page_faults_and_does_not_grow():
    native.set_cache_limit(1 << 30)
    rng = np.random.default_rng(0)
    net, loss = mlp(784, 10, (256, 256), dropout=0.2, rng=rng), nn.CrossEntropyLoss()
    optimizer = optim.Adam(net.parameters(), max_grad_norm=1.0)
    x, y = rng.standard_normal((128, 784), dtype=np.float32), rng.integers(0, 10, 128)
    for _ in range(50):
        train_batch(net, loss, optimizer, x, y)
    before, faults = resident(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(200):
        train_batch(net, loss, optimizer, x, y)
    # The activations of one step are 128 pages and more; the interpreter makes a fault now and then.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults < 50
    assert resident() - before < MIB


def test_recycled_arrays_are_as_any_other():
    x = np.random.default_rng(0).standard_normal((100, 70))
    y, _ = native.dropout_forward(x, **DROPOUT)
    assert not y.flags.owndata
    for twin in copy.deepcopy(y), copy.copy(y), pickle.loads(pickle.dumps(y)), pickle.loads(pickle.dumps(y, 5)):
        np.testing.assert_array_equal(twin, y)
        assert not np.shares_memory(twin, y)
    y.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        y[0] = 0
    y.flags.writeable = True
    product = native.empty((100, 100), np.float64)
    assert np.matmul(x, y.T, out=product) is product
    np.testing.assert_array_equal(product, np.matmul(x, y.T))
    assert memoryview(y).nbytes == y.nbytes and np.frombuffer(y).ctypes.data == y.ctypes.data
    with pytest.raises(ValueError, match="own"):
        y.resize(3)


def test_an_array_outlives_the_cache():
    array = bytes_(MIB)
    array.fill(7)
    native.empty_cache()
    native.set_cache_limit(0)
    assert (array == 7).all()
