"""The options of optimizers."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from helpers.optimizer_checks import assert_option_changes_the_step, assert_option_is_refused, bits
from helpers.optimizers import CLASSES, FULL, every_backend, every_class
from numfuse.optim import SGD


def options_of(cls):
    """All options with their defaults."""
    group = dict(cls([np.ones(3)]).param_groups[0])
    del group["params"]
    return group


WRONG = [
    *[
        (cls, {name: value}, error, rf"^{name} must be ")
        for cls in CLASSES for name, default in options_of(cls).items() if isinstance(default, float)
        for value, error in [
            (-1.0, ValueError), (-1e-300, ValueError), (float("nan"), ValueError), (float("inf"), ValueError),
            (-np.inf, ValueError), (10**400, ValueError), (np.float32(-1), ValueError), ("0.1", TypeError),
            (None, TypeError), (True, TypeError), (np.ones(1), TypeError), (np.ones(2), TypeError),
            (np.True_, TypeError), (np.array(False), TypeError), (1j, TypeError), (b"1", TypeError),
        ]
    ],
    *[(cls, {"maximize": 0.0}, TypeError, "^maximize must be True or False, was 0.0") for cls in CLASSES],
    *[
        (cls, {name: value}, error, rf"^{name} must be ")
        for cls in CLASSES
        for name, value, error in [
            ("l1", -1.0, ValueError), ("l1", None, TypeError), ("l1_proximal", 1, TypeError),
            ("max_grad_value", 0, ValueError), ("max_grad_value", -1.0, ValueError),
            ("max_grad_value", np.nan, ValueError), ("max_grad_value", np.inf, ValueError),
            ("max_grad_value", "1", TypeError), ("max_norm", 0.0, ValueError), ("max_norm", np.inf, ValueError),
            ("max_norm", True, TypeError), ("ema_decay", 1.0, ValueError), ("ema_decay", -0.1, ValueError),
            ("ema_decay", np.nan, ValueError), ("ema_decay", "0.9", TypeError),
        ]
    ],
    *[(cls, {"decoupled_weight_decay": 1}, TypeError, "^decoupled_weight_decay must be True or False, was 1")
      for cls in CLASSES if not options_of(cls)["decoupled_weight_decay"]],
]


@pytest.mark.parametrize("cls, options, error, pattern", WRONG, ids=str)
def test_wrong_options_are_refused_at_construction_and_at_the_step(cls, options, error, pattern):
    assert_option_is_refused(cls, options, error, pattern)


@every_class
@pytest.mark.parametrize("name", ["max_grad_value", "max_norm"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits_that_are_no_normal_numbers_of_a_parameter_are_refused(cls, name, dtype):
    smallest = float(np.finfo(dtype).smallest_normal)
    params = [np.ones(2, np.float64), np.ones(3, dtype)]
    cls(params, **{name: smallest}).step([np.ones(2), np.ones(3, dtype)])
    optimizer = cls([{"params": params[:1]}, {"params": params[1:]}])
    before, message = bits(params), f"^{name} must be at least .* of {np.dtype(dtype)} parameters, was "
    for limit in (smallest * (1 - 1e-6), smallest / 2**20):
        with pytest.raises(ValueError, match=message):
            cls(params, **{name: limit})
        optimizer.param_groups[1][name] = limit
        with pytest.raises(ValueError, match=message):
            optimizer.step([np.ones(2), np.ones(3, dtype)])
        assert bits(params) == before
    cls(params[:1], **{name: float(np.finfo(np.float32).smallest_normal) / 2})


@every_class
def test_numbers_of_any_kind_are_taken(cls):
    one, other = np.ones(3), np.ones(3)
    cls([one], lr=np.float32(0.5), weight_decay=np.float64(1)).step([np.ones(3)])
    cls([other], lr=0.5, weight_decay=1).step([np.ones(3)])
    assert one.tobytes() == other.tobytes()


@every_class
@every_backend
def test_options_may_change_between_steps(cls, backend):
    param, grad = np.ones(3), np.ones(3)
    optimizer = cls([param], **FULL[cls]).set_backend(backend)
    optimizer.step([grad])
    before = param.copy()
    optimizer.param_groups[0]["lr"] = 0
    optimizer.param_groups[0]["weight_decay"] = 0
    optimizer.step([grad])
    assert param.tobytes() == before.tobytes()
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.1}
    optimizer.step([grad])
    assert (param < before).all()


@every_class
def test_options_may_neither_vanish_nor_appear(cls):
    param = np.ones(3)
    optimizer = cls([param])
    optimizer.param_groups[0]["learning_rate"] = 0.1
    with pytest.raises(ValueError, match=r"param_groups\[0\] has an unknown entry 'learning_rate'"):
        optimizer.step([np.ones(3)])
    del optimizer.param_groups[0]["learning_rate"], optimizer.param_groups[0]["lr"]
    with pytest.raises(ValueError, match=r"param_groups\[0\] lacks the entry 'lr'"):
        optimizer.step([np.ones(3)])
    assert param.tolist() == [1, 1, 1]


@every_class
@pytest.mark.parametrize("options, option", [
    ({}, {"l1": 0.1}), ({"l1": 0.1}, {"l1_proximal": True}), ({}, {"max_grad_value": 0.1}), ({}, {"maximize": True}),
    ({}, {"max_norm": 0.5}), ({"weight_decay": 0.0}, {"weight_decay": 0.5}),
], ids=str)
def test_every_option_changes_the_step(cls, options, option):
    assert_option_changes_the_step(cls, options, option)


@every_class
def test_a_misspelt_option_is_named_with_the_class_and_its_options(cls):
    with pytest.raises(TypeError, match=rf"^{cls.__name__} has no option 'weigth_decay'; besides lr, .*weight_decay"):
        cls([np.ones(3)], weigth_decay=0.1)


@pytest.mark.parametrize("value", [np.array(0.25), np.float32(0.25), np.float16(0.25), Fraction(1, 4), Decimal("0.25"),
                                   np.longdouble(0.25)], ids=lambda value: type(value).__name__)
def test_whatever_is_a_number_to_float_will_do(value):
    params = [np.ones(2), np.ones(2)]
    for param, lr in zip(params, (value, 0.25)):
        optimizer = SGD([param], lr=lr)
        optimizer.step([np.array([1.0, 2.0])])
        assert type(optimizer.param_groups[0]["lr"]) is float
    assert params[0].tobytes() == params[1].tobytes()
