import numpy as np
import pytest

from helpers.optimizer_checks import assert_option_changes_the_step
from numfuse.optim import Adagrad


def test_sums_begin_with_the_initial_value_and_lr_decay_reaches_decay_and_l1(kernels):
    param = np.array([8.0, -8.0])
    options = {"decoupled_weight_decay": True, "l1": 0.5, "l1_proximal": True}
    optimizer = Adagrad([param], lr=1.0, lr_decay=1.0, weight_decay=0.5, initial_accumulator_value=4.0, **options)
    optimizer.set_backend(kernels)
    assert optimizer.state_dict()["state"][0]["sum"].tolist() == [4.0, 4.0]
    optimizer.step([np.zeros(2)])
    assert param.tolist() == [8 * 0.5 - 0.5, -(8 * 0.5 - 0.5)]
    optimizer.step([np.zeros(2)])
    assert param.tolist() == [3.5 * 0.75 - 0.25, -(3.5 * 0.75 - 0.25)]
    assert optimizer.state_dict()["state"][0]["sum"].tolist() == [4.0, 4.0]


@pytest.mark.parametrize("options, option", [
    ({"weight_decay": 0.5}, {"decoupled_weight_decay": True}), ({}, {"lr_decay": 0.5}), ({}, {"eps": 0.5}),
    ({}, {"initial_accumulator_value": 0.5}),
], ids=str)
def test_every_option_changes_the_step(options, option):
    assert_option_changes_the_step(Adagrad, options, option)
