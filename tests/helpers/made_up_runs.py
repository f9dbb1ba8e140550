"""Runs of `numfuse bench` with numbers that are made up, for tests of what is done with them."""

import math

SECONDS = {"native": 2e-3, "textbook": 24e-3, "in_place": 5e-3, "stream": 1.6e-3,
           "stream nontemporal": 1.5e-3}
PEERS = SECONDS | {"torch": 8e-3, "torch foreach": 7e-3, "torch fused": 2.2e-3, "jax": 4e-3, "numba": 1e-3}


def make_row(case="adam_step", shape=(1 << 20,), seconds=SECONDS, **changes):
    """A row; `seconds` has for each rival either its rounds or their median."""
    rounds = {name: value if isinstance(value, list) else [value * factor for factor in (0.9, 0.95, 1, 1.05, 1.1) * 4]
              for name, value in seconds.items()}
    groups = {"batch": "batch norm", "dropout": "dropout"}
    group = groups.get(case.split("_")[0], "optimizers")
    size = math.prod(shape)
    return {"case": case, "group": group, "shape": list(shape), "elements": size, "dtype": "float32",
            "threads": 1, "busy": 0, "isa": "avx2", "data": "L3", "bytes": 28 * size, "seconds": rounds,
            "quiet": {name: [True] * len(values) for name, values in rounds.items()},
            "limits": [name for name in rounds if name.startswith(("stream", "matmul", "arithmetic"))], "refused": {},
            "left_out": {}} | changes


def make_step(case="mlp", **changes):
    """A row of a training step."""
    seconds = {"native": 1e-3, "textbook": 3e-3, "sklearn": 5e-3, "matmul": 0.8e-3}
    return make_row(case, [128, 784, 256, 10], seconds, group="training steps", data=None, **changes)


def make_run(*rows, **changes):
    """A run of those rows."""
    machine = {"cpu": "A Fast CPU", "cpus": 2, "l2_bytes": 1 << 20, "isas": ["avx2", "baseline"],
               "isa": "avx2", "system": "Linux x86_64", "memory": "Temporaries are kept."}
    versions = {"numfuse": "0.1.0", "numpy": "2.4.6", "python": "3.11.7"}
    return {"numfuse_bench": 1, "machine": machine, "versions": versions, "command": "numfuse bench --quick",
            "left_out": {}, "rows": list(rows)} | changes


def failed(row):
    """The row as it is where there was no memory."""
    return {name: row[name] for name in row if name not in ("seconds", "quiet", "limits")} | {"error": "out of memory"}
