"""The activations against PyTorch's, in float64."""

import math

import numpy as np
import pytest

from numfuse import nn

torch = pytest.importorskip("torch", reason="needs PyTorch: parity with a peer, never a dependency")

EPS = np.finfo(np.float64).eps
LAYERS = [
    ("Sigmoid", {}),
    ("Tanh", {}),
    ("LeakyReLU", {}),
    ("LeakyReLU", {"negative_slope": 0.3}),
    ("LeakyReLU", {"negative_slope": 0}),
    ("LeakyReLU", {"negative_slope": -0.5}),
    ("ELU", {}),
    ("ELU", {"alpha": 0.3}),
    ("ELU", {"alpha": 2}),
    ("SiLU", {}),
    ("GELU", {}),
    ("GELU", {"approximate": "none"}),
    ("GELU", {"approximate": "tanh"}),
    ("Softmax", {"dim": -1}),
]
each_layer = pytest.mark.parametrize("name, options", LAYERS, ids=str)


def run_both(name, options, x, grad_y, kernels):
    """y and grad_x of ours, then of PyTorch's."""
    ours, theirs = getattr(nn, name)(**options).set_backend(kernels), getattr(torch.nn, name)(**options)
    input = torch.from_numpy(x.copy()).requires_grad_()
    output = theirs(input)
    output.backward(torch.from_numpy(grad_y))
    return (ours(x), ours.backward(grad_y)), (output.detach().numpy(), input.grad.numpy())


@each_layer
@pytest.mark.parametrize("shape", [(4, 7), (3, 2, 40)])
def test_values_and_gradients(kernels, name, options, shape):
    rng = np.random.default_rng(1)
    x, grad_y = 3 * rng.standard_normal(shape), rng.standard_normal(shape)
    (y, grad_x), (expected, expected_grad) = run_both(name, options, x, grad_y, kernels)
    # exp, tanh and erf of two libraries, within a few ulp each, in numbers of at most 10; derivatives are at most 2.
    np.testing.assert_allclose(y, expected, rtol=0, atol=200 * EPS)
    np.testing.assert_allclose(grad_x, expected_grad, rtol=0, atol=200 * EPS * np.abs(grad_y).max())


@each_layer
def test_rare_numbers(kernels, name, options):
    x = np.array([-0.0, 0, -1e-320, -1e300, 1e300, -math.inf, math.inf, math.nan])
    if name == "Softmax":
        x = np.stack([x, np.ones(8), np.full(8, 2.0)], axis=1)
    (y, grad_x), (expected, expected_grad) = run_both(name, options, x, np.ones_like(x), kernels)
    np.testing.assert_allclose(y, expected, rtol=0, atol=200 * EPS)
    # PyTorch's derivatives of NaN are those of negative or of positive numbers for two functions, and its tanh
    # approximation of GELU has none at large numbers.
    known = np.isfinite(expected_grad) if "approximate" in options or name == "ELU" else np.ones(x.shape, bool)
    if name == "ELU":
        known &= ~np.isnan(x)
    np.testing.assert_allclose(grad_x[known], expected_grad[known], rtol=0, atol=200 * EPS)


@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_gains_are_those_of_pytorch(alpha):
    assert nn.init.calculate_gain("leaky_relu", alpha) == torch.nn.init.calculate_gain("leaky_relu", alpha)
