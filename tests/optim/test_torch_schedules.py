"""Schedules against torch.optim.lr_scheduler over 200 steps, for two groups with learning rates of their own."""

import math

import numpy as np
import pytest

from numfuse import optim
from numfuse.optim import schedules

torch = pytest.importorskip("torch", reason="needs PyTorch: parity with a peer, never a dependency")

STEPS = 200
RATES = [0.1, 0.02]
# PyTorch multiplies its last value by a ratio of factors, with some 8 roundings a step, or 200 * 8 in all, and
# adds what it takes from the last value: relative to the base value, an error of that size times a factor of 4.
TOLERANCE = 4 * 8 * STEPS * np.finfo(np.float64).eps

CASES = [
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.5, "total_iters": 150}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 1}),
    ("StepLR", {"step_size": 1}),
    ("StepLR", {"step_size": 30}),
    ("StepLR", {"step_size": 7, "gamma": 0.9}),
    ("StepLR", {"step_size": 500, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [5, 6, 60, 199]}),
    ("MultiStepLR", {"milestones": [1, 100], "gamma": 0.5}),
    ("MultiStepLR", {"milestones": []}),
    ("ExponentialLR", {"gamma": 0.97}),
    ("ExponentialLR", {"gamma": 1.0}),
    ("ExponentialLR", {"gamma": 1.01}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 130, "power": 2.0}),
    ("PolynomialLR", {"total_iters": 250, "power": 0.5}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.001, "total_iters": 20}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 200}),
    ("CosineAnnealingLR", {"T_max": 200}),
    ("CosineAnnealingLR", {"T_max": 199, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 30, "eta_min": 0.001}),
    ("CosineAnnealingLR", {"T_max": 1}),
    ("CosineAnnealingWarmRestarts", {"T_0": 10}),
    ("CosineAnnealingWarmRestarts", {"T_0": 7, "T_mult": 2, "eta_min": 0.001}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3}),
]


def pair(make):
    """Our optimizer and PyTorch's, of two groups each."""
    mine, theirs = [np.zeros(2), np.zeros(3)], [torch.zeros(2), torch.zeros(3)]
    return [
        make(library, [{"params": [param], "lr": rate} for param, rate in zip(params, RATES)])
        for library, params in ((optim, mine), (torch.optim, theirs))
    ]


def sgd(library, groups):
    return library.SGD(groups, momentum=0.9)


def compare(optimizer, scheduler, peer, peer_scheduler, steps=STEPS, metrics=None, read=lambda group: group["lr"]):
    """The options that two schedulers set, step by step."""
    seen = []
    for t in range(steps):
        for i, (group, other) in enumerate(zip(optimizer.param_groups, peer.param_groups, strict=True)):
            wanted = float(read(other))
            assert math.isclose(read(group), wanted, rel_tol=TOLERANCE, abs_tol=TOLERANCE * RATES[i]), f"step {t}"
        seen.append(read(group))
        peer.step()
        scheduler.step(*metrics[t : t + 1] if metrics else [])
        peer_scheduler.step(*metrics[t : t + 1] if metrics else [])
    return seen


def peer_schedule(name, optimizer, options):
    return getattr(torch.optim.lr_scheduler, name)(optimizer, **options)


@pytest.mark.parametrize("name, options", CASES, ids=str)
def test_schedule(name, options):
    optimizer, peer = pair(sgd)
    peer_scheduler = peer_schedule(name, peer, options)
    scheduler = optim.Scheduler(optimizer, lr=getattr(schedules, name)(**options))
    compare(optimizer, scheduler, peer, peer_scheduler)


def test_lambda():
    optimizer, peer = pair(sgd)
    functions = [lambda step: 1 / (1 + step), lambda step: 0.9**step]
    peer_scheduler = torch.optim.lr_scheduler.LambdaLR(peer, functions)
    scheduler = optim.Scheduler(optimizer, lr=[schedules.LambdaLR(function) for function in functions])
    compare(optimizer, scheduler, peer, peer_scheduler)


@pytest.mark.parametrize("options", [
    {},
    {"anneal_strategy": "linear"},
    {"pct_start": 0.0},
    {"pct_start": 0.99},
    {"pct_start": 0.123, "div_factor": 10.0, "final_div_factor": 10.0},
    {"three_phase": True},
    {"three_phase": True, "pct_start": 0.4, "anneal_strategy": "linear", "max_momentum": 0.99, "base_momentum": 0.5},
], ids=str)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_one_cycle_with_momentum_or_beta1(options, name):
    def make(library, groups):
        return getattr(library, name)(groups, **({"momentum": 0.5} if name == "SGD" else {"betas": (0.5, 0.99)}))

    optimizer, peer = pair(make)
    peer_scheduler = torch.optim.lr_scheduler.OneCycleLR(peer, max_lr=RATES, total_steps=STEPS, **options)
    momenta = {key: value for key, value in options.items() if not key.endswith("div_factor")}
    rates = {key: value for key, value in options.items() if not key.endswith("momentum")}
    momentum = schedules.OneCycleMomentum(STEPS, **momenta)
    cycled = {"momentum": momentum} if name == "SGD" else {"betas": (momentum, None)}
    scheduler = optim.Scheduler(optimizer, lr=schedules.OneCycleLR(None, STEPS, **rates), **cycled)

    def read_momentum(group):
        return group["momentum"] if name == "SGD" else group["betas"][0]

    both = [optimizer, scheduler, peer, peer_scheduler]
    rates_seen = compare(*both, steps=STEPS // 2)
    compare(*both, steps=STEPS // 2, read=read_momentum)
    assert len(set(rates_seen)) > STEPS // 4

    optimizer, peer = pair(make)
    peer_scheduler = torch.optim.lr_scheduler.OneCycleLR(peer, max_lr=0.3, total_steps=STEPS, **options)
    scheduler = optim.Scheduler(optimizer, lr=schedules.OneCycleLR(0.3, STEPS, **rates), **cycled)
    both = [optimizer, scheduler, peer, peer_scheduler]
    compare(*both, steps=STEPS // 2, read=read_momentum)
    compare(*both, steps=STEPS // 2)


@pytest.mark.parametrize("options", [
    {},
    {"patience": 0, "factor": 0.5},
    {"patience": 3, "factor": 0.3, "cooldown": 4, "threshold": 0.05},
    {"mode": "max", "patience": 2, "threshold": 0.01},
    {"mode": "max", "patience": 1, "threshold": 0.02, "threshold_mode": "abs", "factor": 0.7, "min_lr": 0.003},
    {"threshold_mode": "abs", "patience": 2, "eps": 1e-3, "factor": 0.8},
], ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_reduce_on_plateau(options, sign):
    rng = np.random.default_rng(0)
    metrics = [sign * (1 / (1 + 0.1 * t) + 0.1 * rng.standard_normal()) for t in range(STEPS)]
    metrics[20], metrics[40:44] = math.nan, [math.inf, -1e300, 0, 0]
    optimizer, peer = pair(sgd)
    peer_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, **options)
    scheduler = optim.Scheduler(optimizer, lr=schedules.ReduceLROnPlateau(**options))
    seen = compare(optimizer, scheduler, peer, peer_scheduler, metrics=metrics)
    assert len(set(seen)) > 2


PARTS = [
    [("LinearLR", {"start_factor": 0.1, "total_iters": 20}), ("CosineAnnealingLR", {"T_max": 180})],
    [("ConstantLR", {"factor": 0.1, "total_iters": 20}), ("ExponentialLR", {"gamma": 0.98})],
    [("LinearLR", {"start_factor": 0.1, "total_iters": 10}), ("StepLR", {"step_size": 11, "gamma": 0.5}),
     ("PolynomialLR", {"total_iters": 50})],
    [("ExponentialLR", {"gamma": 0.9}), ("CosineAnnealingWarmRestarts", {"T_0": 13, "T_mult": 2}),
     ("MultiStepLR", {"milestones": [10, 20]})],
]


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_sequential(parts):
    milestones = [20, 90][: len(parts) - 1]
    optimizer, peer = pair(sgd)
    peers = [peer_schedule(name, peer, options) for name, options in parts]
    peer_scheduler = torch.optim.lr_scheduler.SequentialLR(peer, peers, milestones)
    mine = [getattr(schedules, name)(**options) for name, options in parts]
    scheduler = optim.Scheduler(optimizer, lr=schedules.SequentialLR(mine, milestones))
    compare(optimizer, scheduler, peer, peer_scheduler)


@pytest.mark.parametrize("parts", [*PARTS[:3], [("CosineAnnealingLR", {"T_max": 200}), *PARTS[1], *PARTS[2]]], ids=str)
def test_product(parts):
    """Cosines in the first half only: where PyTorch's goes up again, it adds, whatever other factors there are."""
    optimizer, peer = pair(sgd)
    peer_scheduler = torch.optim.lr_scheduler.ChainedScheduler(
        [peer_schedule(name, peer, options) for name, options in parts], peer
    )
    mine = [getattr(schedules, name)(**options) for name, options in parts]
    scheduler = optim.Scheduler(optimizer, lr=schedules.ChainedScheduler(mine))
    compare(optimizer, scheduler, peer, peer_scheduler)
