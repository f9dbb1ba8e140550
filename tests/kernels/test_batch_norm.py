import numpy as np
import pytest

from numfuse import native

EPS = 1e-3  # the kernels' eps
EPS64 = np.finfo(np.float64).eps
SHAPES = [(6, 4), (1, 4, 7), (5, 4, 3), (3, 4, 5, 2), (2, 4, 3, 1, 5)]
LAYOUTS = {
    "C": np.ascontiguousarray,
    "channels last": lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1),
    "Fortran": np.asfortranarray,
    "every second sample": lambda x: within(x, (2 * len(x), *x.shape[1:]), slice(None, None, 2)),
    "reversed samples": lambda x: within(x, x.shape, slice(None, None, -1)),
    "some channels": lambda x: within(x, (len(x), x.shape[1] + 5, *x.shape[2:]), (slice(None), slice(2, -3))),
    "one sample repeated": lambda x: np.broadcast_to(x[:1], x.shape),
}
PAIRS = [
    ("C", "channels last"), ("channels last", "C"), ("Fortran", "Fortran"), ("C", "some channels"),
    ("every second sample", "some channels"), ("some channels", "reversed samples"),
]

each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


def within(x, shape, index):
    """x as a part of a larger array of NaN."""
    buffer = np.full(shape, np.nan, x.dtype)
    buffer[index] = x
    return buffer[index]


def draw(shape, dtype, seed=0, mean=3.0, std=2.0):
    return (mean + std * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def vectors(x, axis):
    """A weight, bias, running mean and running variance for x."""
    weight, bias, mean, var = draw((4, x.shape[axis]), x.dtype, seed=1)
    return weight, bias, mean, var**2


def exact(array, axis):
    """(C, n) in extended precision."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1).astype(np.longdouble)


def assert_within(actual, expected, bound):
    assert actual.shape == expected.shape
    error = abs(actual - expected)
    assert (error <= bound).all(), f"{np.max(error / bound):.3g} times the bound"


class Statistics:
    """Those of x's channels, in extended precision, and what summing n doubles may do to them.

    A sum of n terms is off by at most n eps64 of the sum of magnitudes. The variance may be summed
    around any value of the channel, which is where the largest xhat comes in, and out of parts whose
    means are rounded before their distance, at most twice the largest, is squared. Its root halves that.
    """

    def __init__(self, x, axis):
        self.x = exact(x, axis)
        self.n = self.x.shape[1]
        self.mean = average(self.x)
        self.var = average((self.x - self.mean) ** 2)
        self.rstd = 1 / np.sqrt(self.var + np.longdouble(EPS))
        self.xhat = (self.x - self.mean) * self.rstd
        # Deviations from a value of the channel are rounded once in x's dtype, up to four of them added in it
        # (three roundings), the rest in float64. Their squares are rounded once more, and the root halves that.
        largest = abs(self.xhat).max(axis=1, keepdims=True)
        eps, deviation = np.finfo(x.dtype).eps, average(abs(self.xhat)) + largest
        self.mean_error = self.n * EPS64 * average(abs(self.x)) + 2 * eps * deviation / self.rstd
        self.rstd_error = EPS64 * (self.n * (1 + largest**2) + 4 * abs(self.mean) * self.rstd * largest)
        self.rstd_error += 2 * eps * (1 + largest**2)


def average(values):
    return values.mean(axis=1, keepdims=True)


def column(vector, default, like):
    return exact(np.full(len(like), default) if vector is None else vector, 0)


def assert_order_kept(y, x):
    assert y.shape == x.shape and y.dtype == x.dtype
    if 0 not in x.strides:
        same = zip(y.shape, y.strides, np.empty_like(x).strides)
        assert all(stride == wanted for size, stride, wanted in same if size > 1)


def check_forward(kernels, x, axis=1, out=None, affine=(True, True)):
    weight, bias = (vector if used else None for vector, used in zip(vectors(x, axis), affine))
    running = old_mean, old_var = vectors(x, axis)[2:]
    new_mean, new_var = (r.copy() for r in running)
    s, eps = Statistics(x, axis), np.finfo(x.dtype).eps
    before = x.copy()
    y, mean, rstd = kernels.batch_norm_forward(
        x, weight, bias, new_mean, new_var, axis=axis, momentum=0.1, eps=EPS, out=out
    )
    assert y is out if out is not None else not np.shares_memory(x, y)
    assert out is x or np.array_equal(x, before)
    if out is None:
        assert_order_kept(y, x)
    w, b = column(weight, 1, s.x), column(bias, 0, s.x)
    sums = abs(w) * (s.rstd * s.mean_error + abs(s.xhat) * s.rstd_error)
    # The mean's two parts, the scale, the product and the sum: at most four roundings of either term.
    assert_within(exact(y, axis), s.xhat * w + b, 4 * eps * (abs(s.xhat * w) + abs(b)) + sums)
    assert mean.dtype == rstd.dtype == np.float64
    assert_within(mean[:, None], s.mean, s.mean_error)
    # The reference squares in x's dtype: three roundings of the variance, halved by the root.
    assert_within(rstd[:, None], s.rstd, s.rstd * (2 * eps + s.rstd_error))
    assert np.array_equal(new_mean, (0.9 * old_mean.astype(float) + 0.1 * mean).astype(x.dtype))
    var = s.var * s.n / (s.n - 1)
    expected = 0.9 * exact(old_var, 0) + 0.1 * var
    assert_within(exact(new_var, 0), expected, 4 * eps * abs(expected) + 0.2 * s.rstd_error * (var + EPS))


def check_inference(kernels, x, axis=1, out=None, affine=(True, True)):
    weight, bias = (vector if used else None for vector, used in zip(vectors(x, axis), affine))
    running = vectors(x, axis)[2:]
    values, eps = exact(x, axis), np.finfo(x.dtype).eps
    y = kernels.batch_norm_inference(x, weight, bias, *running, axis=axis, eps=EPS, out=out)
    if out is None:
        assert_order_kept(y, x)
    mean, var = (r[:, None].astype(np.longdouble) for r in running)
    w, b = column(weight, 1, values), column(bias, 0, values)
    expected = (values - mean) / np.sqrt(var + np.longdouble(EPS)) * w
    assert_within(exact(y, axis), expected + b, 4 * eps * (abs(expected) + abs(b)))


def check_backward(kernels, x, grad_y, axis=1, out=None, affine=(True, True), training=True):
    weight = vectors(x, axis)[0] if affine[0] else None
    grad_weight, grad_bias = (np.full(x.shape[axis], np.nan, x.dtype) if used else None for used in affine)
    s, g, eps = Statistics(x, axis), exact(grad_y, axis), np.finfo(x.dtype).eps
    before = x.copy(), grad_y.copy()
    grad_x = kernels.batch_norm_backward(
        grad_y, x, weight, s.mean[:, 0].astype(float), s.rstd[:, 0].astype(float), grad_weight, grad_bias,
        axis=axis, training=training, out=out,
    )
    assert grad_x is out if out is not None else not np.shares_memory(x, grad_x)
    assert np.array_equal(x, before[0]) and (out is grad_y or np.array_equal(grad_y, before[1]))
    if out is None:
        assert_order_kept(grad_x, x)
    scale, slope = s.rstd * column(weight, 1, g), average(g * s.xhat)
    expected = scale * g
    # x - mean is rounded twice, the product once, and three times as up to four are added in x's dtype.
    product_error = (3 * eps + s.n * EPS64) * average(abs(g * s.xhat)) + s.rstd * s.mean_error * average(abs(g))
    sum_error = (2 * eps + s.n * EPS64) * average(abs(g))
    bound = 4 * eps * abs(expected)
    if training:
        expected = scale * (g - average(g) - s.xhat * slope)
        bound = 4 * eps * (abs(g) + abs(average(g)) + abs(s.xhat * slope)) + sum_error
        bound = abs(scale) * (bound + abs(s.xhat) * product_error + s.rstd * s.mean_error * abs(slope))
    assert_within(exact(grad_x, axis), expected, bound)
    if grad_weight is not None:
        assert_within(exact(grad_weight, 0), s.n * slope, s.n * (product_error + eps * abs(slope)))
    if grad_bias is not None:
        assert_within(exact(grad_bias, 0), s.n * average(g), s.n * (sum_error + eps * average(abs(g))))


def check_all(kernels, x, grad_y, axis=1, **options):
    check_forward(kernels, x, axis, **options)
    check_inference(kernels, x, axis, **options)
    check_backward(kernels, x, grad_y, axis, **options)
    check_backward(kernels, x, grad_y, axis, training=False, **options)


@each_dtype
@each_shape
@each_layout
def test_formula(kernels, dtype, shape, layout):
    x, grad_y = (LAYOUTS[layout](draw(shape, dtype, seed)) for seed in (2, 3))
    check_all(kernels, x, grad_y)
    check_all(kernels, np.moveaxis(x, 1, -1), np.moveaxis(grad_y, 1, -1), axis=-1)


@each_shape
@pytest.mark.parametrize("affine", [(True, False), (False, True), (False, False)])
def test_without_weight_or_bias(kernels, shape, affine):
    for layout in ("C", "channels last"):
        x, grad_y = (LAYOUTS[layout](draw(shape, np.float32, seed)) for seed in (2, 3))
        check_all(kernels, x, grad_y, affine=affine)


@each_dtype
@pytest.mark.parametrize("n", [127, 128, 129, 1023, 1024, 1025, 2049])
def test_around_the_ends_of_blocks(kernels, dtype, n):
    for shape, layout in [((n, 3), "C"), ((n, 3), "Fortran"), ((1, 3, n), "C"), ((2, 3, n), "C")]:
        check_all(kernels, *(LAYOUTS[layout](draw(shape, dtype, seed)) for seed in (2, 3)))


@each_dtype
@pytest.mark.parametrize("layout", ["C", "Fortran"])
@pytest.mark.parametrize("mean, std", [(1e6, 1), (-1e6, 0.5), (1000, 1e-4), (0, 1e-15), (1e18, 1e15)])
def test_hard_data(kernels, dtype, layout, mean, std):
    x = LAYOUTS[layout](draw((1500, 3), dtype, 2, mean, std))
    check_all(kernels, x, LAYOUTS[layout](draw(x.shape, dtype, 3)))


@each_dtype
@each_layout
@pytest.mark.parametrize("n", [2, 300, 1500])
def test_constant_channels_give_the_bias(kernels, dtype, layout, n):
    constants = np.array([0, 0.1, -1e6, 3], dtype)
    x = LAYOUTS[layout](np.tile(constants, (n, 1)))
    weight, bias, *_ = vectors(x, 1)
    y, mean, rstd = kernels.batch_norm_forward(x, weight, bias, None, None, axis=1, momentum=0.1, eps=EPS)
    # A sum of n equal doubles may be rounded; one of floats is exact, up to 2^29 of them.
    rounding = n * EPS64 * abs(constants) if dtype == np.float64 else 0 * constants
    assert (abs(mean - constants) <= rounding).all()
    assert (abs(y - bias) <= abs(weight) * rounding / EPS**0.5 + 2 * EPS64 * abs(bias) * (rounding > 0)).all()
    np.testing.assert_allclose(rstd, EPS**-0.5, rtol=2 * EPS64)


@each_dtype
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5, 2)])
@pytest.mark.parametrize("layout, other", PAIRS)
def test_any_pair_of_layouts_and_in_place(kernels, dtype, shape, layout, other):
    """x, grad_y and out in different layouts; out is x or grad_y. Nothing around a slice is touched."""
    def fresh(layout, seed):
        return LAYOUTS[layout](draw(shape, dtype, seed))

    for make_out in (lambda x: fresh(other, 4), lambda x: x):
        for check in (check_forward, check_inference):
            x = fresh(layout, 2)
            out = make_out(x)
            check(kernels, x, out=out)
            assert_surroundings_kept(x, out)
    for training in (True, False):
        for make_out in (lambda grad_y: fresh(layout, 4), lambda grad_y: grad_y, lambda grad_y: None):
            x, grad_y = fresh(layout, 2), fresh(other, 3)
            out = make_out(grad_y)
            check_backward(kernels, x, grad_y, training=training, out=out)
            assert_surroundings_kept(x, grad_y, out)


def assert_surroundings_kept(*arrays):
    for array in arrays:
        if array is not None and array.base is not None:
            assert np.isnan(array.base).sum() == array.base.size - array.size


@each_dtype
@each_shape
@pytest.mark.parametrize("layout", ["C", "channels last"])
def test_broadcast_gradients(kernels, dtype, shape, layout):
    x, grad_y = LAYOUTS[layout](draw(shape, dtype, 2)), draw(shape, dtype, 3)
    one = (slice(1),) * len(shape)
    for index in (one, (slice(1),), (slice(None), *one[1:]), (slice(1), slice(None), *one[2:])):
        check_backward(kernels, x, np.broadcast_to(grad_y[index], shape))


# Running statistics

@each_dtype
@pytest.mark.parametrize("layout", ["C", "Fortran"])
@pytest.mark.parametrize("momentum", [0, 0.1, 0.5, 1])
def test_momentum_weighs_the_new_batch(kernels, dtype, layout, momentum):
    x = LAYOUTS[layout](draw((300, 4), dtype, 2))
    *_, old_mean, old_var = vectors(x, 1)
    new_mean, new_var = old_mean.copy(), old_var.copy()
    running = new_mean, new_var
    mean = kernels.batch_norm_forward(x, None, None, *running, axis=1, momentum=momentum, eps=EPS)[1]
    if momentum == 0:
        assert new_mean.tobytes() == old_mean.tobytes() and new_var.tobytes() == old_var.tobytes()
    expected = (1 - momentum) * old_mean.astype(float) + momentum * mean
    assert np.array_equal(new_mean, expected.astype(dtype))
    s = Statistics(x, 1)
    expected = (1 - momentum) * exact(old_var, 0) + momentum * s.var * 300 / 299
    assert_within(exact(new_var, 0), expected, (4 * np.finfo(dtype).eps + 2 * s.rstd_error) * abs(expected))


@each_dtype
@pytest.mark.parametrize("layout", ["C", "Fortran"])
def test_subnormal_running_statistics_become_zero(kernels, dtype, layout):
    tiny = np.finfo(dtype).tiny
    x = LAYOUTS[layout](np.zeros((5, 6), dtype))
    for momentum, factor in ((0.5, 2), (0, 1)):
        start = tiny * factor * np.array([1, 0.75, -0.75, -1, 0.5, 0], dtype)
        running = start.copy(), start.copy()
        kernels.batch_norm_forward(x, None, None, *running, axis=1, momentum=momentum, eps=EPS)
        for array in running:
            assert np.array_equal(array, np.array([tiny, 0, 0, -tiny, 0, 0], dtype))


@each_dtype
@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0), (0, 3, 4, 4), (2, 3, 0), (3, 0, 5)], ids=str)
def test_empty(kernels, dtype, shape):
    """The statistics stay, gradients are zero."""
    x = np.empty(shape, dtype)
    weight, bias, *running = vectors(x, 1)
    for axis in (1, -1):
        x = np.moveaxis(x, 1, axis)
        new = [r.copy() for r in running]
        y, mean, rstd = kernels.batch_norm_forward(x, weight, bias, *new, axis=axis, momentum=0.1, eps=EPS)
        inferred = kernels.batch_norm_inference(x, weight, bias, *new, axis=axis, eps=EPS)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(new, running))
        assert mean.tolist() == [0] * shape[1] and rstd.tolist() == [1 / np.sqrt(EPS)] * shape[1]
        for training in (True, False):
            grads = np.full((2, shape[1]), np.nan, dtype)
            grad_x = kernels.batch_norm_backward(
                y, x, weight, mean, rstd, *grads, axis=axis, training=training)
            assert not grads.any()
        for result in (y, inferred, grad_x):
            assert result.shape == x.shape and result.dtype == dtype


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1), (1, 3, 1, 1), (1, 1, 1, 1, 1)], ids=str)
def test_one_value_per_channel_can_be_inferred_but_not_trained_on(kernels, shape):
    x = draw(shape, np.float32)
    check_inference(kernels, x)
    *_, mean, var = vectors(x, 1)
    before = mean.copy(), var.copy()
    for running in ((mean, var), (None, None)):
        with pytest.raises(ValueError, match="^x must have more than 1 value per channel"):
            kernels.batch_norm_forward(x, None, None, *running, axis=1, momentum=0.1, eps=EPS)
    assert np.array_equal(before, (mean, var))


# NaN and infinity

@each_dtype
@pytest.mark.parametrize("layout", ["C", "Fortran"])
@pytest.mark.parametrize("rows", [[0], [1400], [2999], [0, 1, 2999]], ids=str)
@pytest.mark.parametrize("values", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf]], ids=str)
def test_what_is_not_finite_stays_in_its_channel(kernels, dtype, layout, rows, values):
    """Other channels keep their bits; infinities of one sign make an infinite mean, whatever their block."""
    clean = LAYOUTS[layout](draw((3000, 4), dtype, 2))
    dirty = clean.copy("K")
    dirty[rows, 1] = np.resize(values, len(rows))
    weight, bias, *running = vectors(clean, 1)
    both = []
    with np.errstate(all="ignore"):
        expected_mean = dirty[rows, 1].sum()
        for x in (clean, dirty):
            new, grads = [r.copy() for r in running], np.empty((2, 4), dtype)
            forward = kernels.batch_norm_forward(x, weight, bias, *new, axis=1, momentum=0.1, eps=EPS)
            grad_x = kernels.batch_norm_backward(
                x, clean, weight, *saved(clean), *grads, axis=1, training=True)
            both.append([*forward, *new, grad_x, *grads])
    for a, b in zip(*both):
        assert np.array_equal(a[..., [0, 2, 3]], b[..., [0, 2, 3]])
    y, mean, rstd, new_mean, new_var, grad_x, grad_weight, grad_bias = (array[..., 1] for array in both[1])
    assert all(np.isnan(array).all() for array in (y, rstd, new_var))
    assert not np.isfinite(grad_x).any() and not np.isfinite(grad_weight)
    for actual in (mean, new_mean, grad_bias):
        np.testing.assert_equal(float(actual), float(expected_mean))


def saved(x):
    return x.mean(axis=0, dtype=float), 1 / np.sqrt(x.var(axis=0, dtype=float) + EPS)


@each_dtype
@pytest.mark.parametrize("layout", ["C", "Fortran"])
def test_gradient_in_evaluation_does_not_depend_on_x(kernels, dtype, layout):
    clean, grad_y = LAYOUTS[layout](draw((40, 4), dtype, 2)), LAYOUTS[layout](draw((40, 4), dtype, 3))
    dirty = clean.copy("K")
    dirty[[3, 7, 9], 1] = np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        expected, actual = (
            kernels.batch_norm_backward(grad_y, x, None, *saved(clean), None, None, axis=1, training=False)
            for x in (clean, dirty)
        )
    assert np.array_equal(actual, expected)


@each_dtype
@pytest.mark.parametrize("layout", ["C", "Fortran"])
def test_inference_with_what_is_not_finite(kernels, dtype, layout):
    x = LAYOUTS[layout](np.tile(np.array([1, np.inf, np.nan, 1, 1, 1], dtype), (3, 1)))
    mean = np.array([0, 0, 0, np.inf, np.nan, 0], dtype)
    var = np.array([1, 1, 1, 1, 1, np.inf], dtype)
    with np.errstate(all="ignore"):
        y = kernels.batch_norm_inference(x, None, None, mean, var, axis=1, eps=0.0)
    np.testing.assert_array_equal(y, np.tile([1, np.inf, np.nan, -np.inf, np.nan, 0], (3, 1)))


# Results written around the cache

@pytest.mark.parametrize("shape, axis", [((66_000, 67), 1), ((8, 67, 95, 93), 1), ((8, 95, 93, 67), -1), ((5, 2, 480_007), 1)])
@pytest.mark.parametrize("misaligned", [False, True])
def test_large_results_have_the_bits_of_those_in_place(shape, axis, misaligned):
    """In place nothing is written around the cache."""
    rng = np.random.default_rng(0)
    x, grad_y = rng.standard_normal((2, *shape), dtype=np.float32)
    assert x.nbytes > 16 << 20
    weight, bias, mean = rng.standard_normal((3, shape[axis]), dtype=np.float32)
    out = np.full(x.size + misaligned, np.nan, np.float32)[misaligned:].reshape(shape)
    options = {"axis": axis, "eps": EPS}

    def check(call, given):
        in_place = given.copy()
        call(in_place, in_place)
        out.fill(np.nan)
        call(given, out)
        np.testing.assert_array_equal(out, in_place)

    check(lambda x, out: native.batch_norm_forward(x, weight, bias, None, None, momentum=0.1, out=out, **options), x)
    check(lambda x, out: native.batch_norm_inference(x, weight, None, mean, weight**2, out=out, **options), x)
    for training in (True, False):
        check(lambda g, out: native.batch_norm_backward(g, x, weight, mean.astype(float), weight.astype(float) ** 2, None,
                                                        None, axis=axis, training=training, out=out), grad_y)
