"""Modules in lists and dicts, which the module around them finds; in plain ones it refuses them."""

import copy
import pickle

import numpy as np
import pytest

from helpers.arrays import draw
from numfuse import nn, optim, reference


class Heads(nn.Module):
    """A body of layers and two heads, whose results are side by side."""

    def __init__(self):
        self.body = nn.ModuleList([nn.Linear(4, 6, rng=0), nn.Tanh(), nn.Linear(6, 5, rng=1)])
        self.heads = nn.ModuleDict({"a": nn.Linear(5, 2, rng=2), "b": nn.Linear(5, 3, rng=3)})

    def forward(self, x):
        for layer in self.body:
            x = layer(x)
        return np.concatenate([head(x) for head in self.heads.values()], axis=1)

    def backward(self, grad_y, accumulate=False):
        parts = np.ascontiguousarray(grad_y[:, :2]), np.ascontiguousarray(grad_y[:, 2:])
        grad = sum(head.backward(part, accumulate) for head, part in zip(self.heads.values(), parts))
        for layer in reversed(list(self.body)):
            grad = layer.backward(grad, accumulate)
        return grad


def test_names_modes_state_and_backend_reach_what_is_inside(tmp_path):
    net = Heads()
    assert list(net.named_parameters()) == [
        f"{place}.{kind}" for place in ("body.0", "body.2", "heads.a", "heads.b") for kind in ("weight", "bias")]
    assert [gradient.shape for gradient in net.gradients()] == [param.shape for param in net.parameters()]
    net.eval()
    assert not any(module.training for module in net.modules())
    net.set_backend(reference)
    assert all(module.kernels is reference for module in net.modules())
    other = Heads()
    for param in other.parameters():
        param += 1
    other.load_state_dict(net.state_dict())
    assert all(np.array_equal(*pair) for pair in zip(net.parameters(), other.parameters()))


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_a_net_of_them_trains_and_its_copies_do(duplicate):
    results = []
    for net in (Heads(), duplicate(Heads())):
        optimizer, loss = optim.SGD(net.named_parameters(), lr=0.1), nn.MSELoss()
        x, target = draw(7, 4, dtype=np.float32), draw(7, 5, seed=1, dtype=np.float32)
        values = []
        for _ in range(20):
            values.append(loss(net(x), target))
            net.backward(loss.backward())
            optimizer.step(net.named_gradients())
        results.append(values)
    assert results[0] == results[1] and results[0][-1] < 0.9 * results[0][0]


def test_a_list_is_changed_as_lists_are():
    a, b, c, d = (nn.Linear(2, 2, rng=i) for i in range(4))
    layers = nn.ModuleList([a])
    assert layers.append(b) is layers and layers.extend([c]) is layers
    assert list(layers) == [a, b, c] and len(layers) == 3 and layers[-1] is c
    layers[1] = d
    assert type(layers[1:]) is nn.ModuleList and list(layers[1:]) == [d, c]
    del layers[0]
    assert list(layers) == [d, c] and list(layers.children()) == ["0", "1"]
    layers[0] = d  # where it was


def test_a_dict_is_changed_as_dicts_are():
    a, b, c = (nn.Linear(2, 2, rng=i) for i in range(3))
    modules = nn.ModuleDict({"a": a})
    modules["b"] = b
    assert modules.update([("c", c)]) is modules
    assert list(modules) == ["a", "b", "c"] == list(modules.keys()) and len(modules) == 3 and "b" in modules
    assert list(modules.items()) == [("a", a), ("b", b), ("c", c)]
    del modules["b"]
    assert list(modules.values()) == [a, c]
    with pytest.raises(KeyError):
        modules["b"]


@pytest.mark.parametrize("make, error, words", [
    (lambda: nn.ModuleList([3]), TypeError, "layer 0 of a ModuleList must be a Module, was 3"),
    (lambda: nn.ModuleList([nn.ReLU(), "a"]), TypeError, "layer 1 of a ModuleList must be a Module"),
    (lambda: nn.ModuleList([nn.ReLU()] * 2), ValueError, r"layer 1, ReLU\(\), has a place in this net already"),
    (lambda: nn.ModuleList([nn.ReLU()]).__setitem__(slice(1), []), TypeError, "slice"),
    (lambda: nn.ModuleList([nn.ReLU()]).__setitem__(1, nn.ReLU()), IndexError, "out of range"),
    (lambda: nn.ModuleDict({"a": 3}), TypeError, "module 'a' of a ModuleDict must be a Module"),
    (lambda: nn.ModuleDict({3: nn.ReLU()}), TypeError, "must be a string"),
    (lambda: nn.ModuleDict({"a.b": nn.ReLU()}), ValueError, "no dot"),
    (lambda: nn.ModuleDict({"": nn.ReLU()}), ValueError, "not be empty"),
    (lambda: nn.ModuleDict(dict.fromkeys("ab", nn.ReLU())), ValueError, "module 'b'.*has a place in this net already"),
])
def test_what_is_no_module_of_its_own_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("value, words", [
    ([nn.ReLU()], "Plain.inside is a list of Modules.*nn.ModuleList"),
    ((1, nn.ReLU()), "Plain.inside is a tuple of Modules.*nn.ModuleList"),
    ({"a": nn.ReLU()}, "Plain.inside is a dict of Modules.*nn.ModuleDict"),
], ids=["list", "tuple", "dict"])
def test_modules_in_plain_lists_and_dicts_are_named(value, words):
    class Plain(nn.Module):
        def __init__(self):
            self.inside = value

    for use in (lambda net: net.parameters(), lambda net: net.state_dict(), lambda net: net.named_buffers(),
                lambda net: nn.Sequential(net).named_parameters()):
        with pytest.raises(TypeError, match=words):
            use(Plain())


def test_modules_that_have_a_place_may_stand_in_lists_too():
    class Net(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1)
            self.order, self.numbers = [self.b, self.a], [1, 2, {"x": 3}]

    assert list(Net().named_parameters()) == ["a.weight", "a.bias", "b.weight", "b.bias"]


@pytest.mark.parametrize("make, words", [
    (lambda net: setattr(net, "stages", [[nn.ReLU()]]), "Sequential.stages is a list of Modules"),
    (lambda net: setattr(net, "norm", nn.BatchNorm1d(2)),
     r"Sequential.norm is a Module, whose parameters are not found there: let children\(\) return them"),
])
def test_modules_that_children_do_not_reach_are_named(make, words):
    net = nn.Sequential(nn.Linear(2, 2))
    make(net)
    with pytest.raises(TypeError, match=words):
        net.parameters()


def test_a_sequential_with_other_children_finds_their_gradients():
    class Headed(nn.Sequential):
        def __init__(self, *layers):
            super().__init__(*layers)
            self.head = nn.Linear(2, 3, rng=1)

        def children(self):
            return {**super().children(), "head": self.head}

    net = Headed(nn.Linear(2, 2, rng=0))
    assert [gradient.shape for gradient in net.gradients()] == [param.shape for param in net.parameters()]
