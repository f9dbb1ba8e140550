"""Batch normalisation against PyTorch's, in float64."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch: parity with a peer, never a dependency")

EPS = np.finfo(np.float64).eps

BATCH_SHAPES = [(6, 3), (4, 3, 5), (4, 3, 5, 2), (2, 3, 4, 3, 2), (1, 2, 3)]


@pytest.mark.parametrize("shape", BATCH_SHAPES, ids=str)
@pytest.mark.parametrize("channels_last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("training, momentum", [(True, 0.1), (True, 0.7), (False, 0.1)])
def test_batch_norm(kernels, shape, channels_last, affine, training, momentum):
    """y, running statistics and the three gradients, the channels along axis 1 in either memory order."""
    rng = np.random.default_rng(2)
    channels, eps = shape[1], 1e-5
    x, grad_y = rng.normal(3, 2, shape), rng.normal(0, 1, shape)
    weight, bias = (rng.uniform(0.5, 2, channels), rng.normal(0, 1, channels)) if affine else (None, None)
    running_mean, running_var = rng.normal(3, 1, channels), rng.uniform(1, 5, channels)

    leaves = [array if array is None else torch.tensor(array, requires_grad=True)
              for array in (x, weight, bias)]
    running = [torch.tensor(running_mean), torch.tensor(running_var)]
    wanted = torch.nn.functional.batch_norm(
        leaves[0], *running, leaves[1], leaves[2], training=training, momentum=momentum, eps=eps
    )
    wanted.backward(torch.tensor(grad_y))
    if channels_last:
        x, grad_y = (np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1) for array in (x, grad_y))

    if training:
        y, mean, rstd = kernels.batch_norm_forward(
            x, weight, bias, running_mean, running_var, axis=1, momentum=momentum, eps=eps
        )
    else:
        y = kernels.batch_norm_inference(x, weight, bias, running_mean, running_var, axis=1, eps=eps)
        mean, rstd = running_mean, 1 / np.sqrt(running_var + eps)
    grad_weight, grad_bias = (np.empty(channels), np.empty(channels)) if affine else (None, None)
    grad_x = kernels.batch_norm_backward(
        grad_y, x, weight, mean, rstd, grad_weight, grad_bias, axis=1, training=training
    )

    # Sums of n terms round n times, and whatever else is done less than 20 times, in either computation,
    # on numbers below 10 in magnitude: |x|, and |grad_y|, |xhat|, |weight * rstd| in products.
    n = x.size // channels
    tolerance = 2 * (n + 20) * EPS * 10
    assert max(np.abs(x).max(), np.abs(y).max(), np.abs(grad_y).max()) < 10
    compared = [(y, wanted, 1), (running_mean, running[0], 1), (running_var, running[1], 10)]
    compared += [(grad_x, leaves[0].grad, 10)]
    if affine:
        compared += [(grad_weight, leaves[1].grad, n), (grad_bias, leaves[2].grad, n)]
    for actual, expected, scale in compared:
        np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=0, atol=scale * tolerance)


def test_batch_norm_of_data_far_from_zero(kernels):
    """Mean 1e6 and deviation 1: a sum of x rounds to 1e6 eps, one of squares would round to 1e12 eps."""
    x = np.random.default_rng(3).normal(1e6, 1, (500, 2))
    y, mean, rstd = kernels.batch_norm_forward(x, None, None, None, None, axis=1, momentum=0.1, eps=1e-5)
    wanted = torch.nn.functional.batch_norm(torch.tensor(x), None, None, training=True).numpy()
    np.testing.assert_allclose(y, wanted, rtol=0, atol=500 * 1e6 * EPS)
    assert mean.dtype == rstd.dtype == np.float64 and math.isclose(rstd[0], 1, rel_tol=0.2)
