"""The losses against PyTorch's, in float64; it has no sample weights: those weigh its losses of single rows."""

import numpy as np
import pytest

from numfuse import nn

torch = pytest.importorskip("torch", reason="needs PyTorch: parity with a peer, never a dependency")

EPS = np.finfo(np.float64).eps

each_reduction = pytest.mark.parametrize("reduction", ["mean", "sum"])
each_weighting = pytest.mark.parametrize("weighted", [False, True], ids=["", "sample weights"])


def sample_weights(rows, rng):
    """Some of them 0, but the first."""
    return rng.uniform(0.5, 2, rows) * (np.arange(rows) % 3 != 1)


def compare(loss, peer, x, target, weight, counts):
    """Value and gradient of `loss` and of its peer, whose terms count as much as `counts` in a mean."""
    leaf, labels = torch.tensor(x, requires_grad=True), torch.tensor(target)
    if weight is None:
        expected = peer(leaf, labels)
    else:
        peer.reduction = "none"
        terms = peer(leaf, labels)
        w = torch.tensor(weight).reshape(-1, *[1] * (terms.ndim - 1)).expand_as(terms)
        expected = (w * terms).sum()
        if loss.reduction == "mean":
            expected = expected / (w * counts).sum()
    expected.backward()
    gradient = leaf.grad.numpy()
    # A term and a slope are of some 30 roundings, of numbers up to 100 in exp's argument, whose rounding is an error
    # of its result; there are up to 12,000 terms, none negative.
    assert loss(x, target, weight) == pytest.approx(expected.item(), rel=500 * EPS)
    largest = max(np.abs(gradient).max(), 1 / x.size)  # with one class it is 0 but for rounding
    np.testing.assert_allclose(loss.backward(), gradient, rtol=0, atol=500 * EPS * largest)


@each_reduction
@each_weighting
@pytest.mark.parametrize("shape", [(7, 5), (1, 2), (300, 40), (9, 1), (3, 2500)], ids=str)
@pytest.mark.parametrize("class_weights", [False, True], ids=["", "class weights"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(reduction, weighted, shape, class_weights, smoothing):
    rng = np.random.default_rng(shape)
    x, target = 3 * rng.standard_normal(shape), rng.integers(shape[1], size=shape[0])
    weight = rng.uniform(0.5, 2, shape[1]) if class_weights else None
    loss = nn.CrossEntropyLoss(reduction, weight=weight, label_smoothing=smoothing)
    peer = torch.nn.CrossEntropyLoss(weight if weight is None else torch.tensor(weight), reduction=reduction,
                                     label_smoothing=smoothing)
    counts = torch.ones(len(x)) if weight is None else torch.tensor(weight[target])
    compare(loss, peer, x, target, sample_weights(len(x), rng) if weighted else None, counts)


@each_reduction
@each_weighting
@pytest.mark.parametrize("shape", [(7,), (6, 5), (1, 1), (5, 4, 3), (300, 40)], ids=str)
@pytest.mark.parametrize("name, options", [
    ("MSELoss", {}), ("HuberLoss", {}), ("HuberLoss", {"delta": 0.3}), ("HuberLoss", {"delta": 100.0}),
    ("BCEWithLogitsLoss", {}), ("BCEWithLogitsLoss", {"pos_weight": 3.0}),
    ("BCEWithLogitsLoss", {"pos_weight": "each"}),
], ids=str)
def test_losses_of_elements(reduction, weighted, shape, name, options):
    rng = np.random.default_rng(shape)
    x, target = 3 * rng.standard_normal(shape), rng.uniform(size=shape)
    if options.get("pos_weight") == "each":
        options = {"pos_weight": rng.uniform(0, 2, shape[-1])}
    loss = getattr(nn, name)(reduction=reduction, **options)
    if "pos_weight" in options:
        options = {"pos_weight": torch.tensor(options["pos_weight"])}
    peer = getattr(torch.nn, name)(reduction=reduction, **options)
    compare(loss, peer, x, target, sample_weights(shape[0], rng) if weighted else None, torch.ones(shape))


@each_reduction
@pytest.mark.parametrize("scale", [100.0, 1e4])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_logits(reduction, scale, smoothing):
    rng = np.random.default_rng(4)
    x, target = scale * rng.standard_normal((20, 6)), rng.integers(6, size=20)
    loss = nn.CrossEntropyLoss(reduction, weight=np.arange(6.0), label_smoothing=smoothing)
    peer = torch.nn.CrossEntropyLoss(torch.arange(6.0, dtype=torch.float64), reduction=reduction,
                                     label_smoothing=smoothing)
    compare(loss, peer, x, target, None, None)
    x, target = scale * rng.standard_normal((20, 6)), rng.integers(2, size=(20, 6)).astype(float)
    compare(nn.BCEWithLogitsLoss(reduction, pos_weight=np.arange(6.0)),
            torch.nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=torch.arange(6.0, dtype=torch.float64)),
            x, target, None, None)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, [0.5, 1.0, 0.0, 2.0]], ids=str)
def test_weights_of_0_are_an_ignore_index(smoothing, weight):
    rng = np.random.default_rng(5)
    x, target = rng.standard_normal((12, 4)), rng.integers(4, size=12)
    ignored = np.arange(12) % 3 == 0
    loss = nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)
    peer = torch.nn.CrossEntropyLoss(None if weight is None else torch.tensor(weight, dtype=torch.float64),
                                     label_smoothing=smoothing, ignore_index=-100)
    leaf = torch.tensor(x, requires_grad=True)
    expected = peer(leaf, torch.tensor(np.where(ignored, -100, target)))
    expected.backward()
    assert loss(x, target, ~ignored) == pytest.approx(expected.item(), rel=100 * EPS)
    np.testing.assert_allclose(loss.backward(), leaf.grad.numpy(), rtol=0, atol=100 * EPS)
