"""Dropout and initial values beside PyTorch's: their numbers are drawn otherwise, what they are made of is the same."""

import numpy as np
import pytest

from helpers.arrays import draw
from numfuse import nn

torch = pytest.importorskip("torch", reason="needs PyTorch: parity with a peer, never a dependency")

LAYERS = [("Dropout", (6, 5)), ("Dropout1d", (6, 5, 3)), ("Dropout2d", (6, 5, 3, 2)), ("Dropout3d", (6, 5, 3, 2, 2))]
each_layer = pytest.mark.parametrize("name, shape", LAYERS)


@each_layer
@pytest.mark.parametrize("p", [0.0, 0.3, 0.75, 1.0])
def test_the_same_is_dropped_as_a_whole_and_scaled_alike(name, shape, p):
    """Where both keep, and where both drop, forward and backward are equal in float64 to the rounding of the scale."""
    x, grad_y = draw(*shape), draw(*shape) + 3
    layer, theirs = getattr(nn, name)(p, rng=1), getattr(torch.nn, name)(p)
    torch.manual_seed(0)
    tensor = torch.from_numpy(x).requires_grad_()
    expected = theirs(tensor)
    expected.backward(torch.from_numpy(grad_y))
    pairs = [(layer(x), expected.detach().numpy()), (layer.backward(grad_y), tensor.grad.numpy())]
    units = shape[:2]
    kept, expected_kept = ((y != 0).reshape(*units, -1) for y in pairs[0])
    for mask in (kept, expected_kept):
        assert np.array_equal(mask.any(axis=2), mask.all(axis=2))
    same = (kept == expected_kept).reshape(shape)
    assert same.any()
    for ours, other in pairs:
        np.testing.assert_allclose(ours[same], other[same], rtol=4 * np.finfo(np.float64).eps)


@each_layer
def test_evaluation_is_the_identity_in_both(name, shape):
    x = draw(*shape)
    assert np.array_equal(getattr(nn, name)().eval()(x), getattr(torch.nn, name)().eval()(torch.from_numpy(x)).numpy())


@pytest.mark.parametrize("mean, std, a, b", [(0.0, 1.0, -2.0, 2.0), (1.0, 0.5, 0.9, 3.0), (0.0, 0.02, -2.0, 2.0)])
def test_truncated_normal_has_the_moments_of_torch(mean, std, a, b):
    """a and b mean the same, so mean and deviation of n values agree: 5 sigma of the difference."""
    n = 100_000
    torch.manual_seed(0)
    theirs = torch.nn.init.trunc_normal_(torch.empty(n, dtype=torch.float64), mean, std, a, b).numpy()
    ours = nn.init.trunc_normal(np.empty(n), mean, std, a, b, rng=0)
    assert min(ours.min(), theirs.min()) >= a and max(ours.max(), theirs.max()) <= b
    assert abs(ours.mean() - theirs.mean()) <= 5 * (2 / n) ** 0.5 * theirs.std()
    # The relative error of a deviation is sqrt((kurtosis - 1) / 4n), and no kurtosis exceeds an exponential tail's, 9.
    assert abs(ours.std() / theirs.std() - 1) <= 5 * (4 / n) ** 0.5


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (3, 2, 5, 5)])
def test_orthogonal_as_in_torch(shape):
    """The products of rows, or of columns, are those of PyTorch's matrices."""
    ours, theirs = nn.init.orthogonal(np.empty(shape), 1.5, rng=0), torch.empty(shape, dtype=torch.float64)
    torch.nn.init.orthogonal_(theirs, 1.5)
    products = []
    for matrix in (ours.reshape(shape[0], -1), theirs.numpy().reshape(shape[0], -1)):
        products.append(matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix)
    np.testing.assert_allclose(*products, rtol=0, atol=1e-13)
