import copy
import json
import os

import numpy as np
import pytest
from helpers.training import problem

from numfuse import nn
from numfuse.data import MinMax, Standardize
from numfuse.files import replacing
from numfuse.train import Model, evaluate, fit, mlp, predict


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
