import numpy as np
import pytest

from helpers.optimizer_checks import assert_option_changes_the_step
from numfuse.optim import Lion


def test_decay_is_decoupled_unless_asked_otherwise(kernels):
    for decoupled, wanted in ((True, 8 * 0.5 + 1.0), (False, 8 - 1.0)):
        param = np.array([8.0])
        options = {} if decoupled else {"decoupled_weight_decay": False}
        optimizer = Lion([param], lr=1.0, weight_decay=0.5, **options).set_backend(kernels)
        optimizer.step([np.array([-1.0])])
        assert param.tolist() == [wanted]


def test_the_average_is_kept_under_the_name_of_adams(kernels):
    optimizer = Lion([np.zeros(2)], betas=(0.5, 0.75)).set_backend(kernels)
    optimizer.step([np.array([4.0, -8.0])])
    state = optimizer.state_dict()["state"][0]
    assert state["step"] == 1 and state["exp_avg"].tolist() == [1.0, -2.0]


@pytest.mark.parametrize("options, option", [
    ({}, {"betas": (0.1, 0.99)}), ({"betas": (0.5, 0.99)}, {"betas": (0.5, 0.1)}), ({}, {"weight_decay": 0.5}),
    ({"weight_decay": 0.5}, {"decoupled_weight_decay": False}),
], ids=str)
def test_every_option_changes_the_step(options, option):
    assert_option_changes_the_step(Lion, options, option)


@pytest.mark.parametrize("betas, error", [(0.9, TypeError), ((0.9,), TypeError), ((0.9, 1.0), ValueError),
                                          ((-0.1, 0.9), ValueError), (("a", 0.9), TypeError)])
def test_wrong_betas_are_refused(betas, error):
    with pytest.raises(error, match=r"^betas"):
        Lion([np.zeros(2)], betas=betas)
