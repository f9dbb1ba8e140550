from fractions import Fraction

import numpy as np
import pytest

from helpers.arrays import draw, flat, kept_bits, misaligned
from helpers.cases import arguments, find
from helpers.natives import each_native
from helpers.parity import assert_native_is_the_reference, assert_same_bits, case_arguments, each
from helpers.philox import philox
from helpers.refusals import assert_refused, each_wrong_type
from numfuse import native, reference

PROBABILITIES = [0.0, 1.0, 0.5, 0.2, 0.75, 1e-3, 1 - 1e-3, 2.0**-60]
MEMORY_ORDERS = [(0, 1, 2, 3), (3, 2, 1, 0), (0, 3, 1, 2), (2, 0, 3, 1)]  # C, Fortran, channels last, another

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_p = pytest.mark.parametrize("p", PROBABILITIES)


def is_kept(i, p, seed, offset):
    """Bit i of the mask, from the definition: digit by digit, is a random fraction below 1 - p?"""
    keep, block, bit = Fraction(1.0 - p), i // 128, i % 128
    digit = 0
    while keep > 0:
        if keep >= 1:
            return True
        keep *= 2
        words = philox((block % 2**32, block // 2**32, digit, offset), (seed % 2**32, seed // 2**32))
        random, wanted = words[bit // 32] >> bit % 32 & 1, int(keep >= 1)
        if random != wanted:
            return random < wanted
        keep -= wanted
        digit += 1
    return False


@each_p
@pytest.mark.parametrize("size, seed, offset", [
    (1, 0, 0), (31, 1, 0), (32, 2**32, 1), (127, 2**63 + 9, 2), (128, 2**32 - 1, 2**32 - 1),
    (129, 2**64 - 1, 2**31), (4225, 0x123456789ABCDEF, 77),
])
def test_mask_is_the_documented_function(kernels, p, size, seed, offset):
    y, mask = kernels.dropout_forward(np.ones(size, np.float32), p=p, seed=seed, offset=offset, inverted=True)
    expected = [is_kept(i, p, seed, offset) for i in range(size)]
    assert mask.dtype == np.uint32 and mask.shape == (-(-size // 32),)
    assert kept_bits(mask, size).tolist() == expected
    assert not kept_bits(mask, 32 * mask.size)[size:].any()
    assert (y != 0).tolist() == expected


@each_dtype
@each_p
@pytest.mark.parametrize("inverted", [True, False])
def test_kept_elements_are_scaled_and_others_zero(kernels, dtype, p, inverted):
    x = draw(1003, dtype=dtype)
    before = x.copy()
    y, mask = kernels.dropout_forward(x, p=p, seed=3, offset=4, inverted=inverted)
    scale = dtype(1) if not inverted else dtype(1 / (1 - p)) if p < 1 else dtype(0)
    expected = np.where(kept_bits(mask, x.size), x * scale, dtype(0))
    mask.flags.writeable = x.flags.writeable = False
    for result in (y, kernels.dropout_backward(x, mask, p=p if inverted else 0.0)):
        assert result.dtype == dtype and result.tobytes() == expected.tobytes()
        assert np.array_equal(x, before) and not np.shares_memory(x, result)


@pytest.mark.parametrize("p", [p for p in PROBABILITIES if 0 < p < 1])
def test_share_of_kept_elements(kernels, p):
    """All bits, neighbours both, one element in two calls both: within six standard deviations."""
    n = 200_000
    kept, again = (
        kept_bits(kernels.dropout_forward(np.ones(n, np.float32), p=p, seed=5, offset=offset, inverted=True)[1], n)
        for offset in (0, 1)
    )

    def assert_share(bits, share):
        assert abs(bits.mean() - share) <= 6 * (share * (1 - share) / bits.size) ** 0.5

    q = 1.0 - p
    assert_share(kept, q)
    for distance in (1, 32, 128, 1024):
        # Every pair once and no element in two of them, so that pairs are independent.
        pairs = kept[: n // (2 * distance) * 2 * distance].reshape(-1, 2, distance)
        assert_share(pairs[:, 0] & pairs[:, 1], q * q)
    assert_share(kept & again, q * q)


@pytest.mark.parametrize("dtype, shape", [
    (np.float32, (2500,)), (np.float64, (2500,)), (np.float32, (50, 50)), (np.float64, (5, 5, 10, 1, 10)),
    (np.float32, (1, 2500, 1)), (np.float32, (2, 5, 1, 1, 2, 5, 1, 5, 5)),
])
def test_mask_depends_on_neither_shape_nor_dtype(kernels, dtype, shape):
    expected = kernels.dropout_forward(np.ones(2500, np.float32), p=0.3, seed=8, offset=9, inverted=True)[1]
    y, mask = kernels.dropout_forward(np.ones(shape, dtype), p=0.3, seed=8, offset=9, inverted=True)
    assert y.shape == shape and np.array_equal(mask, expected)


def test_mask_does_not_depend_on_scaling(kernels):
    x = np.ones(20_000, np.float32)
    inverted, plain = (kernels.dropout_forward(x, p=0.3, seed=8, offset=9, inverted=way)[1] for way in (True, False))
    assert np.array_equal(inverted, plain)


def test_mask_of_fewer_elements_is_the_beginning_of_a_longer_one(kernels):
    def kept(size):
        x = np.ones(size, np.float32)
        return kept_bits(kernels.dropout_forward(x, p=0.3, seed=8, offset=9, inverted=True)[1], size)

    longest = kept(20_000)
    for size in (1, 33, 128, 1000, 4095, 4097, 16_385):
        assert np.array_equal(kept(size), longest[:size])


def test_seed_offset_and_block_each_change_the_mask(kernels):
    calls = [(1, 1), (1, 0), (1, 2**31), (0, 1), (2**32, 1), (2**32 + 1, 1), (2**63, 1)]
    x = np.ones(256, np.float32)
    masks = [kernels.dropout_forward(x, p=0.5, seed=seed, offset=offset, inverted=True)[1] for seed, offset in calls]
    blocks = {block.tobytes() for mask in masks for block in (mask[:4], mask[4:])}
    assert len(blocks) == 2 * len(calls)
    assert np.array_equal(kernels.dropout_forward(x, p=0.5, seed=1, offset=1, inverted=True)[1], masks[0])


@each_dtype
@each_p
def test_infinity_and_nan_pass_where_kept_and_only_there(kernels, dtype, p):
    x = np.tile(np.array([np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).max], dtype), 60)
    y, mask = kernels.dropout_forward(x, p=p, seed=1, offset=0, inverted=True)
    kept = kept_bits(mask, x.size)
    assert not y[~kept].any() and not np.signbit(y[~kept]).any()
    assert np.array_equal(np.isnan(y[kept]), np.isnan(x[kept]))
    assert np.array_equal(y[kept & np.isinf(x)], x[kept & np.isinf(x)])
    assert np.signbit(y[kept & (x == 0)]).all()
    assert y.tobytes() == kernels.dropout_backward(x, mask, p=p).tobytes()


@each_dtype
@pytest.mark.parametrize("order", MEMORY_ORDERS)
@pytest.mark.parametrize("shape", [(4, 5, 6, 7), (3, 1, 9, 5)])
@pytest.mark.parametrize("out", ["new", "given", "in place"])
def test_mask_follows_the_order_in_memory(kernels, dtype, order, shape, out):
    memory = draw(*shape, dtype=dtype)
    flat, expected = kernels.dropout_forward(memory.reshape(-1).copy(), p=0.4, seed=2, offset=3, inverted=True)
    wanted_grad = kernels.dropout_backward(memory.reshape(-1).copy(), expected, p=0.4)
    for backward in (False, True):
        x = memory.copy().transpose(order)
        target = {"new": None, "given": np.full_like(memory, np.nan).transpose(order), "in place": x}[out]
        if backward:
            y = kernels.dropout_backward(x, expected, p=0.4, out=target)
        else:
            y, mask = kernels.dropout_forward(x, p=0.4, seed=2, offset=3, inverted=True, out=target)
            assert mask.tobytes() == expected.tobytes()
        assert target is None or y is target
        assert y.shape == x.shape and y.strides == x.strides
        assert y.transpose(np.argsort(order)).tobytes() == (wanted_grad if backward else flat).tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
def test_out_may_be_part_of_a_larger_array(kernels, order):
    x = np.array(draw(13, 11, dtype=np.float32), order=order)
    expected, mask = kernels.dropout_forward(x, p=0.5, seed=2, offset=3, inverted=True)
    for call in (lambda out: kernels.dropout_forward(x, p=0.5, seed=2, offset=3, inverted=True, out=out)[0],
                 lambda out: kernels.dropout_backward(x, mask, p=0.5, out=out)):
        buffer = np.full(13 * 11 + 10, 7, np.float32)
        part = buffer[5:-5].reshape(13, 11, order=order)
        assert call(part) is part and np.array_equal(part, expected)
        assert (buffer[:5] == 7).all() and (buffer[-5:] == 7).all()


@each_dtype
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (), (1,), (1, 1)])
def test_empty_and_single(kernels, dtype, shape):
    x = np.full(shape, 3, dtype)
    y, mask = kernels.dropout_forward(x, p=0.0, seed=1, offset=0, inverted=True)
    grad_x = kernels.dropout_backward(x, mask, p=0.0)
    for result in (y, grad_x):
        assert type(result) is np.ndarray and result.shape == shape and result.dtype == dtype
        assert np.array_equal(result, x)
    assert mask.dtype == np.uint32 and mask.tolist() == [1] * x.size


def test_backward_reads_any_mask_and_nothing_beyond_its_size(kernels):
    mask = np.random.default_rng(3).integers(2**32, size=3, dtype=np.uint32)
    mask[-1] |= np.uint32(2**31)
    grad_x = kernels.dropout_backward(np.ones(70, np.float32), mask, p=0.5)
    assert np.array_equal(grad_x, 2 * kept_bits(mask, 70))


@each([find("dropout_forward p=0.5")])
@each_dtype
@pytest.mark.parametrize("p", [0.0, 1e-9, 0.1, 0.25, 0.5, 0.75, 1 - 2**-53, 1.0])
@pytest.mark.parametrize("inverted", [True, False])
def test_probabilities(case, dtype, p, inverted):
    arguments = case_arguments(case, 1003, dtype, special=True)
    arguments |= {"p": p, "inverted": inverted, "seed": 2**64 - 1, "offset": 2**32 - 1}
    assert_native_is_the_reference(case, arguments)


@each([find("dropout_forward p=0.2"), find("dropout_backward p=0.5")])
@each_dtype
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("in_place", [False, True])
def test_memory_order(case, dtype, order, in_place):
    def call(backend):
        arguments = case_arguments(case, 7 * 11 * 13, dtype)
        name = next(iter(arguments))
        x = arguments[name].reshape(7, 11, 13).transpose(order)
        arguments |= {name: x, "out": x if in_place else None}
        result = getattr(backend, case.kernel)(**arguments)
        y = result[0] if isinstance(result, tuple) else result
        assert y.strides == x.strides and (y is x) == in_place
        return [x, *flat(result)]

    expected = call(reference)
    for where in each_native((1, 2)):
        assert_same_bits(call(native), expected, where)


# From 16 MiB on, results are written around the cache.
AROUND = 16 << 20
EXTRA = 45  # elements beyond: some words of the mask, and a part of one


@each_dtype
@pytest.mark.parametrize("elements, inverted", [(-1, True), (0, True), (EXTRA, True), (EXTRA, False)])
def test_large_results_have_the_same_bits(dtype, elements, inverted):
    """In out's of every alignment and in place, forward and backward, from threads or one; nothing else is written."""
    size = AROUND // np.dtype(dtype).itemsize + elements
    x = np.random.default_rng(1).random(size, dtype)
    x[:: 10_007] = np.nan
    before, threads = x.copy(), native.get_num_threads()
    expected = None
    for offset, count in [(0, 1), (0, 2), (1, 3), (3, 1), (4, 2), (8, 1), ("in place", 2)]:
        native.set_num_threads(count)
        buffer = np.full(size + 32, 7, dtype)
        part = buffer[offset:][:size] if offset != "in place" else x.copy()
        source = x if offset != "in place" else part
        y, mask = native.dropout_forward(source, p=0.5, seed=2, offset=3, inverted=inverted, out=part)
        assert y is part
        if expected is None:
            kept = kept_bits(mask, size)
            expected = np.where(kept, x * dtype(2 if inverted else 1), dtype(0)).tobytes()
        assert part.tobytes() == expected
        part[...] = x if offset == "in place" else 7
        native.dropout_backward(part if offset == "in place" else x, mask, p=0.5 if inverted else 0.0, out=part)
        assert part.tobytes() == expected
        if offset != "in place":
            assert (buffer[:offset] == 7).all() and (buffer[offset + size:] == 7).all()
    native.set_num_threads(threads)
    assert x.tobytes() == before.tobytes()


# What is refused

SIZE = (9, 7)
MASK = np.arange(2, dtype=np.uint32)


def read_only(array):
    array.flags.writeable = False
    return array


INPUTS = [("dropout_forward", "x"), ("dropout_backward", "grad_y")]
ARRAYS = [*INPUTS, ("dropout_forward", "out"), ("dropout_backward", "out"), ("dropout_backward", "mask")]
each_input = pytest.mark.parametrize("kernel, name", INPUTS)
each_array = pytest.mark.parametrize("kernel, name", ARRAYS)
each_kernel = pytest.mark.parametrize("kernel", ["dropout_forward", "dropout_backward"])


@each_array
@each_wrong_type
def test_wrong_type_is_refused(kernel, name, change):
    bad = arguments(kernel, SIZE)
    bad[name] = change(bad[name])
    assert_refused(kernel, bad, TypeError, rf"^{name} must be")


@each_kernel
def test_out_of_the_other_dtype_is_refused(kernel):
    for dtype, other in (("float32", "float64"), ("float64", "float32")):
        bad = arguments(kernel, SIZE, dtype, out=np.zeros(SIZE, other))
        assert_refused(kernel, bad, TypeError, f"^out must be {dtype}, was {other}")


@each_array
def test_misaligned_is_refused(kernel, name):
    bad = arguments(kernel, SIZE)
    bad[name] = misaligned(bad[name])
    assert_refused(kernel, bad, ValueError, rf"^{name} must be aligned")


@each_input
@pytest.mark.parametrize("change", [
    lambda x: np.repeat(x, 2, axis=0)[::2], lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda x: x[::-1],
    lambda x: x[:, 1:], lambda x: np.broadcast_to(x[0], x.shape), lambda x: x[:, ::-1].T,
], ids=["every second row", "every second column", "reversed", "columns", "broadcast", "mirrored"])
def test_gaps_are_refused(kernel, name, change):
    bad = arguments(kernel, SIZE, out=None)
    bad[name] = change(bad[name])
    assert_refused(kernel, bad, ValueError, rf"^{name} must be contiguous.*np\.ascontiguousarray")


@each_kernel
@pytest.mark.parametrize("out, words", [
    (np.zeros((7, 9), np.float32), "shape"), (np.zeros(63, np.float32), "shape"),
    (np.zeros((9, 8), np.float32)[:, :7], "strides.*np.ascontiguousarray"),
    (np.zeros((9, 7), np.float32, order="F"), "strides.*np.ascontiguousarray"),
    (read_only(np.zeros((9, 7), np.float32)), "read-only"),
], ids=["transposed", "flat", "columns", "Fortran", "read-only"])
def test_wrong_out_is_refused(kernel, out, words):
    assert_refused(kernel, arguments(kernel, SIZE, out=out), ValueError, f"^out .*{words}")


@each_input
@pytest.mark.parametrize("shift", [-1, 1, 62])
def test_out_that_overlaps_the_input_is_refused(kernel, name, shift):
    buffer = draw(200, dtype=np.float32)
    bad = arguments(kernel, SIZE, out=buffer[65 + shift:][:63].reshape(SIZE))
    bad[name] = buffer[65:][:63].reshape(SIZE)
    assert_refused(kernel, bad, ValueError, f"^out must not overlap {name}")


def test_out_that_overlaps_the_mask_is_refused():
    out = np.zeros(SIZE, np.float32)
    bad = arguments("dropout_backward", SIZE, out=out, mask=out.reshape(-1)[5:7].view(np.uint32))
    assert_refused("dropout_backward", bad, ValueError, "^out must not overlap mask")


@pytest.mark.parametrize("mask", [
    MASK[:1], MASK.repeat(2), MASK.reshape(1, 2), MASK.reshape(2, 1), MASK.repeat(2)[::2], MASK[::-1],
], ids=["short", "long", "row", "column", "strided", "reversed"])
def test_wrong_mask_is_refused(mask):
    bad = arguments("dropout_backward", SIZE, mask=mask)
    assert_refused("dropout_backward", bad, ValueError, r"^mask must be contiguous with shape \(2,\)")


@each_kernel
@pytest.mark.parametrize("error, p", [
    *[(ValueError, p) for p in (-0.1, -5e-324, np.nextafter(1, 2), np.nan, np.inf, -np.inf, 10**400)],
    *[(TypeError, p) for p in ("0.5", None, 0.5j, [0.5], np.ones(2))],
], ids=lambda value: type(value).__name__)
def test_wrong_probability_is_refused(kernel, error, p):
    assert_refused(kernel, arguments(kernel, SIZE, p=p), error, "^p must be")


@pytest.mark.parametrize("name, limit", [("seed", 2**64), ("offset", 2**32)])
def test_wrong_seed_and_offset_are_refused(name, limit):
    for value in (-1, limit, 2**200, np.int64(-1)):
        bad = arguments("dropout_forward", SIZE, **{name: value})
        assert_refused("dropout_forward", bad, ValueError, rf"^{name} must be in \[0, {limit}\), was {value}")
    for value in (1.0, np.float64(1), "1", None, np.ones(2, np.int64), np.array(1.0)):
        bad = arguments("dropout_forward", SIZE, **{name: value})
        assert_refused("dropout_forward", bad, TypeError, f"^{name} must be an integer")


def test_integers_of_numpy_are_seeds_and_offsets():
    good = arguments("dropout_forward", SIZE, seed=2**64 - 1, offset=2**32 - 1)
    expected = native.dropout_forward(**good)[1]
    good |= {"seed": np.uint64(2**64 - 1), "offset": np.int64(2**32 - 1)}
    assert np.array_equal(native.dropout_forward(**good)[1], expected)
