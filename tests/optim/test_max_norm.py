"""Optimizers that limit the norms of rows."""

import numpy as np
import pytest

from helpers.optimizers import every_backend, every_class
from numfuse import optim


@pytest.mark.parametrize("ema_decay", [None, 0.75])
def test_optimizers_limit_the_weights_that_had_a_gradient(kernels, ema_decay):
    params = {"weight": np.full((2, 4), 3.0), "bias": np.full(2, 3.0), "still": np.full((2, 4), 3.0)}
    grads = {"weight": np.zeros((2, 4)), "bias": np.zeros(2)}
    optimizer = optim.SGD(params, lr=0.1, max_norm=2.0, ema_decay=ema_decay).set_backend(kernels)
    optimizer.step(grads)
    assert (params["weight"] == 1).all() and (params["bias"] == 3).all() and (params["still"] == 3).all()
    if ema_decay is not None:
        averages = [entry["ema_param"] for entry in optimizer.state_dict()["state"].values()]
        assert (averages[0] == 2.5).all() and (averages[1] == 3).all() and (averages[2] == 3).all()


def test_a_parameter_whose_rows_are_not_side_by_side_is_refused_before_anything_is_modified(kernels):
    params = [np.ones((2, 3)), np.asfortranarray(np.ones((2, 3)))]
    optimizer = optim.SGD(params, max_norm=0.5).set_backend(kernels)
    with pytest.raises(ValueError, match=r"^params\[1\] must be C-contiguous for max_norm"):
        optimizer.step([np.ones((2, 3)), np.asfortranarray(np.ones((2, 3)))])
    assert all((param == 1).all() for param in params)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_limit_that_comes_later_is_refused_before_anything_is_modified_too(kernels, groups):
    params = [np.asfortranarray(np.full((2, 3), 5.0)), np.ones((2, 3))]
    grads = [np.zeros_like(param) for param in params]
    optimizer = optim.SGD(params if groups == 1 else [{"params": [param]} for param in params]).set_backend(kernels)
    optimizer.step(grads)
    for group in optimizer.param_groups:
        group["max_norm"] = 0.5
    with pytest.raises(ValueError, match=r"^params\[0\] must be C-contiguous for max_norm"):
        optimizer.step(grads)
    assert (params[0] == 5).all() and (params[1] == 1).all()
    assert [entry["step"] for entry in optimizer.state_dict()["state"].values()] == [1, 1]


@every_class
@every_backend
def test_the_average_is_that_of_limited_weights(cls, backend):
    param = np.full((2, 2), 3.0)
    optimizer = cls([param], lr=0.1, max_norm=1.0, ema_decay=0.75).set_backend(backend)
    optimizer.step([np.ones((2, 2))])
    # A norm of 1 in each row, up to the roundings of it and of the average.
    np.testing.assert_allclose(param, np.full((2, 2), np.sqrt(0.5)), rtol=8 * np.finfo(float).eps)
    average = optimizer.state_dict()["state"][0]["ema_param"]
    np.testing.assert_allclose(average, 0.75 * 3 + 0.25 * param, rtol=8 * np.finfo(float).eps)
