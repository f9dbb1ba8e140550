import numpy as np
import pytest

import numfuse.train  # noqa: F401  before pytest imports files of src/, some of which have the name of a function
from numfuse import native, nn, reference


@pytest.fixture(autouse=True)
def restored():
    """Whatever a test does, the next one has the same instruction set, number of threads, and way around the cache."""
    isa, threads, nontemporal_bytes = native.isa(), native.get_num_threads(), native._set_nontemporal_bytes(16 << 20)
    yield
    native._set_nontemporal_bytes(nontemporal_bytes)
    native.use_isa(isa)
    native.set_num_threads(threads)


@pytest.fixture(params=["reference", *native.isas()])
def kernels(request):
    """Each backend in turn: the reference, then the C kernels on every instruction set of this CPU."""
    if request.param == "reference":
        yield reference
        return
    before = native.isa()
    native.use_isa(request.param)
    yield native
    native.use_isa(before)


@pytest.fixture
def check_gradients():
    """A function that compares the backward of a float64 layer or loss with central differences.

    (f(a + h) - f(a - h)) / 2h is off by h^2/6 times the third derivative and by the rounding of f,
    about eps |f|, over h: together eps^(2/3) times a small factor of them, at h = eps^(1/3).
    Inputs here are of order one; 100 is room for the third derivative and the roundings in f.
    """
    eps = np.finfo(np.float64).eps
    h = eps ** (1 / 3)

    def check(module, x, *target):
        is_layer = isinstance(module, nn.Module)
        buffers = module.named_buffers() if is_layer else {}
        before = {name: buffer.copy() for name, buffer in buffers.items()}

        def forward():
            for name, buffer in buffers.items():
                buffer[...] = before[name]
            return np.asarray(module.forward(x, *target))

        y = forward()
        slope = np.random.default_rng(0).standard_normal(y.shape) if is_layer else np.array(1.0)
        arrays, gradients = {"x": x}, {"x": module.backward(*[slope] * is_layer)}
        if is_layer:
            arrays |= module.named_parameters()
            gradients |= module.named_gradients()
        tolerance = 100 * eps ** (2 / 3) * (1 + np.abs(y * slope).sum())
        for name, array in arrays.items():
            assert gradients[name].shape == array.shape and gradients[name].dtype == array.dtype
            expected = gradients[name].copy()
            numeric = np.empty_like(array)
            for index in np.ndindex(array.shape):
                value = array[index]
                array[index] = value + h
                above = (forward() * slope).sum()
                array[index] = value - h
                below = (forward() * slope).sum()
                array[index] = value
                numeric[index] = (above - below) / (2 * h)
            np.testing.assert_allclose(expected, numeric, rtol=0, atol=tolerance, err_msg=name)

    return check
