import copy
import json
import os
import pickle
import types

import numpy as np
import pytest

from numfuse import native, nn, optim, reference
from numfuse.bench import textbook
from numfuse.bench.backends import compare_backends
from numfuse.data import MinMax, Standardize
from numfuse.files import replacing
from numfuse.train import Model, evaluate, fit, mlp, predict


def problem(task="classification", rows=200, seed=0, dropout=0.2):
    """A small learnable problem: net, loss, optimizer, x, y and the Generator that made them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, 4), dtype=np.float32)
    net = mlp(4, 2 if task == "classification" else 1, [16], dropout=dropout, rng=rng)
    y, loss = x[:, :1] + 0.5 * x[:, 1:2] ** 2, nn.MSELoss()
    if task == "classification":
        y, loss = (y[:, 0] > 0.5).astype(np.int64), nn.CrossEntropyLoss()
    return net, loss, optim.AdamW(net.parameters(), lr=0.03), x, y, rng


def same_state(first, second):
    return all(np.array_equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_fit_learns(task):
    net, loss, optimizer, x, y, rng = problem(task, dropout=0.0)
    before = evaluate(net, x, y)
    history = fit(net, loss, optimizer, x, y, epochs=20, batch_size=32, rng=rng)
    assert [epoch.number for epoch in history] == list(range(1, 21))
    assert all(epoch.batch == epoch.batches == 7 and epoch.seconds > 0 for epoch in history)
    assert history[-1].loss < history[0].loss / 2
    assert evaluate(net, x, y) > max(before, 0.9)


@pytest.mark.parametrize("hidden, kinds", [
    ([], ["Linear"]),
    ([5], ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]),
])
def test_mlp(hidden, kinds):
    net = mlp(4, 3, hidden, dropout=0.1, rng=0)
    assert [type(layer).__name__ for layer in net] == kinds
    assert net(np.ones((2, 4), np.float32)).shape == (2, 3)


def test_mlp_without_batch_norm_has_biases():
    names = list(mlp(4, 3, [5], batch_norm=False).named_parameters())
    assert names == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert "0.bias" not in mlp(4, 3, [5]).named_parameters()


def test_equal_seeds_give_equal_nets():
    states = []
    for seed in (0, 0, 1):
        *training, rng = problem(seed=seed)
        fit(*training, epochs=2, batch_size=32, rng=rng)
        states.append(training[0].state_dict())
    assert same_state(states[0], states[1]) and not same_state(states[0], states[2])


def test_decay_ends_near_zero_and_sets_the_rate_back():
    net, loss, optimizer, x, y, rng = problem(rows=64)
    rates = []
    fit(net, loss, optimizer, x, y, epochs=2, batch_size=32, rng=rng,
        on_batch=lambda epoch: rates.append(optimizer.param_groups[0]["lr"]))
    assert rates == [0.03, 0.03 * 0.75, 0.03 * 0.5, 0.03 * 0.25]
    assert optimizer.param_groups[0]["lr"] == 0.03


def test_constant_rate():
    net, loss, optimizer, x, y, rng = problem(rows=64)
    rates = []
    fit(net, loss, optimizer, x, y, epochs=2, batch_size=32, rng=rng, schedule="constant",
        on_batch=lambda epoch: rates.append(optimizer.param_groups[0]["lr"]))
    assert rates == [0.03] * 4


def test_a_single_remaining_row_does_not_stop_batch_norm():
    net, loss, optimizer, x, y, rng = problem(rows=65)
    assert len(fit(net, loss, optimizer, x, y, epochs=1, batch_size=32, rng=rng)) == 1


def test_epoch_reports_the_mean_over_rows():
    net, _, _, x, y, rng = problem(rows=50, dropout=0.0)
    net = nn.Sequential(nn.Linear(4, 2, rng=0))  # no batch statistics: outputs do not depend on the batch
    still = optim.SGD(net.parameters(), lr=0.0)
    loss = nn.CrossEntropyLoss()
    (epoch,) = fit(net, loss, still, x, y, epochs=1, batch_size=32, rng=rng)
    # float32 losses, averaged in another order: a few units in the last of 24 bits.
    assert epoch.loss == pytest.approx(loss.forward(net.forward(x), y), rel=2**-20)
    assert epoch.score == evaluate(net, x, y)


def test_ctrl_c_ends_training_with_the_net_so_far():
    *training, rng = problem()

    def interrupt(epoch):
        if (epoch.number, epoch.batch) == (2, 3):
            raise KeyboardInterrupt

    history = fit(*training, epochs=5, batch_size=32, rng=rng, on_batch=interrupt)
    assert [epoch.number for epoch in history] == [1]
    assert training[2].param_groups[0]["lr"] == 0.03


def test_score_of_classes_and_quantities():
    net = nn.Sequential(nn.Linear(1, 2, rng=0))
    net[0].weight[...], net[0].bias[...] = [[1], [-1]], 0
    x = np.array([[1], [1], [-1], [-1]], np.float32)
    assert evaluate(net, x, np.array([0, 0, 0, 1])) == 0.75
    net = nn.Sequential(nn.Linear(1, 1, rng=0))
    net[0].weight[...], net[0].bias[...] = 1, 0
    y = np.array([[1], [2], [-1], [-2]], np.float32)
    assert evaluate(net, x, y) == pytest.approx(1 - (2 / 4) / (10 / 4), rel=1e-15)
    assert np.isnan(evaluate(net, x, np.ones((4, 1), np.float32)))


def test_predict_does_not_depend_on_its_batches():
    net, _, _, x, _, _ = problem(rows=50)
    one_by_one = predict(net, x, batch_size=1)
    # Products of 4 and 16 terms, which the BLAS may sum in another order.
    np.testing.assert_allclose(predict(net, x), one_by_one, rtol=0, atol=2**-20)
    assert predict(net, x[:0]).shape == (0, 2)


def modes(net):
    return [module.training for module in net.modules()]


@pytest.mark.parametrize("mixed", [False, True])
def test_predict_leaves_every_module_in_its_mode(mixed):
    net, _, _, x, y, _ = problem()
    if mixed:
        net[1].eval()
    before = modes(net)
    for use in (lambda: predict(net, x), lambda: evaluate(net, x, y)):
        use()
        assert modes(net) == before
    with pytest.raises(ValueError):
        predict(net, x[:, :3])
    assert modes(net) == before


def test_predict_joins_a_single_remaining_row_to_the_batch_before():
    net = nn.Sequential(nn.Linear(4, 3, rng=0), nn.BatchNorm1d(3, track_running_stats=False))
    x = np.random.default_rng(0).standard_normal((9, 4), dtype=np.float32)
    expected = np.concatenate([net(x[:4]), net(x[4:])])
    np.testing.assert_array_equal(predict(net, x, batch_size=4), expected)


@pytest.mark.parametrize("disturb", ["evaluate", "eval"])
def test_callbacks_may_evaluate_the_net(disturb):
    """After which a backward would be that of the last training forward before."""
    nets = []
    for on_batch in (None, lambda epoch: evaluate(net, x, y) < 0 if disturb == "evaluate" else net.eval() is None):
        net, loss, optimizer, x, y, _ = problem()
        fit(net, loss, optimizer, x, y, epochs=2, batch_size=50, rng=0, on_batch=on_batch)
        nets.append(net)
    assert same_state(*[net.state_dict() for net in nets])


def test_compare_backends_trains_copies_on_the_same_numbers():
    *training, rng = problem()
    before = training[0].state_dict()
    seconds, losses, batches, epochs = compare_backends(
        *training, batch_size=16, rng=rng, backends=[reference, reference, native], min_seconds=0.1)
    assert batches == 13 and epochs > 0 and all(value > 0 for value in seconds)
    assert losses[0] == losses[1]
    # All kernels but batch norm's sums give the same bits; some steps let those differ a little.
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)
    assert same_state(before, training[0].state_dict())
    assert training[0].kernels is native and training[2].kernels is native


@pytest.mark.parametrize("make, step", [
    (optim.SGD, "sgd_step"), (optim.RMSProp, "rmsprop_step"), (optim.AdamW, "adam_step"),
])
def test_every_kernel_of_a_training_step_is_the_compared_backends(make, step):
    net, loss, _, x, y, rng = problem()
    called = []

    def spy(name, backend):
        def call(*args, **options):
            called.append((name, backend))
            return getattr(reference, name)(*args, **options)

        return call

    backends = [types.ModuleType("first"), types.ModuleType("second")]
    for backend in backends:
        vars(backend).update({name: spy(name, backend) for name in reference.__all__})
    compare_backends(net, loss, make(net.parameters(), lr=0.01), x, y, batch_size=100, rng=rng,
                     backends=backends, min_seconds=0.0)
    kernels = ["batch_norm_relu_dropout_forward", "bias_relu_dropout_forward", "bias_relu_dropout_backward"]
    layers = [*kernels, "batch_norm_relu_dropout_backward"]
    assert called == [(name, backend) for backend in backends for name in [*layers, step] * 2]


@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("make", [optim.SGD, optim.RMSProp, optim.Adam, optim.AdamW])
def test_textbook_numpy_trains_alike(task, make):
    net, loss, _, x, y, rng = problem(task, dropout=0.0)
    optimizer = make(net.parameters(), lr=0.01, weight_decay=0.1)
    losses = compare_backends(net, loss, optimizer, x, y, batch_size=32, rng=rng,
                              backends=[reference, textbook], min_seconds=0.0)[1]
    # float32 in another order, through seven steps, which may turn a few of the ReLUs near 0.
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and losses[1] != losses[0]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_stay_with_textbook_numpy(duplicate):
    net, _, optimizer, *_ = problem()
    net, optimizer = duplicate((net.set_backend(textbook), optimizer.set_backend(textbook)))
    assert all(module.kernels is textbook for module in (net, *net, optimizer))


def test_textbook_dropout_drops_the_same_in_both_directions():
    x = np.ones((100, 100), np.float32)
    y, mask = textbook.dropout_forward(x, p=0.2, seed=0, offset=0, inverted=True)
    np.testing.assert_array_equal(textbook.dropout_backward(x, mask, p=0.2), y)
    assert y.dtype == np.float32 and set(np.unique(y)) == {0, np.float32(1.25)}
    assert not np.array_equal(y, textbook.dropout_forward(x, p=0.2, seed=0, offset=0, inverted=True)[0])


def test_compare_backends_stops_when_time_is_up():
    *training, rng = problem()
    _, losses, batches, epochs = compare_backends(
        *training, batch_size=8, rng=rng, backends=[reference], min_seconds=0.0, max_seconds=1e-9)
    assert (batches, epochs) == (10, 1) and np.isfinite(losses).all()


@pytest.mark.parametrize("scaler", [Standardize(), MinMax(), MinMax(feature_range=(-1, 0.5))])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_saved_model_predicts_what_it_did(tmp_path, task, scaler):
    net, loss, optimizer, x, y, rng = problem(task)
    raw = x * 3.0 + 7
    inputs = scaler.fit(raw)
    classes, targets = (["no", "yes"], None) if task == "classification" else (None, copy.deepcopy(scaler).fit(y))
    scaled = y if targets is None else targets(y)
    fit(net, loss, optimizer, inputs(raw), scaled, epochs=3, batch_size=32, rng=rng)
    outputs = 2 if classes else 1
    architecture = {"inputs": 4, "outputs": outputs, "hidden": [16], "batch_norm": True, "dropout": 0.2}
    model = Model(net, architecture, inputs, targets, classes, list("abcd"))
    model.save(tmp_path / "m.npz")
    loaded = Model.load(tmp_path / "m.npz")
    assert not any(modes(loaded.net))
    np.testing.assert_array_equal(loaded.predict(raw), model.predict(raw))
    assert loaded.features == list("abcd") and loaded.architecture == architecture
    if classes:
        assert np.mean(model.predict(raw) == np.array(classes)[y]) == evaluate(net, inputs(raw), y)
    else:
        # R^2 on the target's own scale: the predictions of float32 nets, so to about 2^-20.
        r2 = 1 - np.mean((model.predict(raw) - y[:, 0]) ** 2) / np.var(y)
        assert r2 == pytest.approx(evaluate(net, inputs(raw), scaled), abs=2**-18)
    with np.load(tmp_path / "m.npz", allow_pickle=False) as file:
        assert json.loads(str(file["about"]))["classes"] == classes
        np.testing.assert_array_equal(file["net.0.weight"], net[0].weight)


def test_a_model_checks_what_it_shall_predict():
    net, _, _, x, _, _ = problem()
    architecture = {"inputs": 4, "outputs": 2, "hidden": [16]}
    model = Model(net, architecture, Standardize().fit(x), None, ["no", "yes"], None)
    for shape in [(4,), (3, 5), ()]:
        with pytest.raises(ValueError, match=r"x must have shape \(rows, 4\)"):
            model.predict(np.zeros(shape))
    with pytest.raises(ValueError, match="not finite"):
        model.predict(np.full((1, 4), np.nan))


ABOUT = json.dumps({"architecture": {"inputs": 1, "outputs": 1, "hidden": []}, "scalers": {"inputs": ["minmax", {}]},
                    "classes": ["one"], "features": None})
LINEAR = {"net.0.weight": np.ones((1, 1), np.float32), "net.0.bias": np.ones(1, np.float32)}


def test_a_model_of_few_arrays(tmp_path):
    np.savez(tmp_path / "m.npz", about=np.array(ABOUT), **LINEAR, **{"inputs.minimum": [0.0], "inputs.maximum": [1.0]})
    assert Model.load(tmp_path / "m.npz").predict(np.ones((1, 1))) == ["one"]


@pytest.mark.parametrize("arrays", [
    {}, {"x": np.ones(3)}, {"about": np.array("no JSON")}, {"about": np.array("[]")},
    {"about": np.array("{}")}, {"about": np.array({"a": 1})},
    {"about": np.array('{"architecture": {}}'), "net.0.weight": np.ones(3)},
    *({"about": np.array(ABOUT.replace("minmax", kind)), **LINEAR, **scaler} for kind, scaler in [
        ("other", {"inputs.minimum": np.ones(1), "inputs.maximum": np.ones(1)}), ("minmax", {}),
        ("standard", {"inputs.minimum": np.ones(1), "inputs.maximum": np.ones(1)}),
        ("minmax", {"inputs.minimum": np.ones(1), "inputs.maximum": np.ones(2)}),
    ]),
    {"about": np.array('{"architecture": {}}'), "other.array": np.ones(3)},
])
def test_foreign_npz_is_no_model(tmp_path, arrays):
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(ValueError, match="m.npz is not a model that numfuse saved"):
        Model.load(tmp_path / "m.npz")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4", b"\x93NUMPY\1\0"])
def test_foreign_file_is_no_model(tmp_path, content):
    (tmp_path / "m.npz").write_bytes(content)
    with pytest.raises(ValueError, match="m.npz is not a model that numfuse saved"):
        Model.load(tmp_path / "m.npz")


def test_npy_file_is_no_model(tmp_path):
    np.save(tmp_path / "m.npy", np.ones(3))
    with pytest.raises(ValueError, match="m.npy is not a model that numfuse saved"):
        Model.load(tmp_path / "m.npy")


def test_missing_model(tmp_path):
    with pytest.raises(FileNotFoundError):
        Model.load(tmp_path / "m.npz")


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.npz"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="disk"), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError("disk full")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["m.npz"]
    with replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["m.npz"]
