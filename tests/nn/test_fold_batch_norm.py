"""Batch norm put into the Linear before it gives what the two give in evaluation."""

import numpy as np
import pytest

from helpers.arrays import draw
from helpers.batch_norm_layers import assert_same_bits, assert_state_is, random_layer
from numfuse import nn, reference


def linear(inputs, outputs, dtype=np.float64, **options):
    return nn.Linear(inputs, outputs, dtype=dtype, rng=np.random.default_rng(inputs), **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("axis", [1, -1])
def test_one_layer_gives_what_two_give(kernels, axis, affine, bias, dtype):
    norm = random_layer(dtype=dtype, axis=axis, affine=affine, eps=0.1)
    net = nn.Sequential(linear(40, 3, dtype, bias=bias), norm).set_backend(kernels)
    before, x = net.state_dict(), draw(50, 40, dtype=dtype)
    folded = nn.fold_batch_norm(net)
    assert len(folded) == 1 and not folded.training and not folded[0].training and folded[0].kernels is kernels
    assert net.training and norm.training and len(net) == 2
    assert_state_is(net, before)
    # Either computation adds 40 products, and rounds less than 10 times besides, on the way to a sum of
    # terms whose magnitudes add up to this.
    scale = (1 if norm.weight is None else norm.weight) / np.sqrt(norm.running_var + 0.1)
    magnitude = np.abs(x) @ np.abs(net[0].weight.T) + np.abs(norm.running_mean)
    magnitude = (magnitude + (np.abs(net[0].bias) if bias else 0)) * scale + (0 if norm.bias is None else norm.bias)
    y, expected = folded(x), net.eval()(x)
    assert y.dtype == dtype
    assert (np.abs(y - expected) <= 2 * 50 * np.finfo(dtype).eps * magnitude).all()


def exact(layer):
    """The layer with parameters and statistics in which all arithmetic on small integers is exact."""
    rng = np.random.default_rng(4)
    for array in (*layer.parameters(), *layer.named_buffers().values()):
        if array.dtype.kind == "f":
            array[...] = rng.integers(-4, 5, array.shape)
    if isinstance(layer, nn.BatchNorm1d) and layer.running_var is not None:
        layer.running_var[...] = 4.0 ** rng.integers(-2, 3, layer.num_features)
    return layer


def norm(channels, kind=nn.BatchNorm1d, **options):
    return kind(channels, eps=0, **{"dtype": np.float64} | options)


NETS = {
    "two": (lambda: [linear(4, 3), norm(3), nn.ReLU(), linear(3, 2, bias=False), norm(2)], "Linear ReLU Linear"),
    "nested": (lambda: [nn.Sequential(linear(4, 3)), nn.Sequential(nn.Sequential(norm(3)), nn.ReLU())],
               "[Linear] [[] ReLU]"),
    "first": (lambda: [norm(4), linear(4, 3)], "BatchNorm1d Linear"),
    "twice": (lambda: [linear(4, 3), norm(3), norm(3, affine=False)], "Linear"),
    "apart": (lambda: [linear(4, 3), nn.ReLU(), norm(3)], "Linear ReLU BatchNorm1d"),
    "dropout": (lambda: [linear(4, 3), nn.Dropout(0.5), norm(3)], "Linear Dropout BatchNorm1d"),
    "frozen": (lambda: [linear(4, 3), norm(3).freeze(), nn.Tanh()], "Linear Tanh"),
    "no statistics": (lambda: [linear(4, 3), norm(3, track_running_stats=False)], "Linear BatchNorm1d"),
    "none": (lambda: [nn.Tanh(), linear(4, 3)], "Tanh Linear"),
    "empty": (lambda: [], ""),
}


def kinds(net):
    """The names of a net's layers, those of Sequentials in brackets."""
    return " ".join(f"[{kinds(layer)}]" if isinstance(layer, nn.Sequential) else type(layer).__name__ for layer in net)


@pytest.mark.parametrize("build, folded_kinds", NETS.values(), ids=NETS)
def test_nets(kernels, build, folded_kinds):
    net = nn.Sequential(*build()).set_backend(kernels)
    for module in net.modules():
        if not isinstance(module, nn.Sequential):
            exact(module)
    folded = nn.fold_batch_norm(net)
    assert kinds(folded) == folded_kinds and folded.kernels is kernels
    assert not any(module.training for module in folded.modules()) and all(module.training for module in net.modules())
    x = np.random.default_rng(0).integers(-4, 5, (6, 4)).astype(float)
    assert_same_bits({"y": folded(x) + 0}, {"y": net.eval()(x) + 0})  # + 0: -0 and 0 are one here
    own = [array for module in net.modules() for array in (*module.parameters(), *module.gradients())]
    for array in (*folded.parameters(), *folded.gradients(), *folded.named_buffers().values()):
        assert not any(np.shares_memory(array, other) for other in own)
    assert [gradient.shape for gradient in folded.gradients()] == [array.shape for array in folded.parameters()]


def test_what_does_not_fit_the_layer_before_stays():
    other_channels = nn.Sequential(linear(4, 3), norm(5))  # of (N, 5, 3) arrays
    assert kinds(nn.fold_batch_norm(other_channels)) == "Linear BatchNorm1d"
    images = nn.Sequential(linear(4, 3), norm(3, nn.BatchNorm2d))
    assert kinds(nn.fold_batch_norm(images)) == "Linear BatchNorm2d"
    mixed = nn.Sequential(linear(4, 3), norm(3, dtype=np.float32))
    assert kinds(nn.fold_batch_norm(mixed)) == "Linear BatchNorm1d"


class Louder(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Twice(nn.Sequential):
    def forward(self, x, mask=None):
        return super().forward(super().forward(x, mask), mask)


def test_subclasses_are_left_alone():
    assert kinds(nn.fold_batch_norm(nn.Sequential(Louder(4, 3), nn.BatchNorm1d(3)))) == "Louder BatchNorm1d"
    inner = Twice(linear(3, 3), norm(3))
    folded = nn.fold_batch_norm(nn.Sequential(inner, norm(3)))
    assert type(folded[0]) is Twice and folded[0] is not inner and len(folded[0]) == len(folded) == 2
    with pytest.raises(TypeError, match="net must be a Sequential, was Twice"):
        nn.fold_batch_norm(inner)
    with pytest.raises(TypeError, match="net must be a Sequential, was Linear"):
        nn.fold_batch_norm(linear(3, 3))


def test_the_folded_net_trains_on(check_gradients):
    net = nn.Sequential(linear(4, 3, bias=False), random_layer(), nn.Tanh())
    check_gradients(nn.fold_batch_norm(net.set_backend(reference)).train(), draw(5, 4))
