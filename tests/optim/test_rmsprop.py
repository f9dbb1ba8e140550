import pytest

from helpers.optimizer_checks import assert_option_changes_the_step, assert_option_is_refused, state_after_switching
from helpers.optimizers import every_backend
from numfuse.optim import RMSProp


@pytest.mark.parametrize("options, error, pattern", [
    ({"alpha": 1.5}, ValueError, "^alpha must be >= 0 and <= 1, was 1.5"),
    ({"nesterov": True}, ValueError, "^nesterov must be False unless momentum > 0"),
    ({"nesterov": None}, TypeError, "^nesterov must be True or False"),
    ({"centered": None}, TypeError, "^centered must be True or False"),
], ids=str)
def test_wrong_options_are_refused_at_construction_and_at_the_step(options, error, pattern):
    assert_option_is_refused(RMSProp, options, error, pattern)


@pytest.mark.parametrize("options, option", [
    ({"weight_decay": 0.5}, {"decoupled_weight_decay": True}),
    ({}, {"momentum": 0.9}),
    ({"momentum": 0.9}, {"nesterov": True}),
    ({}, {"alpha": 0.5}),
    ({}, {"centered": True}),
    ({}, {"eps": 0.5}),
], ids=str)
def test_every_option_changes_the_step(options, option):
    assert_option_changes_the_step(RMSProp, options, option)


@every_backend
def test_state_that_is_needed_later_comes_into_being(backend):
    state_after_switching(RMSProp, backend, {"momentum": 0.9, "centered": True})
