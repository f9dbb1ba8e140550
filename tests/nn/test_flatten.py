import numpy as np
import pytest

from numfuse import nn


@pytest.mark.parametrize(
    "start_dim, wanted", [(1, (2, 60)), (0, (120,)), (2, (2, 3, 20)), (-1, (2, 3, 4, 5))]
)
def test_flatten(start_dim, wanted):
    x = np.arange(120.0).reshape(2, 3, 4, 5)
    layer = nn.Flatten(start_dim)
    y = layer(x)
    assert np.array_equal(y, x.reshape(wanted))
    assert np.array_equal(layer.backward(y), x)


def test_flatten_of_odd_inputs():
    layer = nn.Flatten()
    assert layer(np.ones((0, 3, 4))).shape == (0, 12)
    assert layer.backward(np.ones((0, 12))).shape == (0, 3, 4)
    turned = np.arange(24.0).reshape(4, 3, 2).T
    assert np.array_equal(layer(turned), turned.copy().reshape(2, 12))
    with pytest.raises(ValueError, match="axis 1, the start_dim"):
        layer(np.ones(3))
    with pytest.raises(ValueError, match=r"grad_y must have shape \(2, 12\)"):
        layer.backward(np.ones((2, 3, 4)))
    assert repr(layer) == "Flatten(start_dim=1)"
