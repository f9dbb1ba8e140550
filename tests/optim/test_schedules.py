import copy
import json
import math
import pickle

import numpy as np
import pytest

from numfuse.optim import SGD, Adam, Scheduler
from numfuse.optim.schedules import (
    ChainedScheduler, ConstantLR, CosineAnnealingLR, CosineAnnealingWarmRestarts, ExponentialLR, LambdaLR, LinearLR,
    MultiStepLR, OneCycleLR, OneCycleMomentum, PolynomialLR, ReduceLROnPlateau, Schedule, SequentialLR, StepLR,
)

PLATEAU = ReduceLROnPlateau(factor=0.5, patience=1)
COSINE_3_OF_4 = (1 - math.sqrt(0.5)) / 2


def values(schedule, steps, base=1.0):
    return [schedule(step, base) for step in range(steps)]


# Powers of 2 are exact; others are rounded a few times, numbers of at most 100 in magnitude.
@pytest.mark.parametrize("schedule, expected", [
    (LambdaLR(lambda step: 2.0**-step), [1, 0.5, 0.25]),
    (ConstantLR(), [1 / 3] * 5 + [1]),
    (ConstantLR(factor=0.5, total_iters=2), [0.5, 0.5, 1, 1]),
    (StepLR(2), [1, 1, 0.1, 0.1, 0.01]),
    (StepLR(3, gamma=2), [1, 1, 1, 2, 2, 2, 4]),
    (MultiStepLR([1, 4], gamma=0.5), [1, 0.5, 0.5, 0.5, 0.25, 0.25]),
    (MultiStepLR([]), [1, 1]),
    (ExponentialLR(gamma=0.5), [1, 0.5, 0.25]),
    (ExponentialLR(gamma=0), [1, 0, 0]),
    (LinearLR(), [1 / 3, 7 / 15, 9 / 15, 11 / 15, 13 / 15, 1, 1]),
    (LinearLR(start_factor=0, total_iters=4), [0, 0.25, 0.5, 0.75, 1, 1]),
    (LinearLR(start_factor=1, end_factor=0.5, total_iters=2), [1, 0.75, 0.5, 0.5]),
    (PolynomialLR(total_iters=4), [1, 0.75, 0.5, 0.25, 0, 0]),
    (PolynomialLR(total_iters=4, power=2), [1, 9 / 16, 1 / 4, 1 / 16, 0]),
    (CosineAnnealingLR(T_max=2), [1, 0.5, 0, 0.5, 1]),
    (CosineAnnealingLR(T_max=4, eta_min=0.5),
     [1, 1 - COSINE_3_OF_4 / 2, 0.75, 0.5 + COSINE_3_OF_4 / 2, 0.5, 0.5 + COSINE_3_OF_4 / 2]),
    (CosineAnnealingWarmRestarts(T_0=2), [1, 0.5, 1, 0.5, 1]),
    (CosineAnnealingWarmRestarts(T_0=1, T_mult=2), [1, 1, 0.5, 1, 1 - COSINE_3_OF_4, 0.5, COSINE_3_OF_4, 1]),
    (OneCycleLR(None, 5, pct_start=0.6, anneal_strategy="linear", div_factor=2, final_div_factor=4),
     [0.5, 0.75, 1, 0.5625, 0.125, 0.125, 0.125]),
    (OneCycleLR(100, 5, pct_start=0.6, div_factor=2, final_div_factor=4), [50, 75, 100, 56.25, 12.5, 12.5]),
    (OneCycleLR(None, 8, pct_start=0.375, anneal_strategy="linear", div_factor=2, final_div_factor=4, three_phase=True),
     [0.5, 0.75, 1, 0.75, 0.5, 0.375, 0.25, 0.125, 0.125]),
    (OneCycleLR(None, 4, pct_start=0.25, anneal_strategy="linear", div_factor=2, final_div_factor=1),
     [0.5, 5 / 6, 4 / 6, 0.5]),
    (OneCycleLR(None, 1), [0.25 / 25 * 4 / 1e4]),
    (OneCycleLR(None, 1, pct_start=1), [0.04, 0.04 / 1e4]),
    (OneCycleMomentum(5, pct_start=0.6, anneal_strategy="linear", base_momentum=0.5, max_momentum=1),
     [1, 0.75, 0.5, 0.75, 1, 1]),
    (OneCycleMomentum(8, 0.375, "linear", 0.5, 1, three_phase=True), [1, 0.75, 0.5, 0.75, 1, 1, 1, 1, 1]),
    (ChainedScheduler([LinearLR(start_factor=0.5, total_iters=2), ExponentialLR(0.5)]), [0.5, 0.375, 0.25, 0.125]),
    (ChainedScheduler([ExponentialLR(0.5), CosineAnnealingLR(T_max=2, eta_min=0.1)]), [1, 0.3, 0.1]),
    (SequentialLR([ConstantLR(0.5), ExponentialLR(0.5), StepLR(1)], [2, 5]), [0.5, 0.5, 1, 0.5, 0.25, 1, 0.1]),
    (SequentialLR([StepLR(1)], []), [1, 0.1, 0.01]),
], ids=str)
def test_values_are_those_of_the_formula(schedule, expected):
    np.testing.assert_allclose(values(schedule, len(expected)), expected, rtol=0, atol=100 * 8 * np.finfo(float).eps)
    if isinstance(schedule, OneCycleLR) and schedule.max_lr is None:
        np.testing.assert_allclose(values(schedule, len(expected), base=0.25), np.array(expected) / 4, rtol=1e-12)


def observed(schedule, metrics, first=0):
    for step, metric in enumerate(metrics, first):
        schedule = schedule.observe(step, metric)
    return schedule


@pytest.mark.parametrize("options, metrics, reductions", [
    ({}, [1] * 11, 0),
    ({}, [1] * 12, 1),
    ({"patience": 0}, [3, 2, 1, 1, 1], 2),
    ({"patience": 1}, [3, 3, 2, 2, 1, 1], 0),
    ({"patience": 1}, [3, 3, 3, 3, 3], 2),
    ({"patience": 0, "mode": "max"}, [3, 2, 1], 2),
    ({"patience": 0, "mode": "max"}, [1, 2, 3], 0),
    ({"patience": 0, "threshold": 0.5}, [4, 2.1, 1.9], 1),
    ({"patience": 0, "threshold": 0.5, "mode": "max"}, [2, 2.9, 3.1], 1),
    ({"patience": 0, "threshold": 1, "threshold_mode": "abs"}, [4, 3.5, 2.9], 1),
    ({"patience": 0, "threshold": 1, "threshold_mode": "abs", "mode": "max"}, [-4, -3.5, -2.9], 1),
    ({"patience": 0, "cooldown": 2}, [1, 1, 1, 1], 1),
    ({"patience": 0, "cooldown": 2}, [1, 1, 1, 1, 1], 2),
    ({"patience": 0}, [1, math.nan, math.nan, 0.5], 2),
    ({"patience": 0}, [math.inf, 1], 1),
], ids=str)
def test_reductions_on_a_plateau(options, metrics, reductions):
    schedule = observed(ReduceLROnPlateau(**options), metrics)
    assert schedule.reductions == reductions
    assert schedule(99, 1.0) == [1.0, 0.1, 0.1 * 0.1][reductions]


def test_a_plateau_has_a_floor_and_a_smallest_change():
    assert ReduceLROnPlateau(factor=0.5, min_lr=0.3, reductions=3)(0, 1.0) == 0.3
    assert ReduceLROnPlateau(factor=0.5, eps=0.2, reductions=9)(0, 1.0) == 0.25
    assert ReduceLROnPlateau(factor=0.5, min_lr=0.3, reductions=1)(0, 0.2) == 0.2


def test_schedules_within_others_observe_metrics():
    product = observed(ChainedScheduler([ExponentialLR(0.5), PLATEAU]), [1, 1, 1])
    assert values(product, 3) == [0.5, 0.25, 0.125]
    sequence = observed(SequentialLR([ConstantLR(1), PLATEAU], [3]), [9, 9, 9])
    assert sequence(3, 1.0) == 1.0
    assert observed(sequence, [9, 9], first=3)(5, 1.0) == 1.0
    assert observed(sequence, [9, 9, 9], first=3)(6, 1.0) == 0.5
    assert PLATEAU.reductions == 0


def optimizer_of_two_groups(**options):
    return SGD([{"params": [np.ones(2)]}, {"params": [np.ones(3)], "lr": 0.5}], lr=1.0, momentum=0.8, **options)


def options_of(optimizer, *names):
    return [tuple(group[name] for name in names) for group in optimizer.param_groups]


def test_every_group_has_its_own_base_value():
    optimizer = optimizer_of_two_groups()
    scheduler = Scheduler(optimizer, lr=ExponentialLR(0.5), momentum=ConstantLR(0.5, total_iters=2))
    for expected in ([(1, 0.4), (0.5, 0.4)], [(0.5, 0.4), (0.25, 0.4)], [(0.25, 0.8), (0.125, 0.8)]):
        assert options_of(optimizer, "lr", "momentum") == expected
        scheduler.step()
    assert scheduler.steps == 3


def test_groups_may_have_their_own_schedules():
    optimizer = optimizer_of_two_groups()
    scheduler = Scheduler(optimizer, lr=[ExponentialLR(0.5), StepLR(2)], momentum=[None, ExponentialLR(0)])
    for _ in range(2):
        scheduler.step()
    assert options_of(optimizer, "lr", "momentum") == [(0.25, 0.8), (0.05, 0.0)]


def test_one_of_the_betas():
    optimizer = Adam([np.ones(2)], betas=(0.5, 0.75))
    scheduler = Scheduler(optimizer, betas=(None, ExponentialLR(0.5)))
    scheduler.step()
    assert options_of(optimizer, "betas") == [((0.5, 0.375),)]
    both = Scheduler(optimizer, betas=(StepLR(1), ExponentialLR(0.5)))
    both.step()
    assert options_of(optimizer, "betas") == [((0.05, 0.1875),)]


def test_the_largest_norm():
    optimizer = optimizer_of_two_groups(max_grad_norm=4.0)
    scheduler = Scheduler(optimizer, max_grad_norm=ExponentialLR(0.5), lr=StepLR(1))
    scheduler.step()
    assert optimizer.max_grad_norm == 2.0 and options_of(optimizer, "lr") == [(0.1,), (0.05,)]


@pytest.mark.parametrize("rate", [np.float32(0.5), np.float64(0.5), np.int64(1), 1])
def test_base_values_of_any_kind_are_saved_as_numbers(rate):
    optimizer = optimizer_of_two_groups()
    optimizer.param_groups[0]["lr"] = rate
    scheduler = Scheduler(optimizer, lr=ExponentialLR(0.5))
    scheduler.step()
    assert json.loads(json.dumps(scheduler.state_dict()))["schedules"][0]["base"] == rate
    assert options_of(optimizer, "lr") == [(rate / 2,), (0.25,)]


def test_a_schedule_of_ones_own():
    class Inverse(Schedule):
        def __call__(self, step, base):
            return base / (1 + step)

    optimizer = optimizer_of_two_groups()
    scheduler = Scheduler(optimizer, lr=ChainedScheduler([Inverse(), ConstantLR(0.5, 1)]))
    scheduler.step()
    assert options_of(optimizer, "lr") == [(0.5,), (0.25,)]


def every_kind(optimizer):
    plateau = ChainedScheduler([LinearLR(total_iters=3), ReduceLROnPlateau(patience=0, cooldown=1)])
    return Scheduler(optimizer, lr=plateau, momentum=SequentialLR([LinearLR(), PLATEAU], [2]))


METRICS = [3.0, 2.0, 2.5, 2.5, 2.5, 1.0, 1.5, 1.5, 1.5, 1.5, 1.5]


@pytest.mark.parametrize("stop", [0, 1, 4, 9])
def test_state_dict_goes_through_json_and_continues_with_the_same_bits(stop):
    whole = optimizer_of_two_groups()
    scheduler, wanted = every_kind(whole), []
    for metric in METRICS:
        scheduler.step(metric)
        wanted.append(options_of(whole, "lr", "momentum"))
    first = optimizer_of_two_groups()
    scheduler = every_kind(first)
    for metric in METRICS[:stop]:
        scheduler.step(metric)
    saved = json.loads(json.dumps(scheduler.state_dict()))
    resumed = optimizer_of_two_groups()
    resumed.load_state_dict(first.state_dict())
    scheduler = every_kind(resumed)  # takes for base values what it finds; the state knows better
    scheduler.load_state_dict(saved)
    assert options_of(resumed, "lr", "momentum") == options_of(first, "lr", "momentum")
    assert scheduler.state_dict() == saved
    seen = []
    for metric in METRICS[stop:]:
        scheduler.step(metric)
        seen.append(options_of(resumed, "lr", "momentum"))
    assert seen == wanted[stop:] and wanted[stop:][0] != wanted[-1]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_scheduler_is_copied_and_pickled_with_its_optimizer(duplicate):
    optimizer = optimizer_of_two_groups()
    scheduler = every_kind(optimizer)
    twin, twin_scheduler = duplicate((optimizer, scheduler))
    for metric in METRICS:
        twin_scheduler.step(metric)
    assert scheduler.steps == 0 and options_of(optimizer, "lr") == [(1 / 3,), (1 / 6,)]
    for metric in METRICS:
        scheduler.step(metric)
    assert options_of(optimizer, "lr", "momentum") == options_of(twin, "lr", "momentum")


def test_state_dict_is_plain():
    scheduler = Scheduler(Adam([np.ones(2)]), betas=(StepLR(3), None), lr=ReduceLROnPlateau())
    scheduler.step(np.float32(2))
    assert scheduler.state_dict() == {"step": 1, "schedules": [
        {"option": "betas[0]", "group": 0, "base": 0.9, "state": {}},
        {"option": "lr", "group": 0, "base": 0.001,
         "state": {"best": 2.0, "num_bad_epochs": 0, "cooldown_counter": 0, "reductions": 0}},
    ]}


TOTALS = [
    (ConstantLR, "total_iters"), (LinearLR, "total_iters"), (PolynomialLR, "total_iters"), (StepLR, "step_size"),
    (CosineAnnealingLR, "T_max"), (CosineAnnealingWarmRestarts, "T_0"), (OneCycleMomentum, "total_steps"),
]


@pytest.mark.parametrize("make, name", TOTALS)
@pytest.mark.parametrize("value, error, said", [
    (0, ValueError, "must be at least 1, was 0"), (-3, ValueError, "must be at least 1, was -3"),
    (2.0, TypeError, "must be an integer, was 2.0"), (None, TypeError, "must be an integer"),
])
def test_wrong_totals_are_refused(make, name, value, error, said):
    with pytest.raises(error, match=f"^{name} {said}"):
        make(**{name: value})


@pytest.mark.parametrize("make, error, pattern", [
    (lambda: LambdaLR(0.5), TypeError, "^lr_lambda must be a function"),
    (lambda: ConstantLR(factor=-1), ValueError, "^factor must be >= 0"),
    (lambda: ConstantLR(factor=math.nan), ValueError, "^factor must be >= 0"),
    (lambda: StepLR(3, gamma="0.1"), TypeError, "^gamma must be a number"),
    (lambda: ExponentialLR(-0.1), ValueError, "^gamma must be >= 0"),
    (lambda: LinearLR(start_factor=math.inf), ValueError, "^start_factor must be >= 0 and finite"),
    (lambda: LinearLR(end_factor=-1), ValueError, "^end_factor must be >= 0"),
    (lambda: PolynomialLR(power=-1), ValueError, "^power must be >= 0"),
    (lambda: CosineAnnealingLR(5, eta_min=-1), ValueError, "^eta_min must be >= 0"),
    (lambda: CosineAnnealingWarmRestarts(5, T_mult=0), ValueError, "^T_mult must be at least 1"),
    (lambda: MultiStepLR(3), TypeError, "^milestones must be a list of integers, was 3"),
    (lambda: MultiStepLR([1, 1]), ValueError, r"^milestones must increase, was \[1, 1\]"),
    (lambda: MultiStepLR([0, 1]), ValueError, r"^milestones\[0\] must be at least 1"),
    (lambda: MultiStepLR([1, 2.5]), TypeError, r"^milestones\[1\] must be an integer"),
    (lambda: OneCycleLR(-1, 5), ValueError, "^max_lr must be >= 0"),
    (lambda: OneCycleLR(None, 0), ValueError, "^total_steps must be at least 1"),
    (lambda: OneCycleLR(None, 5, pct_start=1.5), ValueError, "^pct_start must be from 0 to 1, was 1.5"),
    (lambda: OneCycleLR(None, 5, pct_start=0.6, three_phase=True), ValueError, "^pct_start must be from 0 to 0.5"),
    (lambda: OneCycleLR(None, 5, anneal_strategy="sin"), ValueError, "^anneal_strategy must be one of 'cos', 'linear'"),
    (lambda: OneCycleLR(None, 5, div_factor=0), ValueError, "^div_factor must be > 0"),
    (lambda: OneCycleLR(None, 5, final_div_factor=0), ValueError, "^final_div_factor must be > 0"),
    (lambda: OneCycleMomentum(5, max_momentum=-1), ValueError, "^max_momentum must be >= 0"),
    (lambda: ReduceLROnPlateau(mode="least"), ValueError, "^mode must be one of 'min', 'max', was 'least'"),
    (lambda: ReduceLROnPlateau(factor=1.0), ValueError, "^factor must be >= 0 and < 1, was 1.0"),
    (lambda: ReduceLROnPlateau(threshold_mode="none"), ValueError, "^threshold_mode must be one of"),
    (lambda: ReduceLROnPlateau(patience=-1), ValueError, "^patience must be at least 0"),
    (lambda: ReduceLROnPlateau(min_lr=-1), ValueError, "^min_lr must be >= 0"),
    (lambda: ChainedScheduler([]), TypeError, "^schedules must be a list of at least one"),
    (lambda: ChainedScheduler(StepLR(3)), TypeError, "^schedules must be a list"),
    (lambda: ChainedScheduler([StepLR(3), 0.5]), TypeError, r"^schedules\[1\] must be a schedule"),
    (lambda: SequentialLR([StepLR(3), StepLR(4)], []), ValueError, "^milestones must have length 1.*was 0"),
    (lambda: SequentialLR([StepLR(3)], [5]), ValueError, "^milestones must have length 0.*was 1"),
    (lambda: SequentialLR([StepLR(3)] * 3, [5, 4]), ValueError, "^milestones must increase"),
])
def test_wrong_schedules_are_refused(make, error, pattern):
    with pytest.raises(error, match=pattern):
        make()


@pytest.mark.parametrize("schedules, error, pattern", [
    ({}, TypeError, "needs at least one schedule"),
    ({"rate": StepLR(3)}, ValueError, "^SGD has no option 'rate' to schedule; valid are 'lr', 'momentum'"),
    ({"params": StepLR(3)}, ValueError, "^SGD has no option 'params'"),
    ({"lr": 0.1}, TypeError, "^lr must be a schedule of numfuse.optim.schedules, was 0.1"),
    ({"lr": StepLR}, TypeError, "^lr must be a schedule"),
    ({"lr": (StepLR(3), None)}, TypeError, "^lr must be a schedule"),
    ({"lr": [StepLR(3)]}, ValueError, "^lr must be a schedule or a list of 2.*was a list of 1"),
    ({"lr": [StepLR(3)] * 3}, ValueError, "^lr must be a schedule or a list of 2.*was a list of 3"),
    ({"nesterov": StepLR(3)}, TypeError, "^nesterov that has a schedule must be a number, was False"),
    ({"max_grad_norm": StepLR(3)}, TypeError, "^max_grad_norm that has a schedule must be a number, was None"),
    ({"lr": ExponentialLR(0.5), "momentum": LambdaLR(lambda step: -1.0)}, ValueError, "^momentum must be >= 0, was -0.8"),
    ({"lr": LambdaLR(lambda step: math.nan)}, ValueError, "^lr must be >= 0 and finite, was nan"),
    ({"lr": ExponentialLR(0.5), "momentum": LambdaLR(lambda step: np.ones(2))}, TypeError, "^momentum must be a number"),
])
def test_wrong_schedulers_are_refused_before_anything_is_set(schedules, error, pattern):
    optimizer = optimizer_of_two_groups()
    before = repr(optimizer)
    with pytest.raises(error, match=pattern):
        Scheduler(optimizer, **schedules)
    assert repr(optimizer) == before


def test_a_pair_needs_a_pair_of_schedules():
    optimizer = Adam([np.ones(2)])
    for wrong in (StepLR(3), (StepLR(3),), (StepLR(3),) * 3):
        with pytest.raises(TypeError, match="^betas must have a tuple of 2 schedules or None"):
            Scheduler(optimizer, betas=wrong)
    with pytest.raises(TypeError, match=r"^betas\[1\] must be a schedule"):
        Scheduler(optimizer, betas=(None, 0.9))
    with pytest.raises(ValueError, match=r"^betas\[0\] must be >= 0 and < 1"):
        Scheduler(optimizer, betas=(ConstantLR(2.0), None))
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def test_what_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="^optimizer must be an Optimizer, was list"):
        Scheduler([np.ones(2)], lr=StepLR(3))


def test_a_step_that_fails_changes_nothing():
    optimizer = optimizer_of_two_groups(max_grad_norm=1.0)
    scheduler = Scheduler(
        optimizer, lr=PLATEAU, momentum=LambdaLR(lambda step: 1.0 if step < 2 else -1.0),
        max_grad_norm=LambdaLR(lambda step: 1.0 if step < 1 else 0.5),
    )
    scheduler.step(1.0)

    def state():
        return json.dumps(scheduler.state_dict()), repr(optimizer)

    before = state()
    for metric, error, pattern in [
        (None, ValueError, "^metric must be given to a scheduler with ReduceLROnPlateau"),
        ("1", TypeError, "^metric must be a number, was '1'"),
        (True, TypeError, "^metric must be a number"),
        (1.0, ValueError, "^momentum must be >= 0, was -0.8"),
    ]:
        with pytest.raises(error, match=pattern):
            scheduler.step(metric)
        assert state() == before


def test_a_largest_norm_that_becomes_0_changes_nothing():
    optimizer = optimizer_of_two_groups(max_grad_norm=1.0)
    scheduler = Scheduler(optimizer, lr=ExponentialLR(0.5), max_grad_norm=PolynomialLR(total_iters=1))
    before = repr(optimizer)
    with pytest.raises(ValueError, match="^max_grad_norm must be > 0"):
        scheduler.step()
    assert repr(optimizer) == before and scheduler.steps == 0


def test_growth_beyond_all_numbers_is_named():
    optimizer = optimizer_of_two_groups()
    scheduler = Scheduler(optimizer, lr=ExponentialLR(1e10))
    with pytest.raises(ValueError, match="^lr must be >= 0 and finite, was inf"):
        for _ in range(40):
            scheduler.step()


def test_groups_may_not_be_added_under_a_scheduler():
    optimizer = optimizer_of_two_groups()
    scheduler = Scheduler(optimizer, lr=ExponentialLR(0.5))
    optimizer.add_param_group({"params": [np.ones(2)]})
    with pytest.raises(ValueError, match="keep its 2 parameter groups, had 3: make a new Scheduler"):
        scheduler.step()
    assert options_of(optimizer, "lr") == [(1.0,), (0.5,), (1.0,)]


@pytest.mark.parametrize("path, value, error, pattern", [
    (["step"], -1, ValueError, r"^state_dict\['step'\] must be at least 0"),
    (["step"], 1.5, TypeError, r"^state_dict\['step'\] must be an integer"),
    (["steps"], 1, ValueError, "unknown entry 'steps'"),
    (["schedules"], [], ValueError, r"^state_dict\['schedules'\] must be a list of 4 schedules"),
    (["schedules"], None, ValueError, r"^state_dict\['schedules'\] must be a list of 4 schedules"),
    (["schedules", 0], 3, TypeError, r"^state_dict\['schedules'\]\[0\] must be a dict"),
    (["schedules", 1, "option"], "momentum", ValueError, r"\[1\]\['option'\] must be 'lr', was 'momentum'"),
    (["schedules", 1, "group"], 0, ValueError, r"\[1\]\['group'\] must be 1, was 0"),
    (["schedules", 0, "base"], "1", TypeError, r"\[0\]\['base'\] must be a number"),
    (["schedules", 0, "base"], -1, ValueError, r"\[0\]\['base'\] must be >= 0"),
    (["schedules", 0, "state"], {}, ValueError, r"\[0\]\['state'\] lacks the entry 'schedules'"),
    (["schedules", 0, "state", "schedules"], [{}], ValueError, r"\['schedules'\] must be a list of 2 states"),
    (["schedules", 0, "state", "schedules", 0], {"best": 1}, ValueError, r"\['schedules'\]\[0\] has an unknown entry"),
    (["schedules", 0, "state", "schedules", 1], {}, ValueError, r"\['schedules'\]\[1\] lacks the entry 'best'"),
    (["schedules", 0, "state", "schedules", 1, "reductions"], -1, ValueError, "^reductions must be at least 0"),
    (["schedules", 0, "state", "schedules", 1, "best"], "low", TypeError, "^best must be a number, was 'low'"),
])
def test_wrong_state_dict_is_refused_before_anything_is_set(path, value, error, pattern):
    optimizer = optimizer_of_two_groups()
    scheduler = every_kind(optimizer)
    scheduler.step(1.0)
    before, saved = (repr(optimizer), scheduler.state_dict()), scheduler.state_dict()
    saved["step"] = 5
    place = saved
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(error, match=pattern):
        scheduler.load_state_dict(saved)
    assert (repr(optimizer), scheduler.state_dict()) == before
