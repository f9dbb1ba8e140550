"""A Sequential that runs layers together gives, bit for bit, what the layers give one after the other."""

import copy
import functools
import gc
import pickle
import types
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.arrays import draw
from numfuse import native, nn, optim, reference
from numfuse.nn import linear
from numfuse.nn.fused import Block
from numfuse.train import train_batch

WIDTH = 5


class Scale(nn.Module):
    """A user's layer, whose backward has no other arguments than it must."""

    parameter_names = ("weight",)

    def __init__(self, dtype):
        self.weight = np.full(1, 2, dtype)
        self.init_gradients()

    def forward(self, x):
        self.save_for_backward(x)
        return x * self.weight

    def backward(self, grad_y, accumulate=False):
        gradient = (grad_y * self.saved()).sum(dtype=np.float64)
        self.grad_weight[...] = gradient + self.grad_weight if accumulate else gradient
        return grad_y * self.weight


class Loud(nn.ReLU):
    """A subclass that changes what its base does."""

    def forward(self, x):
        return super().forward(x) * x.dtype.type(3)


KINDS = {
    "linear": lambda dtype, rng: nn.Linear(WIDTH, WIDTH, dtype=dtype, rng=rng),
    "linear without bias": lambda dtype, rng: nn.Linear(WIDTH, WIDTH, bias=False, dtype=dtype, rng=rng),
    "relu": lambda dtype, rng: nn.ReLU(),
    "half": lambda dtype, rng: nn.Dropout(0.5, rng=rng),
    "some": lambda dtype, rng: nn.Dropout(0.2, rng=rng),
    "none": lambda dtype, rng: nn.Dropout(0, rng=rng),
    "all": lambda dtype, rng: nn.Dropout(1, rng=rng),
    "plain": lambda dtype, rng: nn.Dropout(0.5, inverted=False, rng=rng),
    "tanh": lambda dtype, rng: nn.Tanh(),
    "batch norm": lambda dtype, rng: nn.BatchNorm1d(WIDTH, dtype=dtype),
    "nested": lambda dtype, rng: nn.Sequential(nn.Linear(WIDTH, WIDTH, dtype=dtype, rng=rng), nn.ReLU()),
    "user's": lambda dtype, rng: Scale(dtype),
    "subclass": lambda dtype, rng: Loud(),
}
ORDERS = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "gaps": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "reversed": lambda x: x[::-1].copy()[::-1],
}

stacks = st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=6)
orders = st.sampled_from(sorted(ORDERS))


def make_net(kinds, dtype=np.float32):
    rng = np.random.default_rng(0)
    return nn.Sequential(*(KINDS[kind](dtype, rng) for kind in kinds))


def forward_by_layers(net, x):
    for layer in net:
        x = layer.forward(x) if not isinstance(layer, nn.Sequential) else forward_by_layers(layer, x)
    return x


def backward_by_layers(net, grad_y, accumulate):
    for layer in reversed(net.layers):
        each = backward_by_layers if isinstance(layer, nn.Sequential) else type(layer).backward
        grad_y = each(layer, grad_y, accumulate)
    return grad_y


def outcome(forward, backward, net, batches, *, accumulate):
    """All bits that two steps and an evaluation give."""
    arrays = []
    for x, grad_y in batches:
        y = forward(net, x)
        arrays += [y, backward(net, grad_y, accumulate), *net.gradients()]
        arrays += net.state_dict().values()
    net.eval()
    arrays.append(forward(net, batches[0][0]))
    net.train()
    arrays.append(backward(net, batches[1][1], accumulate))  # of the last training forward
    return [(array.shape, array.dtype, np.where(np.isnan(array), np.nan, array).tobytes()) for array in arrays]


@settings(max_examples=200, deadline=None)
@given(
    kinds=stacks, rows=st.sampled_from([(0,), (2,), (7,), (33,), (3, 4)]), order=orders, grad_order=orders,
    dtype=st.sampled_from([np.float32, np.float64]), accumulate=st.booleans(), special=st.booleans(),
    backend=st.sampled_from([native, reference]),
)
def test_random_stacks(kinds, rows, order, grad_order, dtype, accumulate, special, backend):
    if "batch norm" in kinds and len(rows) > 1:
        rows = (12,)
    net = make_net(kinds, dtype).set_backend(backend)
    batches = []
    for seed in range(2):
        x, grad_y = draw(*rows, WIDTH, dtype=dtype, seed=seed), draw(*rows, WIDTH, dtype=dtype, seed=seed + 9)
        if special and x.size:
            x.flat[:: 7 - seed] = [np.nan, -0.0][seed]
            grad_y.flat[3::11] = np.inf
        batches.append((ORDERS[order](x), ORDERS[grad_order](grad_y)))
    twin = copy.deepcopy(net)
    outcomes = []
    with np.errstate(all="ignore"):
        for forward, backward, each in (
            (nn.Sequential.forward, nn.Sequential.backward, net), (forward_by_layers, backward_by_layers, twin),
        ):
            try:
                outcomes.append(outcome(forward, backward, each, batches, accumulate=accumulate))
            except (TypeError, ValueError) as error:
                outcomes.append((type(error), str(error)))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("kinds, blocks", [
    (["linear", "relu", "some"], [3]), (["linear", "relu"], [2]), (["linear", "some"], [2]), (["relu", "some"], [2]),
    (["linear", "relu", "some", "linear", "relu"], [3, 2]), (["some", "relu"], []), (["linear", "linear"], []),
    (["linear", "subclass", "some"], []), (["linear", "user's", "relu", "half"], [2]), (["relu", "relu", "some"], [2]),
    (["linear", "some", "relu"], [2]), (["linear", "relu", "plain"], [2]), (["plain", "relu", "some"], [2]),
    (["batch norm", "plain"], []),
])
def test_what_is_run_as_one(kinds, blocks):
    steps = make_net(kinds)._steps()
    assert [len(step.layers) for step in steps if isinstance(step, Block)] == blocks
    assert sum(len(step.layers) if isinstance(step, Block) else 1 for step in steps) == len(kinds)


def counting(net):
    """A list that every call of a kernel by a layer of this net adds its name to."""
    called, backend = [], types.ModuleType("counting")

    def spy(name):
        def call(*args, **options):
            called.append(name)
            return getattr(native, name)(*args, **options)

        return call

    vars(backend).update({name: spy(name) for layer in net.modules() for name in layer.kernel_names})
    net.set_backend(backend)
    return called


def test_a_block_is_one_call_in_each_direction():
    net = make_net(["linear", "relu", "some"])
    called = counting(net)
    net.backward(net(draw(7, WIDTH, dtype=np.float32)))
    assert called == ["bias_relu_dropout_forward", "bias_relu_dropout_backward"]


def test_layers_on_different_backends_are_run_alone():
    net = make_net(["linear", "relu", "some"])
    called = counting(net[1])
    net.backward(net(draw(7, WIDTH, dtype=np.float32)))
    assert called == ["bias_relu_dropout_forward", "bias_relu_dropout_backward"]


def test_changes_of_layers_are_noticed():
    net, x = make_net(["linear", "relu"]), draw(7, WIDTH, dtype=np.float32)
    net(x)
    net.append(nn.Dropout(0.5, rng=0))
    net.layers[1] = nn.Tanh()
    twin = copy.deepcopy(net)
    assert np.array_equal(net(x), forward_by_layers(twin, x))
    assert net[2].offset == 1
    net.layers.pop()
    assert np.array_equal(net(x), forward_by_layers(nn.Sequential(*twin[:2]), x))


@pytest.mark.parametrize("change", [
    lambda net: vars(net[2]).update(p=0.5), lambda net: net[2].eval(), lambda net: net[1].eval(), lambda net: net[0].eval(),
    lambda net: net[1].set_backend(reference), lambda net: net[2].offset.fill(9), lambda net: net[2].seed.fill(9),
], ids=["p", "dropout in evaluation", "relu in evaluation", "linear in evaluation", "backend", "offset", "seed"])
def test_changes_of_a_layer_are_noticed(change):
    net, x = make_net(["linear", "relu", "some"]), draw(7, WIDTH, dtype=np.float32)
    net(x)
    change(net)
    twin = copy.deepcopy(net)
    assert np.array_equal(net(x), forward_by_layers(twin, x))
    assert np.array_equal(net(2 * x), forward_by_layers(twin, 2 * x))
    assert net[2].offset == twin[2].offset


@pytest.mark.parametrize("kinds", [["linear", "relu", "some"], ["relu", "some"], ["linear", "relu"]])
def test_layers_called_alone_after_the_net_are_not_mistaken(kinds):
    net, x, other = make_net(kinds), draw(7, WIDTH, dtype=np.float32), draw(7, WIDTH, seed=2, dtype=np.float32)
    grad_y = draw(7, WIDTH, seed=3, dtype=np.float32)
    net(x)
    with pytest.raises(RuntimeError, match=f"{type(net[-1]).__name__}.backward needs a forward in training mode"):
        net[-1].backward(grad_y)
    twin = copy.deepcopy(net)
    y = forward_by_layers(net, other)
    assert np.array_equal(y, forward_by_layers(twin, other))
    assert np.array_equal(net.backward(grad_y), backward_by_layers(twin, grad_y, False))
    for gradient, wanted in zip(net.gradients(), twin.gradients()):
        assert np.array_equal(gradient, wanted)
    net(x)
    net[0](other)
    with pytest.raises(RuntimeError, match="backward needs a forward in training mode"):
        net.backward(grad_y)
    net(x)
    net.backward(grad_y)


def test_a_layer_that_was_run_with_others_cannot_go_back_alone():
    net, x = make_net(["linear", "relu"]), draw(7, WIDTH, dtype=np.float32)
    net(x)
    for layer in net:
        with pytest.raises(RuntimeError, match="a Sequential has run it as one with others"):
            layer.backward(x)
    net.backward(x)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_copies_forget_the_batch(duplicate):
    net = make_net(["linear", "relu", "some"])
    net(draw(7, WIDTH, dtype=np.float32))
    twin = duplicate(net)
    with pytest.raises(RuntimeError, match="Dropout.backward needs a forward in training mode"):
        twin.backward(draw(7, WIDTH, dtype=np.float32))
    assert np.array_equal(twin(draw(7, WIDTH, dtype=np.float32)), net(draw(7, WIDTH, dtype=np.float32)))
    assert not np.shares_memory(twin.parameters()[0], net.parameters()[0])


def test_too_many_calls_raise_as_the_layer_does():
    net, x = make_net(["linear", "relu", "some"]), draw(7, WIDTH, dtype=np.float32)
    net[2].offset[...] = 2**32
    with pytest.raises(ValueError, match="^offset must be in"):
        net(x)
    with pytest.raises(RuntimeError):
        net.backward(x)


@pytest.mark.parametrize("grad_y, error", [
    (np.ones((7, WIDTH)), TypeError), (draw(WIDTH, 7, dtype=np.float32), ValueError), ([1.0], TypeError),
], ids=["dtype", "shape", "list"])
def test_bad_gradient_changes_nothing(grad_y, error):
    net = make_net(["linear", "relu", "some"])
    net(draw(7, WIDTH, dtype=np.float32))
    net[0].grad_weight[...] = net[0].grad_bias[...] = 7
    with pytest.raises(error, match="^grad_y must"):
        net.backward(grad_y)
    assert (net[0].grad_weight == 7).all() and (net[0].grad_bias == 7).all()


# The gradient of the input

@settings(max_examples=60, deadline=None)
@given(kinds=stacks, accumulate=st.booleans())
def test_parameters_do_not_need_the_gradient_of_the_input(kinds, accumulate):
    net, x, grad_y = make_net(kinds), draw(7, WIDTH, dtype=np.float32), draw(7, WIDTH, seed=2, dtype=np.float32)
    twin = copy.deepcopy(net)
    net(x)
    twin(x)
    assert net.backward(grad_y, accumulate, input_grad=False) is None
    assert twin.backward(grad_y, accumulate).shape == x.shape
    for gradient, wanted in zip(net.gradients(), twin.gradients()):
        assert np.array_equal(gradient, wanted)


@pytest.mark.parametrize("kinds", [["linear"], ["linear", "relu"], ["nested"], ["tanh", "linear"]])
def test_the_product_that_nobody_needs_is_left_out(kinds, monkeypatch):
    net, x = make_net(kinds), draw(7, WIDTH, dtype=np.float32)
    y = net(x)
    products, dot = [], linear.dot
    monkeypatch.setattr(linear, "dot", lambda *args: products.append(args) or dot(*args))
    net.backward(y)
    assert len(products) == 2
    net.backward(y, input_grad=False)
    assert len(products) == 3


class Clipped(nn.Linear):
    """A subclass with an argument less than its base."""

    def backward(self, grad_y, accumulate=False):
        return super().backward(np.clip(grad_y, -0.1, 0.1), accumulate)


@pytest.mark.parametrize("layer", [Scale(np.float32), Clipped(WIDTH, WIDTH, rng=0)], ids=["layer", "subclass"])
def test_a_first_layer_of_the_user_is_called_as_it_can_be(layer):
    net, x = nn.Sequential(nn.Flatten(), layer, nn.ReLU()), draw(7, WIDTH, dtype=np.float32)
    net(x)
    net.backward(x)
    expected = [gradient.copy() for gradient in net.gradients()]
    assert net.backward(x, input_grad=False) is None
    assert all(np.array_equal(gradient, wanted) for gradient, wanted in zip(net.gradients(), expected))


class Whole(nn.Module):
    """A user's net around one of ours."""

    def __init__(self, inner):
        self.inner = inner

    def forward(self, x):
        return self.inner.forward(x)

    def backward(self, grad_y, accumulate=False):
        return self.inner.backward(grad_y, accumulate)


def test_training_takes_any_net():
    x, labels = draw(7, WIDTH, dtype=np.float32), np.arange(7) % WIDTH
    losses = []
    for wrap in (lambda net: net, Whole):
        net = wrap(make_net(["linear", "relu", "linear"]))
        optimizer = optim.SGD(net.parameters(), lr=0.5)
        losses.append([train_batch(net, nn.CrossEntropyLoss(), optimizer, x, labels)[0] for _ in range(5)])
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("method", ["forward", "backward"])
@pytest.mark.parametrize("patch", ["instance", "class", "subclass"])
def test_layers_with_replaced_methods_are_not_fused(patch, method, monkeypatch):
    net, twin = (make_net(["linear", "relu", "batch norm", "relu"]) for _ in range(2))
    x = draw(8, WIDTH, dtype=np.float32)
    plain = getattr(nn.ReLU, method)
    calls = []

    def counting(self, *given):
        calls.append(self)
        return plain(self, *given)

    if patch == "instance":
        for relu in net[1], net[3]:
            setattr(relu, method, functools.partial(counting, relu))
    elif patch == "class":
        monkeypatch.setattr(nn.ReLU, method, counting)
    else:
        net[1].__class__ = net[3].__class__ = type("Counting", (nn.ReLU,), {method: counting})
    results = [(each(x), each.backward(x)) for each in (net, twin)]
    assert len(calls) == (4 if patch == "class" else 2)
    assert all(np.array_equal(*pair) for pair in zip(*results))


def test_a_change_of_the_list_of_layers_is_noticed():
    net, x = make_net(["linear", "relu", "linear"]), draw(8, WIDTH, dtype=np.float32)
    net(x)
    net[1].forward = lambda x: np.full_like(x, 7)
    net.append(nn.Tanh())
    assert np.array_equal(net(x), net[3](net[2](np.full((8, WIDTH), 7, np.float32))))


def test_blocks_that_share_layers_do_not_take_the_masks_of_each_other():
    net = make_net(["linear", "relu", "half", "tanh"])
    x = draw(64, WIDTH, dtype=np.float32)
    net(x)
    net[1:3](np.full((64, WIDTH), -1, np.float32))
    with pytest.raises(RuntimeError, match="backward needs a forward in training mode"):
        net.backward(np.ones((64, WIDTH), np.float32))


def test_nothing_is_kept_in_a_circle():
    net = make_net(["linear", "relu", "half", "batch norm", "relu", "half"])
    x = draw(200, WIDTH, dtype=np.float32)
    net.backward(net(x))
    gc.collect()
    gc.disable()
    try:
        freed = weakref.ref(x)
        net(draw(200, WIDTH, dtype=np.float32))
        del x
        assert freed() is None
        layer = weakref.ref(net[0])
        del net
        assert layer() is None
    finally:
        gc.enable()
