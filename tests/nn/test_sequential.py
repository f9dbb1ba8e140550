import copy
import pickle
import threading
import types

import numpy as np
import pytest

from helpers.arrays import draw
from numfuse import native, nn, reference


def small_net(dtype=np.float64):
    rng = np.random.default_rng(0)
    return nn.Sequential(
        nn.Linear(4, 5, bias=False, dtype=dtype, rng=rng),
        nn.Sequential(nn.BatchNorm1d(5, dtype=dtype), nn.ReLU(), nn.Dropout(0.3, rng=rng)),
        nn.Linear(5, 3, dtype=dtype, rng=rng),
    )


def duplicates(net):
    return copy.deepcopy(net), pickle.loads(pickle.dumps(net))


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


NAMES = ["0.weight", "1.0.weight", "1.0.bias", "2.weight", "2.bias"]
BUFFERS = ["1.0.running_mean", "1.0.running_var", "1.0.num_batches_tracked", "1.2.seed", "1.2.offset"]


def test_gradients(check_gradients, kernels):
    check_gradients(small_net().set_backend(kernels), draw(6, 4))


def test_gradients_of_a_net_with_images(check_gradients):
    rng = np.random.default_rng(0)
    net = nn.Sequential(
        nn.BatchNorm2d(2, dtype=np.float64),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(12, 2, dtype=np.float64, rng=rng),
        nn.Sigmoid(),
    )
    check_gradients(net, draw(3, 2, 2, 3))


def test_names_and_order():
    net = small_net()
    assert list(net.named_parameters()) == list(net.named_gradients()) == NAMES
    assert list(net.named_buffers()) == BUFFERS
    assert set(net.state_dict()) == {*NAMES, *BUFFERS}
    assert [p.shape for p in net.parameters()] == [g.shape for g in net.gradients()]
    assert net.parameters()[1] is net[1][0].weight and net.gradients()[1] is net[1][0].grad_weight


def test_accumulated_halves_make_the_whole():
    double = {"dtype": np.float64, "rng": np.random.default_rng(0)}
    net = nn.Sequential(nn.Linear(4, 5, **double), nn.Tanh(), nn.Linear(5, 3, **double))
    x, grad_y = draw(6, 4), draw(6, 3)
    net(x)
    net.backward(grad_y)
    whole, own = [gradient.copy() for gradient in net.gradients()], net.gradients()
    for part in (slice(0, 2), slice(2, 6)):
        net(x[part])
        net.backward(grad_y[part], accumulate=part.start > 0)
    for gradient, wanted, array in zip(net.gradients(), whole, own):
        assert gradient is array
        # sums of 6 products of order one, in another order
        np.testing.assert_allclose(gradient, wanted, rtol=0, atol=50 * np.finfo(float).eps)


def test_modes_reach_every_layer():
    net = small_net()
    assert net.eval() is net and not net[1][2].training and not net.training
    x = draw(6, 4)
    before = net.state_dict()
    assert np.array_equal(net(x), net(x)) and same(net.state_dict(), before)
    assert net.train() is net and net[1][2].training


@pytest.mark.parametrize("options", [{}, {"input_grad": False}, {"accumulate": True}], ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_backward_in_evaluation_is_refused(kernels, nested, options):
    """What the layers have kept is of the last batch of training, not of the one that the gradient is of."""
    net = small_net().set_backend(kernels)
    net = nn.Sequential(net) if nested else net
    net.backward(net(draw(6, 4)))
    before = [gradient.copy() for gradient in net.gradients()]
    grad_y = net.eval()(draw(6, 4))
    with pytest.raises(RuntimeError, match=r"Sequential.backward .* in evaluation mode: call train\(\) before forward"):
        net.backward(grad_y, **options)
    assert all(np.array_equal(*pair) for pair in zip(net.gradients(), before))
    net.train()(draw(6, 4))
    net.backward(grad_y)


def test_threads_share_a_net_in_evaluation():
    net = small_net().eval()
    batches = [draw(50, 4) * scale for scale in range(1, 9)]
    expected = [net(batch) for batch in batches]
    results = [None] * len(batches)
    threads = [
        threading.Thread(target=lambda i=i: results.__setitem__(i, [net(batches[i]) for _ in range(50)]))
        for i in range(len(batches))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(y, wanted) for ys, wanted in zip(results, expected) for y in ys)


@pytest.mark.parametrize("reload", ["dict", "npz"])
def test_state_round_trip(reload, tmp_path):
    net, other = small_net(), small_net()
    for _ in range(3):
        net(draw(6, 4))
    state = net.state_dict()
    for array in other.parameters():
        array[...] = np.nan
    own = other.parameters()
    if reload == "npz":
        np.savez(tmp_path / "net.npz", **state)
        with np.load(tmp_path / "net.npz") as file:
            other.load_state_dict(file)
    else:
        other.load_state_dict(state)
    assert all(now is before for now, before in zip(other.parameters(), own))
    assert np.array_equal(other(draw(6, 4)), net(draw(6, 4)))
    assert not same(net.state_dict(), state), "the state is a copy"


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"2.bias": None}, ValueError, "missing: 2.bias; unexpected: none"),
        ({"2.bias": None, "3.bias": np.zeros(3)}, ValueError, "missing: 2.bias; unexpected: 3.bias"),
        ({"x": np.ones(1), "y": np.ones(1)}, ValueError, "missing: none; unexpected: x, y"),
        ({"2.bias": np.zeros(4)}, ValueError, r"2.bias must have shape \(3,\), was \(4,\)"),
        ({"2.bias": np.zeros((1, 3))}, ValueError, "2.bias must have shape"),
        ({"2.bias": np.zeros(3, np.float32)}, TypeError, "2.bias must be float64, was float32"),
        ({"1.2.offset": np.array(1.0)}, TypeError, "1.2.offset must be int64, was float64"),
    ],
)
def test_bad_state_changes_nothing(change, error, words):
    net = small_net()
    before = net.state_dict()
    state = {name: array + array.dtype.type(1) for name, array in before.items()} | change
    with pytest.raises(error, match=words):
        net.load_state_dict({name: array for name, array in state.items() if array is not None})
    assert same(net.state_dict(), before)
    with pytest.raises(TypeError, match="state must be a mapping .* was list"):
        net.load_state_dict([1, 2])


def test_copies_continue_alike():
    net = small_net().set_backend(reference)
    net(draw(6, 4))
    net.backward(draw(6, 3))
    for twin in duplicates(net):
        original = copy.deepcopy(net)
        assert twin[1][0].kernels is twin.kernels is reference
        assert same(twin.named_gradients(), net.named_gradients())
        assert not any(np.shares_memory(a, b) for a, b in zip(twin.parameters(), net.parameters()))
        assert np.array_equal(twin(draw(6, 4)), original(draw(6, 4)))
        assert np.array_equal(twin.backward(draw(6, 3)), original.backward(draw(6, 3)))
    assert all(twin.kernels is native for twin in duplicates(small_net()))


def test_backends_agree():
    """Values are of order one, sums have at most 6 terms, 5 layers deep: below 1000 roundings."""
    nets = [small_net(), small_net().set_backend(reference)]
    assert nets[0][1][2].kernels is native and nets[1][1][2].kernels is reference
    for _ in range(3):
        y, wanted = (net(draw(6, 4)) for net in nets)
        np.testing.assert_allclose(y, wanted, rtol=0, atol=1000 * np.finfo(float).eps)
        grad_x, wanted = (net.backward(draw(6, 3)) for net in nets)
        np.testing.assert_allclose(grad_x, wanted, rtol=0, atol=1000 * np.finfo(float).eps)


def test_bad_backend_changes_nothing():
    net = small_net()
    with pytest.raises(TypeError, match="numfuse.reference, was 'numpy'"):
        net.set_backend("numpy")
    with pytest.raises(TypeError, match="module empty lacks the kernels batch_norm_backward, "):
        net.set_backend(types.ModuleType("empty"))
    assert net.kernels is net[0].kernels is native


def test_container():
    net = nn.Sequential(nn.Flatten()).append(nn.Tanh()).append(nn.ReLU())
    assert len(net) == 3 and [type(layer) for layer in net] == [nn.Flatten, nn.Tanh, nn.ReLU]
    assert net[-1] is net[2] and list(net[1:]) == [net[1], net[2]] and type(net[1:]) is nn.Sequential
    empty, x = nn.Sequential(), draw(2)
    assert empty(x) is x and empty.backward(x) is x
    assert empty.parameters() == [] and repr(empty) == "Sequential()"
    assert repr(nn.Sequential(nn.Tanh(), nn.Sequential(nn.ReLU()))) == (
        "Sequential(\n  (0): Tanh()\n  (1): Sequential(\n    (0): ReLU()\n  )\n)"
    )


def test_a_layer_has_one_place():
    relu = nn.ReLU()
    for build in (lambda: nn.Sequential(relu, relu), lambda: nn.Sequential(nn.Sequential(relu), relu)):
        with pytest.raises(ValueError, match=r"layer 1, ReLU\(\), has a place in this net already"):
            build()
    net = nn.Sequential(relu)
    with pytest.raises(ValueError, match="has a place"):
        net.append(net)
    with pytest.raises(TypeError, match=r"layer 0 of a Sequential must be a Module, was \["):
        nn.Sequential([relu])


def test_empty_batch():
    net = small_net()
    y = net(np.zeros((0, 4)))
    assert y.shape == (0, 3) and net.backward(y).shape == (0, 4)
    assert all((gradient == 0).all() for gradient in net.gradients())


class Residual(nn.Module):
    """A module of a user's own: y = x + inner(x)."""

    def __init__(self, inner):
        self.inner = inner

    def forward(self, x):
        return x + self.inner(x)

    def backward(self, grad_y, accumulate=False):
        return grad_y + self.inner.backward(grad_y, accumulate)


def test_own_modules_take_part(check_gradients):
    net = nn.Sequential(Residual(nn.Linear(3, 3, dtype=np.float64, rng=0)), nn.Tanh())
    check_gradients(net, draw(4, 3))
    assert list(net.named_parameters()) == ["0.inner.weight", "0.inner.bias"]
    assert not net.eval()[0].inner.training
    assert net.set_backend(reference)[0].inner.kernels is reference
    assert "(inner): Linear(3, 3, bias=True, dtype=float64)" in repr(net)
    with pytest.raises(NotImplementedError, match="Module.forward"):
        nn.Module()(1)


class LinearWithGate(nn.Linear):
    """A subclass of a layer without children that has one."""

    def __init__(self, features, rng):
        super().__init__(features, features, rng=rng)
        self.gate = nn.Linear(features, features, rng=rng)


def test_subclasses_of_layers_may_have_children():
    net = nn.Sequential(LinearWithGate(3, np.random.default_rng(0)), nn.ReLU())
    assert list(net.named_parameters()) == ["0.weight", "0.bias", "0.gate.weight", "0.gate.bias"]
    assert all(own is named for own, named in zip(net.gradients(), net.named_gradients().values(), strict=True))
    assert not net.eval()[0].gate.training
    assert net[0].children() == {"gate": net[0].gate} and net[1].children() == {}


class Pair(nn.Sequential):
    """A Sequential of a user's own, with a learned array beside its layers."""

    parameter_names = ("scale",)

    def __init__(self, *layers):
        super().__init__(*layers)
        self.scale = np.ones(1)
        self.init_gradients()


def test_a_container_may_have_parameters():
    net = nn.Sequential(Pair(nn.Linear(3, 3, rng=0), nn.Tanh()))
    assert list(net.named_parameters()) == ["0.scale", "0.0.weight", "0.0.bias"]
    assert all(own is named for own, named in zip(net.gradients(), net.named_gradients().values(), strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "loss, outputs", [(nn.CrossEntropyLoss(), 2), (nn.BCEWithLogitsLoss(), 1), (nn.MSELoss(), 1)]
)
def test_learns_xor(kernels, loss, outputs, dtype):
    rng = np.random.default_rng(0)
    net = nn.Sequential(
        nn.Linear(2, 16, dtype=dtype, rng=rng),
        nn.BatchNorm1d(16, dtype=dtype),
        nn.Tanh(),
        nn.Linear(16, outputs, dtype=dtype, rng=rng),
    ).set_backend(kernels)
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype)
    labels = np.array([0, 1, 1, 0])
    target = labels if outputs == 2 else labels[:, None].astype(dtype)
    values = []
    for _ in range(300):
        values.append(loss(net(x), target))
        net.backward(loss.backward())
        for parameter, gradient in zip(net.parameters(), net.gradients()):
            parameter -= dtype(0.2) * gradient
    assert values[-1] < 0.05 < values[0]
    y = net.eval()(x)
    threshold = 0.5 if isinstance(loss, nn.MSELoss) else 0
    assert y.dtype == dtype
    assert np.array_equal(y.argmax(axis=1) if outputs == 2 else y[:, 0] > threshold, labels)


def test_agrees_with_pytorch():
    """The names of the state are PyTorch's, so that a net of one loads into the other."""
    torch = pytest.importorskip("torch", reason="PyTorch, the peer to compare with, is not installed")
    plan = [("Linear", 4, 5), ("BatchNorm1d", 5), ("ReLU",), ("Linear", 5, 3), ("Sigmoid",)]
    plan += [("Flatten",), ("Linear", 3, 3), ("Tanh",)]
    peer = torch.nn.Sequential(*(getattr(torch.nn, name)(*sizes) for name, *sizes in plan)).double()
    net = nn.Sequential(
        *(getattr(nn, name)(*sizes, **{"dtype": np.float64} if sizes else {}) for name, *sizes in plan)
    )
    net.load_state_dict(peer.state_dict())
    x, floats = draw(6, 4), np.random.default_rng(2).uniform(size=(6, 3))
    for name, target in [
        ("CrossEntropyLoss", np.array([0, 2, 1, 1, 0, 2])),
        ("MSELoss", floats),
        ("BCEWithLogitsLoss", floats),
    ]:
        for reduction in ("mean", "sum"):
            loss = getattr(nn, name)(reduction=reduction)
            peer_loss = getattr(torch.nn, name)(reduction=reduction)
            expected = peer_loss(peer(torch.from_numpy(x)), torch.from_numpy(target))
            close = {"rtol": 0, "atol": 1000 * np.finfo(float).eps}  # as in test_backends_agree
            np.testing.assert_allclose(loss(net(x), target), expected.item(), **close)
            peer.zero_grad()
            expected.backward()
            net.backward(loss.backward())
            for gradient, parameter in zip(net.gradients(), peer.parameters()):
                np.testing.assert_allclose(gradient, parameter.grad.numpy(), **close)


@pytest.mark.parametrize("layers, place", [
    ([nn.Linear(4, 8), nn.BatchNorm1d(8)], "Linear(4, 8, bias=True)"),
    ([nn.Sequential(nn.BatchNorm1d(3), nn.ReLU())], "BatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True), ReLU()"),
])
def test_an_error_says_in_which_layer_it_came_up(layers, place):
    with pytest.raises(ValueError) as caught:
        nn.Sequential(*layers)(np.ones((2, 5), np.float32))
    assert caught.value.__notes__ == [f"in the net at {place}"]
