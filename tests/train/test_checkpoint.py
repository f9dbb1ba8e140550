import os

import numpy as np
import pytest

from numfuse import nn, optim
from numfuse.train import load_checkpoint, mlp, save_checkpoint


def parts(seed=0, steps=0, make=optim.AdamW, hidden=(6,)):
    """A net, an optimizer that has made some steps, and a Generator."""
    rng = np.random.default_rng(seed)
    net = mlp(3, 2, hidden, dropout=0.3, rng=rng)
    optimizer = make(net.parameters(), lr=0.01 * (seed + 1))
    loss = nn.CrossEntropyLoss()
    for _ in range(steps):
        loss.forward(net.forward(rng.standard_normal((8, 3), np.float32)), rng.integers(2, size=8))
        net.backward(loss.backward())
        optimizer.step(net.gradients())
    return {"net": net, "optimizer": optimizer, "rng": rng}


class Clock:
    """The least of a scheduler."""

    def __init__(self, time):
        self.time = time

    def state_dict(self):
        return {"time": self.time}

    def load_state_dict(self, state):
        self.time = state["time"]


def shown(parts):
    """All that a checkpoint holds of the parts, to the last digit."""
    with np.printoptions(floatmode="unique", threshold=10**6):
        return str({name: part.bit_generator.state if name == "rng" else part.state_dict()
                    for name, part in parts.items()})


@pytest.mark.parametrize("make", [optim.SGD, optim.RMSProp, optim.Adam, optim.AdamW])
def test_a_round_trip(tmp_path, make):
    saved, other = parts(0, 3, make) | {"scheduler": Clock(3)}, parts(1, 1, make) | {"scheduler": Clock(1)}
    assert shown(saved) != shown(other)
    save_checkpoint(tmp_path / "c.npz", **saved, about={"epoch": 3})
    assert load_checkpoint(tmp_path / "c.npz", **other) == {"epoch": 3}
    assert shown(saved) == shown(other)
    assert other["rng"].random() == saved["rng"].random()


@pytest.mark.parametrize("make", [np.random.PCG64, np.random.Philox, np.random.SFC64, np.random.MT19937])
def test_every_kind_of_generator(tmp_path, make):
    rng, other = np.random.Generator(make(0)), np.random.Generator(make(1))
    rng.random(dtype=np.float32)
    save_checkpoint(tmp_path / "c.npz", rng=rng)
    load_checkpoint(tmp_path / "c.npz", rng=other)
    np.testing.assert_array_equal(other.random(3, np.float32), rng.random(3, np.float32))


ABOUT = {
    "none": None, "true": True, "integer": 2**70, "float": 0.1, "nan": [float("inf"), -0.0], "text": "a.b/ü",
    "tuple": (1, (2, [])), 7: {"seven": {}}, "a.b": 1, "a": {"b": 2}, None: 0,
}


def test_plain_values_come_back_as_they_were(tmp_path):
    save_checkpoint(tmp_path / "c.npz", about=ABOUT)
    assert repr(load_checkpoint(tmp_path / "c.npz")) == repr(ABOUT)


@pytest.mark.parametrize("array", [
    np.arange(6.0).reshape(2, 3), np.arange(6, dtype=np.float32).reshape(2, 3).T, np.array(2**63, np.uint64),
    np.zeros((0, 3)), np.array(["text"]), np.array(0.1, np.float32), np.arange(9)[::2],
    np.array([np.nan, -0.0, 5e-324]),
])
def test_arrays_come_back_as_they_were(tmp_path, array):
    save_checkpoint(tmp_path / "c.npz", about=[array, {"a.b": array, "a": {"b": np.repeat(array, 2)}}])
    first, rest = load_checkpoint(tmp_path / "c.npz")
    for back, wanted in ((first, array), (rest["a.b"], array), (rest["a"]["b"], np.repeat(array, 2))):
        assert back.dtype == wanted.dtype and back.shape == wanted.shape and back.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("scalar", [
    np.float32(0.1), np.float64(0.1), np.float16(np.inf), np.True_, np.int8(-3), np.uint64(2**64 - 1), np.str_("text"),
])
def test_numpy_scalars_come_back_as_plain_values(tmp_path, scalar):
    save_checkpoint(tmp_path / "c.npz", about=[scalar, {"deep": scalar}])
    first, rest = load_checkpoint(tmp_path / "c.npz")
    assert type(first) is type(rest["deep"]) is type(scalar.item()) and first == rest["deep"] == scalar.item()


@pytest.mark.parametrize("key", [(1, 2), frozenset(), np.int64(3), b"bytes", np.float32(3)])
def test_keys_that_are_no_plain_values_are_refused(tmp_path, key):
    for about, name in (({key: 3}, "about"), ([{"deep": {key: 3}}], "about.0.deep")):
        with pytest.raises(TypeError, match=f"the keys of {name} must be plain values"):
            save_checkpoint(tmp_path / "c.npz", about=about)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("about", [
    object(), {1, 2}, [{"deep": np.array([None])}], 1j, np.complex64(1j), np.longdouble(1),
])
def test_other_objects_are_refused_and_the_old_file_stays(tmp_path, about):
    save_checkpoint(tmp_path / "c.npz", about=1)
    with pytest.raises(TypeError, match="about.* must be plain values and arrays"):
        save_checkpoint(tmp_path / "c.npz", about=about)
    assert load_checkpoint(tmp_path / "c.npz") == 1 and os.listdir(tmp_path) == ["c.npz"]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "c.npz", about=1)

    def crash(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", crash)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / "c.npz", about=2)
    assert load_checkpoint(tmp_path / "c.npz") == 1 and os.listdir(tmp_path) == ["c.npz"]


@pytest.mark.parametrize("other, fault", [
    ({"net": mlp(4, 2, [6], dropout=0.3)}, "this net: .*0.weight must have shape"),
    ({"net": mlp(3, 2, [6])}, "this net: state must have the names"),
    ({"net": nn.Linear(3, 2)}, "this net: it was Sequential, now is Linear"),
    ({"optimizer": optim.Adam(parts()["net"].parameters())}, "this optimizer: it was AdamW, now is Adam"),
    ({"optimizer": optim.AdamW(parts()["net"].parameters()[1:])}, "this optimizer: "),
    ({"rng": np.random.Generator(np.random.MT19937())}, "this rng: "),
    ({"scheduler": Clock(0)}, "holds no scheduler"),
])
def test_what_belongs_to_others_changes_nothing(tmp_path, other, fault):
    save_checkpoint(tmp_path / "c.npz", **parts(0, 2))
    mine = parts(1, 1) | other
    before = shown(mine)
    with pytest.raises(ValueError, match=f"c.npz .*{fault}"):
        load_checkpoint(tmp_path / "c.npz", **mine)
    assert shown(mine) == before


def test_a_part_that_breaks_while_loading_changes_nothing(tmp_path):
    class Breaking(Clock):
        def load_state_dict(self, state):
            super().load_state_dict(state)
            if state["time"] == 0:
                raise MemoryError

    save_checkpoint(tmp_path / "c.npz", **parts(0, 2), scheduler=Breaking(0))
    mine = parts(1, 1) | {"scheduler": Breaking(1)}
    before = shown(mine)
    with pytest.raises(MemoryError):
        load_checkpoint(tmp_path / "c.npz", **mine)
    assert shown(mine) == before


def test_damaged_files_change_nothing(tmp_path):
    path = tmp_path / "c.npz"
    save_checkpoint(path, **parts(0, 2))
    content = path.read_bytes()
    mine = parts(1, 1)
    before, refused = shown(mine), 0
    for start in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[start] ^= 0x10
        for broken in (bytes(damaged), content[:start]):
            path.write_bytes(broken)
            try:
                load_checkpoint(path, **mine)
            except ValueError as error:
                refused += 1
                assert "c.npz" in str(error)
                assert shown(mine) == before
            else:  # a byte that means nothing, such as a file's time
                assert broken is not content[:start] and shown(mine) == shown(parts(0, 2))
                mine = parts(1, 1)
    assert refused > len(content) // 97


@pytest.mark.parametrize("arrays", [
    {}, {"x": np.ones(3)}, {"checkpoint": np.array("no JSON")}, {"checkpoint": np.array("[]")},
    {"checkpoint": np.array("{}")}, {"checkpoint": np.array('{"about": {}}')},
    {"checkpoint": np.array('{"about": {"array": "missing"}}')}, {"checkpoint": np.array('{"about": {"set": []}}')},
    {"checkpoint": np.array('{"about": {"dict": [1]}}')}, {"checkpoint": np.array({"a": 1})},
    {"checkpoint": np.array("[" * 10**5)},
])
def test_foreign_files_are_refused(tmp_path, arrays):
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(ValueError, match="c.npz is not a checkpoint"):
        load_checkpoint(tmp_path / "c.npz")


@pytest.mark.parametrize("tree", ['{"about": null, "net": 3}', '{"about": null, "net": {"dict": []}}'])
def test_parts_that_are_none(tmp_path, tree):
    np.savez(tmp_path / "c.npz", checkpoint=np.array(tree))
    with pytest.raises(ValueError, match="c.npz "):
        load_checkpoint(tmp_path / "c.npz", net=nn.Linear(1, 1))


def test_npy_is_no_checkpoint(tmp_path):
    np.save(tmp_path / "c.npy", np.ones(3))
    with pytest.raises(ValueError, match="c.npy is not a checkpoint"):
        load_checkpoint(tmp_path / "c.npy")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "c.npz")
