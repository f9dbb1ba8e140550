"""The layers of batch normalisation against PyTorch's, in float64, over several steps."""

import itertools

import numpy as np
import pytest

from helpers.batch_norm_layers import EPS, random_layer
from numfuse import nn

torch = pytest.importorskip("torch", reason="needs PyTorch: parity with a peer, never a dependency")

KINDS = {
    "1d rows": (nn.BatchNorm1d, (6, 3)),
    "1d": (nn.BatchNorm1d, (4, 3, 5)),
    "2d": (nn.BatchNorm2d, (3, 3, 4, 2)),
    "3d": (nn.BatchNorm3d, (2, 3, 3, 2, 2)),
}
OPTIONS = [
    dict(zip(("affine", "momentum", "track_running_stats"), values))
    for values in itertools.product([True, False], [0.1, 0.7, None], [True, False])
]
STEPS = ["train", "train", "eval", "train", "frozen", "train", "eval"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """PyTorch's threads wait for each other in loops, which takes long where something else is running."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tolerance(shape):
    """Sums of n terms round n times, and whatever else is done less than 20 times, in either computation, on
    numbers below 10 in magnitude; a factor of 10 for products of two. The running variance, below 10, and that
    many roundings at each step."""
    n = shape[0] * int(np.prod(shape[2:]))
    return 2 * (n + 20) * EPS * 10 * 10 * len(STEPS)


def pair_of(kind, kernels, **options):
    layer = random_layer(kind, **options).set_backend(kernels)
    del options["axis"]
    peer = getattr(torch.nn, kind.__name__)(3, dtype=torch.float64, **options)
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in layer.state_dict().items()})
    return layer, peer


def agree(actual, expected, atol):
    np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=0, atol=atol)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind, shape", KINDS.values(), ids=KINDS)
def test_steps(kernels, kind, shape, options, axis):
    """Training and evaluation in turn, batches of different sizes, and a frozen step: PyTorch's in evaluation mode."""
    layer, peer = pair_of(kind, kernels, axis=axis, **options)
    rng, atol = np.random.default_rng(3), 2 * tolerance(shape)
    for step, mode in enumerate(STEPS):
        rows = shape[0] + step % 2 * shape[0]
        x, grad_y = rng.normal(1, 2, (rows, *shape[1:])), rng.normal(0, 1, (rows, *shape[1:]))
        peer_x = torch.tensor(x, requires_grad=True)
        peer.train(mode == "train")
        peer.zero_grad()
        wanted = peer(peer_x)
        wanted.backward(torch.tensor(grad_y))
        if axis == -1:
            x, grad_y = (np.ascontiguousarray(np.moveaxis(array, 1, -1)) for array in (x, grad_y))
        layer.train(mode != "eval")
        if options["track_running_stats"]:
            layer.freeze(mode == "frozen")
        y = layer(x)
        agree(np.moveaxis(y, axis, 1), wanted, atol)
        if mode != "eval":
            agree(np.moveaxis(layer.backward(grad_y), axis, 1), peer_x.grad, atol)
            for gradient, parameter in zip(layer.gradients(), peer.parameters(), strict=True):
                agree(gradient, parameter.grad, x.size // 3 * atol)
        state = layer.state_dict()
        assert state.keys() == peer.state_dict().keys()
        for name, array in peer.state_dict().items():
            agree(state[name], array, atol)


@pytest.mark.parametrize("kind, shape", KINDS.values(), ids=KINDS)
def test_a_mask_leaves_what_is_not_padding(kernels, kind, shape):
    """PyTorch is given the valid rows alone."""
    layer, peer = pair_of(kind, kernels, axis=1)
    rng, mask = np.random.default_rng(3), np.arange(2 * shape[0]) % 2 == 0
    x, grad_y = rng.normal(1, 2, (2, 2 * shape[0], *shape[1:]))
    peer_x = torch.tensor(x[mask], requires_grad=True)
    wanted = peer(peer_x)
    wanted.backward(torch.tensor(grad_y[mask]))
    agree(layer(x, mask)[mask], wanted, tolerance(shape))
    agree(layer.backward(grad_y)[mask], peer_x.grad, tolerance(shape))
    for name, array in peer.state_dict().items():
        agree(layer.state_dict()[name], array, tolerance(shape))


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d])
def test_what_is_refused(kernels, kind):
    """One value per channel, where the statistics of the batch are to be taken."""
    shape = (1, 3) + (1,) * (2 * (kind is nn.BatchNorm2d))
    for options, training in itertools.product([{}, {"track_running_stats": False}], [True, False]):
        layer, peer = pair_of(kind, kernels, axis=1, **options)
        answers = []
        for module, x in ((layer, np.zeros(shape)), (peer, torch.zeros(shape, dtype=torch.float64))):
            try:
                module.train(training)(x)
                answers.append("taken")
            except ValueError as error:
                answers.append(str(error)[:48])
        assert answers[0] == answers[1]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_reestimation_is_update_bn(kernels, momentum):
    rng = np.random.default_rng(0)
    net = nn.Sequential(random_layer(momentum=momentum), nn.Linear(3, 4, dtype=np.float64, rng=rng), nn.Tanh(),
                        random_layer(channels=4, momentum=momentum)).set_backend(kernels)
    peer = torch.nn.Sequential(torch.nn.BatchNorm1d(3, momentum=momentum), torch.nn.Linear(3, 4), torch.nn.Tanh(),
                               torch.nn.BatchNorm1d(4, momentum=momentum)).double()
    peer.load_state_dict({name: torch.from_numpy(array) for name, array in net.state_dict().items()})
    batches = [rng.normal(1, 2, (rows, 3)) for rows in (5, 12, 4)]
    torch.optim.swa_utils.update_bn([torch.from_numpy(batch) for batch in batches], peer)
    nn.reestimate_batch_norm(net, batches)
    for name, array in peer.state_dict().items():
        # Through two layers of batch norm, whose derivatives are below 10.
        agree(net.state_dict()[name], array, 10 * tolerance((12, 3)))
