import math
from fractions import Fraction

import numpy as np
import pytest

from numfuse import optim
from numfuse.checks import finite, number, real
from numfuse.nn import init

every_check = pytest.mark.parametrize("check", [real, finite, number])
HUGE = 10**400  # beyond float64


@every_check
@pytest.mark.parametrize("value", [True, None, "1", 1j, np.ones(1), np.bool_(True)], ids=repr)
def test_what_is_no_number_is_refused(check, value):
    with pytest.raises(TypeError, match="^x must be a number, was "):
        check("x", value)


@every_check
@pytest.mark.parametrize("value", [2, 2.0, np.float32(2), np.int8(2), Fraction(2)], ids=repr)
def test_numbers_become_floats(check, value):
    x = check("x", value)
    assert type(x) is float and x == 2


def test_which_numbers_each_check_takes():
    assert [real("x", value) for value in (-1, math.inf, HUGE, -HUGE)] == [-1, math.inf, math.inf, -math.inf]
    assert math.isnan(real("x", np.float64("nan"))) and finite("x", -1.5) == -1.5
    for value in (math.inf, -math.inf, math.nan, HUGE, -HUGE):
        with pytest.raises(ValueError, match="^x must be finite, was "):
            finite("x", value)
        with pytest.raises(ValueError, match="^x must be >= 0"):
            number("x", value)
    with pytest.raises(ValueError, match="^x must be >= 0, was -1.5"):
        number("x", -1.5)


def test_numbers_beyond_float64_are_infinite_bounds_and_metrics():
    assert (init.trunc_normal(np.ones(50), a=0, b=HUGE, rng=0) >= 0).all()
    plateau = optim.schedules.ReduceLROnPlateau(patience=0, factor=0.5)
    scheduler = optim.Scheduler(optim.SGD([np.ones(2)], lr=1.0), lr=plateau)
    scheduler.step(HUGE)
    assert scheduler.optimizer.param_groups[0]["lr"] == 0.5
