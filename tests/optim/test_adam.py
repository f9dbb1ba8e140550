import numpy as np
import pytest

from helpers.optimizer_checks import assert_option_changes_the_step, assert_option_is_refused, state_after_switching
from helpers.optimizers import every_backend
from numfuse.optim import Adam, AdamW


@pytest.mark.parametrize("cls", [Adam, AdamW])
@pytest.mark.parametrize("options, error, pattern", [
    ({"betas": (1.0, 0.9)}, ValueError, r"^betas\[0\] must be >= 0 and < 1, was 1.0"),
    ({"betas": (0.9, -0.1)}, ValueError, r"^betas\[1\] must be >= 0, was -0.1"),
    ({"betas": (0.9, np.nan)}, ValueError, r"^betas\[1\] must be"),
    ({"betas": (0.9, "0.9")}, TypeError, r"^betas\[1\] must be a number"),
    ({"betas": 0.9}, TypeError, "^betas must be a pair"),
    ({"betas": (0.9,)}, TypeError, "^betas must be a pair"),
    ({"amsgrad": "yes"}, TypeError, "^amsgrad must be True or False"),
], ids=str)
def test_wrong_options_are_refused_at_construction_and_at_the_step(cls, options, error, pattern):
    assert_option_is_refused(cls, options, error, pattern)


@pytest.mark.parametrize("options, option", [
    ({"weight_decay": 0.5}, {"decoupled_weight_decay": True}),
    ({}, {"betas": (0.5, 0.999)}),
    ({}, {"betas": (0.9, 0.5)}),
    ({}, {"eps": 0.5}),
    ({"betas": (0.9, 0.5)}, {"amsgrad": True}),
], ids=str)
def test_every_option_changes_the_step(options, option):
    assert_option_changes_the_step(Adam, options, option)


@every_backend
def test_state_that_is_needed_later_comes_into_being(backend):
    state_after_switching(Adam, backend, {"amsgrad": True})
