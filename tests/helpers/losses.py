"""Comparisons of the kernels of losses with their references."""

import numpy as np

from helpers.parity import assert_same_bits, case_arguments, results_of
from numfuse import reference


def assert_terms_have_the_same_bits(kernels, case, dtype, size, special):
    """All terms of a value are positive, so that their relative error is the value's; their sums are in float64."""
    arguments = case_arguments(case, size, dtype, special)
    expected, actual = results_of(reference, case, arguments), results_of(kernels, case, arguments)
    sums = arguments["target"].size * np.finfo(np.float64).eps
    np.testing.assert_allclose(actual["value"], expected["value"], rtol=2 * sums)
    if arguments["sample_weight"] is not None:  # the share of a mean comes from a sum of weights
        np.testing.assert_allclose(actual["out"], expected["out"], rtol=sums + 2 * np.finfo(dtype).eps,
                                   atol=np.finfo(dtype).tiny)
        arguments["mean"] = False
        expected, actual = results_of(reference, case, arguments), results_of(kernels, case, arguments)
    assert_same_bits([actual["out"]], [expected["out"]], case.name)


def assert_terms_are_close(kernels, case, dtype, size, special):
    """exp and log of NumPy are within 4 ulp (its own promise), ours within 2, and an ulp is at most eps of the number.

    A loss and a gradient take three of them, and a few roundings, of numbers that begin at 1, and as much with
    weights and smoothing.
    """
    arguments = case_arguments(case, size, dtype, special)
    expected, actual = results_of(reference, case, arguments), results_of(kernels, case, arguments)
    sums = arguments["target"].size * np.finfo(np.float64).eps
    error = (16 if case.options == "" else 32) * np.finfo(dtype).eps
    np.testing.assert_allclose(actual["value"], expected["value"], rtol=error + sums, atol=error)
    np.testing.assert_allclose(actual["out"], expected["out"], rtol=0, atol=error * largest_share(arguments))


def largest_share(arguments):
    """The most that an element or row counts in the mean: its weights, the largest there are, over the sum of all."""
    target, one = arguments["target"], np.ones(1)
    weights = [arguments.get(name) for name in ("weight", "pos_weight", "sample_weight")]
    v, p, w = (one if weight is None else weight.astype(np.float64) for weight in weights)
    w = np.broadcast_to(w.reshape(-1, *[1] * (target.ndim - 1)), target.shape)
    total = (v[target] * w if len(v) > 1 else w).sum()
    return v.max() * max(1, p.max()) * w.max() / total if target.size else 1
