"""Arrays that NumPy programs have as gradients: read, whatever their layout, or refused with a remedy that works."""

import numpy as np
import pytest

from helpers.arrays import misaligned
from helpers.optimizers import every_backend
from numfuse.optim import Adam

BASE = np.random.default_rng(3).standard_normal((4, 6), dtype=np.float32)
WIDE = np.random.default_rng(4).standard_normal((8, 12), dtype=np.float32)


class Labelled(np.ndarray):
    """A subclass whose methods must not be asked for what the array is."""

    mask = None

    def view(self, *_):
        return np.ones(1, np.int8)


def mapped(path, array):
    """The array as a memory map that is only read."""
    np.save(path, array)
    return np.load(path, mmap_mode="r")


READ = {
    "C order": lambda path: BASE.copy(),
    "Fortran order": lambda path: np.asfortranarray(BASE),
    "transposed": lambda path: np.ascontiguousarray(BASE.T).T,
    "product of transposed": lambda path: (WIDE.T[:6] @ WIDE[:, :4]).T,
    "rows of a larger array": lambda path: WIDE[2:6, :6],
    "every second": lambda path: WIDE[::2, ::2],
    "reversed": lambda path: BASE[::-1],
    "reversed columns": lambda path: BASE[:, ::-1],
    "broadcast row": lambda path: np.broadcast_to(BASE[0], (4, 6)),
    "broadcast column": lambda path: np.broadcast_to(BASE[:, :1], (4, 6)),
    "broadcast scalar": lambda path: np.broadcast_to(np.float32(0.5), (4, 6)),
    "subclass": lambda path: np.ndarray.view(BASE.copy(), Labelled),
    "matrix": lambda path: BASE.copy().view(np.matrix),
    "memory map": lambda path: mapped(path / "grad.npy", BASE),
    "read-only": lambda path: np.frombuffer(BASE.tobytes(), np.float32).reshape(4, 6),
    "misaligned": lambda path: misaligned(BASE),
    "byte-swapped": lambda path: BASE.astype(BASE.dtype.newbyteorder()),
    "field of records": lambda path: np.rec.fromarrays([BASE, BASE], names="grad,other")["grad"],
    "diagonal stack": lambda path: np.lib.stride_tricks.sliding_window_view(WIDE[0, :9], 6),
    "scalar": lambda path: (BASE * BASE).sum(),
    "0-d": lambda path: np.array(0.5, np.float32),
    "element of an array": lambda path: BASE[1, 2],
    "empty": lambda path: np.empty((0, 3), np.float32)[:, ::-1],
}

REFUSED = {
    "float64": (BASE.astype(np.float64), TypeError, lambda grad: grad.astype("float32")),
    "float64 scalar": ((BASE.astype(np.float64) ** 2).sum(), TypeError, lambda grad: grad.astype("float32")),
    "float16": (BASE.astype(np.float16), TypeError, lambda grad: grad.astype("float32")),
    "integers": (np.ones((4, 6), int), TypeError, lambda grad: grad.astype("float32")),
    "masked": (np.ma.masked_less(BASE, 0), TypeError, lambda grad: grad.filled(0)),
    "nested lists": (BASE.tolist(), TypeError, lambda grad: np.array(grad, "float32")),
    "Python number": (0.5, TypeError, lambda grad: np.array(grad, "float32")),
    "another shape": (BASE.T, ValueError, lambda grad: grad.reshape(4, 6)),
}


@every_backend
@pytest.mark.parametrize("kind", READ)
def test_gradient_is_read_as_its_copy_is(backend, kind, tmp_path):
    grad = READ[kind](tmp_path)
    copy = np.array(grad, dtype=np.float32, order="C", subok=False)
    results = []
    for given in (grad, copy):
        param = np.ones(copy.shape, np.float32)
        optimizer = Adam([param], lr=0.1, max_grad_norm=1.0).set_backend(backend)
        for _ in range(3):
            assert optimizer.step([given])
        results.append((param.tobytes(), optimizer.grad_norm, [a.tobytes() for a in arrays_of(optimizer)]))
    assert results[0] == results[1]
    assert np.array(grad).tobytes() == np.array(READ[kind](tmp_path)).tobytes()


@every_backend
@pytest.mark.parametrize("kind", REFUSED)
def test_gradient_is_refused_with_a_remedy(backend, kind):
    grad, error, remedy = REFUSED[kind]
    param = np.ones(() if np.ndim(grad) == 0 else (4, 6), np.float32)
    optimizer = Adam([param]).set_backend(backend)
    with pytest.raises(error, match=r"^grads\[0\] must ") as caught:
        optimizer.step([grad])
    assert (param == 1).all()
    assert any(word in str(caught.value) for word in (".astype", ".filled(0)", "numpy.ndarray", "shape")), caught.value
    optimizer.step([remedy(grad)])
    assert (param != 1).any()


def arrays_of(optimizer):
    return [value for state in optimizer.state_dict()["state"].values() for value in state.values()
            if isinstance(value, np.ndarray)]
