import numpy as np
import pytest

from helpers.optimizer_checks import assert_option_changes_the_step, assert_option_is_refused, state_after_switching
from helpers.optimizers import every_backend
from numfuse.optim import SGD

HEAVY = {"momentum": 0.9}


@pytest.mark.parametrize("options, error, pattern", [
    ({"nesterov": True}, ValueError, "^nesterov must be False unless momentum > 0"),
    ({"nesterov": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "^nesterov.*dampening 0.1"),
    ({"nesterov": 1}, TypeError, "^nesterov must be True or False, was 1"),
    ({"running_average": 1}, TypeError, "^running_average must be True or False, was 1"),
    ({"running_average": True, "momentum": 1.0}, ValueError, "^running_average must be False.*momentum 1.0"),
    ({"running_average": True, "momentum": 0.9, "dampening": 0.1}, ValueError, "^running_average.*dampening 0.1"),
], ids=str)
def test_wrong_options_are_refused_at_construction_and_at_the_step(options, error, pattern):
    assert_option_is_refused(SGD, options, error, pattern)


@pytest.mark.parametrize("options, option", [
    ({**HEAVY, "weight_decay": 0.5}, {"decoupled_weight_decay": True}),
    ({}, HEAVY),
    (HEAVY, {"dampening": 0.5}),
    (HEAVY, {"nesterov": True}),
    (HEAVY, {"running_average": True}),
], ids=str)
def test_every_option_changes_the_step(options, option):
    assert_option_changes_the_step(SGD, options, option)


def test_momentum_switched_off_before_the_first_step_and_on_later_starts_with_the_gradient():
    param, grad = np.zeros(1), np.ones(1)
    optimizer = SGD([param], lr=1.0, momentum=0.9, dampening=0.5)
    optimizer.param_groups[0]["momentum"] = 0.0
    optimizer.step([grad])
    optimizer.param_groups[0]["momentum"] = 0.9
    optimizer.step([grad])
    assert param[0] == -2.0


@every_backend
def test_state_that_is_needed_later_comes_into_being(backend):
    state = state_after_switching(SGD, backend, {"momentum": 0.9, "dampening": 0.5})
    # As in PyTorch, the first gradient with momentum is the first velocity, undamped.
    assert state["momentum_buffer"].tolist() == [0.25] * 3
