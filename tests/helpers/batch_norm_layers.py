"""Batch norm layers and all that they compute, for several files of tests."""

import numpy as np

from numfuse import nn

SHAPES = [
    (nn.BatchNorm1d, (5, 3)),
    (nn.BatchNorm1d, (2, 3, 4)),
    (nn.BatchNorm1d, (1, 3, 4)),
    (nn.BatchNorm2d, (2, 3, 4, 2)),
    (nn.BatchNorm3d, (2, 3, 2, 1, 2)),
]
EPS = np.finfo(float).eps


def random_layer(kind=nn.BatchNorm1d, dtype=np.float64, channels=3, **options):
    layer = kind(channels, dtype=dtype, **options)
    rng = np.random.default_rng(2)
    for array in [*layer.parameters(), layer.running_mean, layer.running_var]:
        if array is not None:
            array[...] = rng.uniform(0.5, 2, array.shape)
    return layer


def channels_last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1))


def outcome(layer, x, grad_y, mask=None):
    """All arrays that a training step computes or changes, by name."""
    results = {"y": layer(x, mask), "grad_x": layer.backward(grad_y)}
    results |= {f"grad_{name}": gradient.copy() for name, gradient in layer.named_gradients().items()}
    return results | layer.state_dict()


def assert_same_bits(actual, expected):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype
        np.testing.assert_array_equal(actual[name], array, err_msg=name)
        np.testing.assert_array_equal(np.signbit(actual[name]), np.signbit(array), err_msg=name)


def assert_state_is(layer, state):
    assert_same_bits(layer.state_dict(), state)
