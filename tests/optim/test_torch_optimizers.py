"""The optimizers against PyTorch's, in float64; every backend has the bits of the one used here (test_parity.py)."""

from itertools import product

import numpy as np
import pytest

from numfuse import optim

torch = pytest.importorskip("torch", reason="needs PyTorch: parity with a peer, never a dependency")

EPS = np.finfo(np.float64).eps
STEPS = 20
SHAPES = [(7, 5), (5,), (), (2, 3, 1, 4), (130,)]

DECAY, CLIMB = {"weight_decay": 0.1}, {"maximize": True}
OURS = {"max_grad_value": 0.7, "l1": 0.01, "ema_decay": 0.9}  # which PyTorch's have not: done by hand there


def combinations(name, *axes):
    """A case for each choice of one dict from every axis."""
    return [(name, {key: value for part in parts for key, value in part.items()}) for parts in product(*axes)]


CASES = [
    *combinations("SGD", [
        {}, {"momentum": 0.9}, {"momentum": 0.5, "dampening": 0.25}, {"momentum": 0.9, "nesterov": True},
    ], [{}, DECAY], [{}, CLIMB], [{}, OURS]),
    *combinations("RMSProp", [{}, {"alpha": 0.9, "eps": 1e-3, "momentum": 0.5}, {"momentum": 0.9}],
                  [{}, {"centered": True}], [{}, DECAY], [{}, CLIMB], [{}, OURS]),
    *combinations("Adam", [{}, {"betas": (0.5, 0.9), "eps": 1e-3}], [{}, {"amsgrad": True}],
                  [{}, DECAY, {**DECAY, "decoupled_weight_decay": True}], [{}, CLIMB], [{}, OURS]),
    *combinations("AdamW", [{}, {"betas": (0.0, 0.99)}], [{}, {"amsgrad": True}],
                  [{}, DECAY, {"weight_decay": 0.0}], [{}, CLIMB], [{}, OURS]),
    *combinations("Adagrad", [{}, {"lr_decay": 0.1, "eps": 1e-3}], [{}, {"initial_accumulator_value": 0.5}],
                  [{}, DECAY], [{}, CLIMB], [{}, OURS]),
]


def peer_of(name, groups, options):
    """PyTorch's optimizer with those of the options that it has."""
    peer_class = getattr(torch.optim, name.replace("Prop", "prop"))
    theirs = {key: value for key, value in options.items() if key not in OURS}
    return peer_class(groups, lr=0.01, foreach=False, **theirs)


def prepared(param, grad, options):
    """The gradient to hand to PyTorch, with what it has not."""
    if "max_grad_value" in options:
        grad = grad.clip(-options["max_grad_value"], options["max_grad_value"])
    if "l1" in options:
        sign = -1 if options.get("maximize") else 1
        grad = grad + sign * options["l1"] * np.sign(param.numpy())
    return torch.from_numpy(np.asarray(grad))


def random_gradients(rng, t):
    """At least 1/2 in magnitude, so that no quotient by a root is ill-conditioned, and missing at times."""
    grads = [np.asarray(rng.uniform(0.5, 1, shape) * rng.choice([-1, 1], shape)) for shape in SHAPES]
    return [None if (t + i) % 7 == 3 else grad for i, grad in enumerate(grads)]


def random_parameters(rng):
    mine = [np.asarray(rng.uniform(-1, 1, shape)) for shape in SHAPES]
    return mine, [torch.from_numpy(param.copy()) for param in mine]


def test_there_are_enough_combinations():
    assert len(CASES) >= 150 and len({repr(case) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name, options", CASES, ids=str)
def test_optimizer_takes_the_same_20_steps(name, options):
    """Two groups, gradients that are missing at times, and a learning rate that changes half way."""
    rng = np.random.default_rng(0)
    mine, theirs = random_parameters(rng)
    averages = [param.clone() for param in theirs]

    def groups(params):
        return [{"params": params[:2]}, {"params": params[2:], "lr": 0.02, "weight_decay": 0.05}]

    optimizer = getattr(optim, name)(groups(mine), lr=0.01, **options)
    peer = peer_of(name, groups(theirs), options)
    for t in range(STEPS):
        if t == STEPS // 2:
            for group in (*optimizer.param_groups, *peer.param_groups):
                group["lr"] *= 0.3
        grads = random_gradients(rng, t)
        assert optimizer.step(grads)
        for param, grad in zip(theirs, grads):
            param.grad = None if grad is None else prepared(param, grad, options)
        peer.step()
        for average, param, grad in zip(averages, theirs, grads):
            if "ema_decay" in options and grad is not None:
                average.lerp_(param, 1 - options["ema_decay"])
    # Either computation rounds less than 20 times a step on the way to an update. An update is at most
    # lr / sqrt(1 - alpha) of RMSProp's, times 1 / (1 - momentum): 0.02 * 10 * 10. Its centered variance,
    # s - a * a with a <= sqrt(1 - alpha^t) * sqrt(s), loses a factor of at most 1 / alpha^20 < 9.
    tolerance = 2 * STEPS * 20 * EPS * (0.02 * 10 * 10 * 9)
    for param, other in zip(mine, theirs):
        np.testing.assert_allclose(param, other.numpy(), rtol=0, atol=tolerance)
    state = optimizer.state_dict()["state"]
    for i, (other, average) in enumerate(zip(theirs, averages)):
        for kind, value in peer.state[other].items():
            if value is not None:  # SGD's velocity without momentum
                np.testing.assert_allclose(state[i][kind], np.asarray(value), rtol=0, atol=tolerance)
        if "ema_decay" in options:
            np.testing.assert_allclose(state[i]["ema_param"], average.numpy(), rtol=0, atol=tolerance)
    assert [state[i]["step"] for i in range(len(SHAPES))] == [
        sum((t + i) % 7 != 3 for t in range(STEPS)) for i in range(len(SHAPES))
    ]


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("largest", [0.5, 100.0])
@pytest.mark.parametrize("parts", [1, 4])
def test_gradients_are_scaled_down_as_clip_grad_norm_does(name, largest, parts):
    """Added up over some parts, too, and averaged before their norm is taken."""
    rng = np.random.default_rng(3)
    mine, theirs = random_parameters(rng)
    optimizer = getattr(optim, name)(mine, lr=0.01, max_grad_norm=largest)
    peer = getattr(torch.optim, name)(theirs, lr=0.01)
    for t in range(STEPS):
        grads = random_gradients(rng, t)
        assert optimizer.step(grads, grad_scale=1 / parts)
        for param, grad in zip(theirs, grads):
            param.grad = None if grad is None else torch.from_numpy(np.asarray(grad / parts))
        norm = torch.nn.utils.clip_grad_norm_(theirs, largest)
        peer.step()
        # Some 200 squares are added, by either.
        assert abs(optimizer.grad_norm - float(norm)) <= 400 * EPS * float(norm)
    # As above, where each update is at most lr times a small factor; the norm adds 200 roundings of it.
    for param, other in zip(mine, theirs):
        np.testing.assert_allclose(param, other.numpy(), rtol=0, atol=2 * STEPS * 220 * EPS)


SWITCHES = [
    ("SGD", {"momentum": 0.9, "dampening": 0.5}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.5, "weight_decay": 0.1, "maximize": True}),
    ("RMSProp", {"momentum": 0.9}),
    ("RMSProp", {"weight_decay": 0.1, "alpha": 0.5}),
    ("Adam", {"betas": (0.5, 0.9), "weight_decay": 0.1}),
    ("AdamW", {"weight_decay": 0.0, "maximize": True}),
    ("Adagrad", {"lr_decay": 0.5, "weight_decay": 0.1}),
]


@pytest.mark.parametrize("name, switch", SWITCHES, ids=str)
def test_options_that_are_changed_after_the_second_step(name, switch):
    rng = np.random.default_rng(1)
    mine, theirs = random_parameters(rng)
    optimizer = getattr(optim, name)(mine, lr=0.1)
    peer = peer_of(name, theirs, {})
    peer.param_groups[0]["lr"] = 0.1
    for group in peer.param_groups if name == "RMSProp" else ():
        group["momentum"] = 0.0
    for t in range(6):
        if t == 2:
            optimizer.param_groups[0].update(switch)
            peer.param_groups[0].update(switch)
            for state in peer.state.values() if name == "RMSProp" else ():
                state.setdefault("momentum_buffer", torch.zeros_like(state["square_avg"]))
        grads = random_gradients(rng, t)
        assert optimizer.step(grads)
        for param, grad in zip(theirs, grads):
            param.grad = None if grad is None else torch.from_numpy(grad)
        peer.step()
    # As above, with learning rates of 0.1.
    for param, other in zip(mine, theirs):
        np.testing.assert_allclose(param, other.numpy(), rtol=0, atol=2 * 6 * 20 * EPS * (0.1 * 10 * 10))


@pytest.mark.parametrize("name, options", [
    ("SGD", {"momentum": 0.9}), ("RMSProp", {}), ("Adam", {"amsgrad": True}), ("AdamW", {}), ("Adagrad", {}),
], ids=str)
def test_gradients_are_clipped_and_parameters_averaged_as_by_utilities(name, options):
    """`clip_grad_value_` before the step, `AveragedModel` after it, whose average begins with its first parameters."""
    rng = np.random.default_rng(4)
    mine = [np.asarray(rng.uniform(-1, 1, shape)) for shape in SHAPES]
    net = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(param.copy())) for param in mine])
    averaged = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    averaged.update_parameters(net)
    optimizer = getattr(optim, name)(mine, lr=0.01, max_grad_value=0.7, ema_decay=0.9, **options)
    peer = getattr(torch.optim, name.replace("Prop", "prop"))(net.parameters(), lr=0.01, foreach=False, **options)
    for _ in range(STEPS):
        grads = [np.asarray(rng.uniform(0.5, 1, shape) * rng.choice([-1, 1], shape)) for shape in SHAPES]
        optimizer.step(grads)
        for param, grad in zip(net, grads):
            param.grad = torch.from_numpy(grad)
        torch.nn.utils.clip_grad_value_(net.parameters(), 0.7)
        peer.step()
        averaged.update_parameters(net)
    # As above; averaging adds three roundings a step to either.
    tolerance = 2 * STEPS * 20 * EPS * (0.02 * 10 * 10 * 9)
    state = optimizer.state_dict()["state"]
    for i, (param, other, average) in enumerate(zip(mine, net, averaged.module)):
        np.testing.assert_allclose(param, other.detach().numpy(), rtol=0, atol=tolerance)
        np.testing.assert_allclose(state[i]["ema_param"], average.detach().numpy(), rtol=0, atol=tolerance)
