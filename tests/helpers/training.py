"""Small problems to train on, and nets that note what they see."""

import numpy as np

from numfuse import nn, optim
from numfuse.train import fit, mlp


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


class Recorder(nn.Sequential):
    """A net that notes the first column of what it is trained on: the numbers of the rows."""

    def __init__(self, *layers):
        super().__init__(*layers)
        self.seen = []

    def forward(self, x):
        if self.training:
            self.seen.append(x[:, 0].astype(int).tolist())
        return super().forward(x)


def labels(n=40, seed=0):
    """Rows whose first column is their number, and labels of which one in four is 1."""
    x = np.random.default_rng(seed).standard_normal((n, 3), dtype=np.float32)
    x[:, 0] = np.arange(n)
    return x, (np.arange(n) % 4 == 0).astype(np.int64)


def recorded(n=40, lr=0.0, **options):
    """The list of batches that a Recorder sees in a training, and the history."""
    net = Recorder(nn.Linear(3, 2, rng=0))
    history = fit(net, nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=lr), *labels(n), **options)
    return net.seen, history


def noisy(seed=0, **options):
    """Labels of pure noise: the validation loss soon rises. Net, optimizer and the arguments of `fit`."""
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((60, 5), dtype=np.float32), rng.integers(2, size=60)
    net = mlp(5, 2, [16], dropout=0.2, rng=seed)
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    return net, optimizer, {"net": net, "loss": nn.CrossEntropyLoss(), "optimizer": optimizer, "x": x, "y": y,
                            "batch_size": 16, "rng": seed, "validation": 0.3, **options}


def shown(net):
    with np.printoptions(floatmode="unique", threshold=10**6):
        return str(net.state_dict())
