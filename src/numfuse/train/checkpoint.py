"""Checkpoints: everything that training needs to go on with the same bits, in one file."""

import json

import numpy as np

from ..files import BROKEN_NPZ, replacing

PARTS = "net", "optimizer", "scheduler", "rng"
PLAIN = bool, int, float, str  # and None: what JSON can hold


class CheckpointError(ValueError):
    """A checkpoint that is broken, or belongs to something else; the message names the file and the fault."""


def save_checkpoint(path, *, net=None, optimizer=None, scheduler=None, rng=None, about=None):
    """Write the state of training into `path`, an `.npz` file without pickled objects.

    net, optimizer, scheduler : what has a `state_dict()`; that of a net holds parameters and buffers, so the
        state of its dropout masks, too
    rng : numpy.random.Generator
    about : anything else, such as the number of the epoch: None, bool, int, float, str and arrays, in lists,
        tuples and dicts with such values, but arrays, as keys; NumPy scalars come back as Python's. TypeError for
        other objects

    An older file is replaced when the new one is complete, and stays as it was if that fails.

    >>> import pathlib, tempfile
    >>> from numfuse import nn
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "training.npz"
    >>> net, rng = nn.Linear(2, 1, rng=0), np.random.default_rng(0)
    >>> save_checkpoint(path, net=net, rng=rng, about={"epoch": 3})
    >>> first = rng.random()
    >>> load_checkpoint(path, net=nn.Linear(2, 1), rng=rng), rng.random() == first
    ({'epoch': 3}, True)
    """
    arrays = {}
    parts = {name: _state(part) for name, part in zip(PARTS, (net, optimizer, scheduler, rng)) if part is not None}
    tree = {name: _encoded(name, state, arrays) for name, state in (parts | {"about": about}).items()}
    with replacing(path) as file:
        np.savez(file, checkpoint=np.array(json.dumps(tree)), **arrays)


def load_checkpoint(path, *, net=None, optimizer=None, scheduler=None, rng=None):
    """Set the given parts to what `save_checkpoint` wrote, and return its `about`.

    CheckpointError, a ValueError, for a broken or foreign file, and for one that lacks a part or belongs to
    another net, optimizer, scheduler or kind of generator; then no part is modified. FileNotFoundError if there is
    none.
    """
    with open(path, "rb") as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                nodes = json.loads(str(arrays["checkpoint"]))
                tree = {name: _decoded(node, arrays) for name, node in nodes.items()}
            about = tree["about"]
        except (TypeError, AttributeError, RecursionError, *BROKEN_NPZ) as error:
            raise CheckpointError(f"{path} is not a checkpoint that numfuse saved, or broken") from error
    given = {name: part for name, part in zip(PARTS, (net, optimizer, scheduler, rng)) if part is not None}
    for name in given:
        if name not in tree:
            raise CheckpointError(f"{path} holds no {name}")
    before = {}
    try:
        for name, part in given.items():
            state = _state(part)
            if tree[name]["kind"] != state["kind"]:
                raise ValueError(f"it was {tree[name]['kind']}, now is {state['kind']}")
            before[name] = state
            _restore(part, tree[name])
    except BaseException as error:
        for changed in before:
            _restore(given[changed], before[changed])
        if isinstance(error, (KeyError, TypeError, ValueError)):
            raise CheckpointError(f"{path} does not belong to this {name}: {error}") from error
        raise
    return about


def _state(part):
    state = part.bit_generator.state if isinstance(part, np.random.Generator) else part.state_dict()
    return {"kind": type(part).__name__, "state": state}


def _restore(part, saved):
    if isinstance(part, np.random.Generator):
        part.bit_generator.state = saved["state"]
    else:
        part.load_state_dict(saved["state"])


def _encoded(name, value, arrays):
    """`value` as JSON can hold it: its arrays put into `arrays`, all that is no plain value into a tagged dict."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, PLAIN):
        return value
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        while name in arrays:
            name += "'"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, (list, tuple)):
        items = [_encoded(f"{name}.{i}", item, arrays) for i, item in enumerate(value)]
        return {type(value).__name__: items}
    if isinstance(value, dict):
        for key in value:
            if key is not None and not isinstance(key, PLAIN):
                raise TypeError(f"the keys of {name} must be plain values to be saved, had {key!r}")
        return {"dict": [[key, _encoded(f"{name}.{key}", item, arrays)] for key, item in value.items()]}
    raise TypeError(f"{name} must be plain values and arrays to be saved, was {type(value).__name__}")


def _decoded(node, arrays):
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        return {key: _decoded(item, arrays) for key, item in content}
    return {"list": list, "tuple": tuple}[kind](_decoded(item, arrays) for item in content)
