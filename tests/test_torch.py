"""The optimizers and batch normalisation against PyTorch's, in float64."""

import math

import numpy as np
import pytest

from onepass import optim

torch = pytest.importorskip("torch", reason="needs PyTorch: parity with a peer, never a dependency")

EPS = np.finfo(np.float64).eps
STEPS = 20
SHAPES = [(7, 5), (5,), (), (2, 3, 1, 4), (130,)]

CASES = [
    *[("SGD", options) for options in [
        {},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"momentum": 0.9},
        {"momentum": 0.9, "maximize": True, "weight_decay": 0.1},
        {"momentum": 0.9, "dampening": 0.9},
        {"momentum": 0.5, "dampening": 0.25, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    ]],
    *[("RMSProp", options) for options in [
        {},
        {"weight_decay": 0.1},
        {"alpha": 0.9, "eps": 1e-3},
        {"maximize": True},
        {"centered": True},
        {"centered": True, "weight_decay": 0.1, "maximize": True},
        {"momentum": 0.9},
        {"momentum": 0.9, "centered": True, "alpha": 0.9},
        {"momentum": 0.5, "centered": True, "weight_decay": 0.1, "eps": 1e-4},
        {"momentum": 0.9, "weight_decay": 0.1, "maximize": True},
    ]],
    *[(name, options) for name in ("Adam", "AdamW") for options in [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.0},
        {"betas": (0.5, 0.9), "eps": 1e-3},
        {"amsgrad": True},
        {"amsgrad": True, "weight_decay": 0.1, "betas": (0.8, 0.9)},
        {"maximize": True, "weight_decay": 0.1},
        {"maximize": True, "amsgrad": True},
        {"betas": (0.0, 0.99)},
    ]],
]


@pytest.mark.parametrize("name, options", CASES, ids=str)
def test_optimizer_takes_the_same_20_steps(kernels, name, options):
    """Two groups, gradients that are missing at times, and a learning rate that changes half way."""
    rng = np.random.default_rng(0)
    mine = [np.asarray(rng.uniform(-1, 1, shape)) for shape in SHAPES]
    theirs = [torch.from_numpy(param.copy()) for param in mine]

    def groups(params):
        return [{"params": params[:2]}, {"params": params[2:], "lr": 0.02, "weight_decay": 0.05}]

    optimizer = getattr(optim, name)(groups(mine), lr=0.01, **options).set_backend(kernels)
    peer_class = getattr(torch.optim, name.replace("Prop", "prop"))
    peer = peer_class(groups(theirs), lr=0.01, foreach=False, **options)
    for t in range(STEPS):
        if t == STEPS // 2:
            for group in (*optimizer.param_groups, *peer.param_groups):
                group["lr"] *= 0.3
        # Gradients of at least 1/2 in magnitude: no quotient by a root is ill-conditioned.
        grads = [np.asarray(rng.uniform(0.5, 1, shape) * rng.choice([-1, 1], shape)) for shape in SHAPES]
        grads = [None if (t + i) % 7 == 3 else grad for i, grad in enumerate(grads)]
        optimizer.step(grads)
        for param, grad in zip(theirs, grads):
            param.grad = None if grad is None else torch.from_numpy(grad)
        peer.step()
    # Either computation rounds less than 20 times a step on the way to an update. An update is at most
    # lr / sqrt(1 - alpha) of RMSProp's, times 1 / (1 - momentum): 0.02 * 10 * 10. Its centered variance,
    # s - a * a with a <= sqrt(1 - alpha^t) * sqrt(s), loses a factor of at most 1 / alpha^20 < 9.
    tolerance = 2 * STEPS * 20 * EPS * (0.02 * 10 * 10 * 9)
    for param, other in zip(mine, theirs):
        np.testing.assert_allclose(param, other.numpy(), rtol=0, atol=tolerance)
    state = optimizer.state_dict()["state"]
    for i, other in enumerate(theirs):
        for kind, value in peer.state[other].items():
            if value is not None:  # SGD's velocity without momentum
                np.testing.assert_allclose(state[i][kind], np.asarray(value), rtol=0, atol=tolerance)
    assert [state[i]["step"] for i in range(len(SHAPES))] == [
        sum((t + i) % 7 != 3 for t in range(STEPS)) for i in range(len(SHAPES))
    ]


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("largest", [0.5, 100.0])
def test_gradients_are_scaled_down_as_clip_grad_norm_does(kernels, name, largest):
    rng = np.random.default_rng(3)
    mine = [np.asarray(rng.uniform(-1, 1, shape)) for shape in SHAPES]
    theirs = [torch.from_numpy(param.copy()) for param in mine]
    optimizer = getattr(optim, name)(mine, lr=0.01, max_grad_norm=largest).set_backend(kernels)
    peer = getattr(torch.optim, name)(theirs, lr=0.01)
    for _ in range(STEPS):
        grads = [np.asarray(rng.uniform(0.5, 1, shape) * rng.choice([-1, 1], shape)) for shape in SHAPES]
        optimizer.step(grads)
        for param, grad in zip(theirs, grads):
            param.grad = torch.from_numpy(grad)
        norm = torch.nn.utils.clip_grad_norm_(theirs, largest)
        peer.step()
        # Some 200 squares are added, by either.
        assert abs(optimizer.grad_norm - float(norm)) <= 400 * EPS * float(norm)
    # As above, where each update is at most lr times a small factor; the norm adds 200 roundings of it.
    for param, other in zip(mine, theirs):
        np.testing.assert_allclose(param, other.numpy(), rtol=0, atol=2 * STEPS * 220 * EPS)


@pytest.mark.parametrize("switch", [
    {"momentum": 0.9, "dampening": 0.5},
    {"momentum": 0.9, "nesterov": True},
], ids=str)
def test_sgd_with_momentum_from_the_third_step_on(kernels, switch):
    rng = np.random.default_rng(1)
    mine = rng.uniform(-1, 1, 9)
    theirs = torch.from_numpy(mine.copy())
    optimizer, peer = optim.SGD([mine], lr=0.1).set_backend(kernels), torch.optim.SGD([theirs], lr=0.1)
    for t in range(6):
        if t == 2:
            optimizer.param_groups[0].update(switch)
            peer.param_groups[0].update(switch)
        grad = rng.uniform(-1, 1, 9)
        optimizer.step([grad])
        theirs.grad = torch.from_numpy(grad)
        peer.step()
    np.testing.assert_allclose(mine, theirs.numpy(), rtol=0, atol=6 * 8 * EPS)


BATCH_SHAPES = [(6, 3), (4, 3, 5), (4, 3, 5, 2), (2, 3, 4, 3, 2), (1, 2, 3)]


@pytest.mark.parametrize("shape", BATCH_SHAPES, ids=str)
@pytest.mark.parametrize("channels_last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("affine", [False, True], ids=["plain", "affine"])
@pytest.mark.parametrize("training, momentum", [(True, 0.1), (True, 0.7), (False, 0.1)])
def test_batch_norm(kernels, shape, channels_last, affine, training, momentum):
    """y, running statistics and the three gradients, the channels along axis 1 in either memory order."""
    rng = np.random.default_rng(2)
    channels, eps = shape[1], 1e-5
    x, grad_y = rng.normal(3, 2, shape), rng.normal(0, 1, shape)
    weight, bias = (rng.uniform(0.5, 2, channels), rng.normal(0, 1, channels)) if affine else (None, None)
    running_mean, running_var = rng.normal(3, 1, channels), rng.uniform(1, 5, channels)

    leaves = [array if array is None else torch.tensor(array, requires_grad=True)
              for array in (x, weight, bias)]
    running = [torch.tensor(running_mean), torch.tensor(running_var)]
    wanted = torch.nn.functional.batch_norm(
        leaves[0], *running, leaves[1], leaves[2], training=training, momentum=momentum, eps=eps
    )
    wanted.backward(torch.tensor(grad_y))
    if channels_last:
        x, grad_y = (np.moveaxis(np.moveaxis(array, 1, -1).copy(), -1, 1) for array in (x, grad_y))

    if training:
        y, mean, rstd = kernels.batch_norm_forward(
            x, weight, bias, running_mean, running_var, axis=1, momentum=momentum, eps=eps
        )
    else:
        y = kernels.batch_norm_inference(x, weight, bias, running_mean, running_var, axis=1, eps=eps)
        mean, rstd = running_mean, 1 / np.sqrt(running_var + eps)
    grad_weight, grad_bias = (np.empty(channels), np.empty(channels)) if affine else (None, None)
    grad_x = kernels.batch_norm_backward(
        grad_y, x, weight, mean, rstd, grad_weight, grad_bias, axis=1, training=training
    )

    # Sums of n terms round n times, and whatever else is done less than 20 times, in either computation,
    # on numbers below 10 in magnitude: |x|, and |grad_y|, |xhat|, |weight * rstd| in products.
    n = x.size // channels
    tolerance = 2 * (n + 20) * EPS * 10
    assert max(np.abs(x).max(), np.abs(y).max(), np.abs(grad_y).max()) < 10
    compared = [(y, wanted, 1), (running_mean, running[0], 1), (running_var, running[1], 10)]
    compared += [(grad_x, leaves[0].grad, 10)]
    if affine:
        compared += [(grad_weight, leaves[1].grad, n), (grad_bias, leaves[2].grad, n)]
    for actual, expected, scale in compared:
        np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=0, atol=scale * tolerance)


def test_batch_norm_of_data_far_from_zero(kernels):
    """Mean 1e6 and deviation 1: a sum of x rounds to 1e6 eps, one of squares would round to 1e12 eps."""
    x = np.random.default_rng(3).normal(1e6, 1, (500, 2))
    y, mean, rstd = kernels.batch_norm_forward(x, None, None, None, None, axis=1, momentum=0.1, eps=1e-5)
    wanted = torch.nn.functional.batch_norm(torch.tensor(x), None, None, training=True).numpy()
    np.testing.assert_allclose(y, wanted, rtol=0, atol=500 * 1e6 * EPS)
    assert mean.dtype == rstd.dtype == np.float64 and math.isclose(rstd[0], 1, rel_tol=0.2)


