"""Whole training steps: forward, backward and update of a small net, the same for all rivals."""

from dataclasses import dataclass

import numpy as np

from .. import nn, optim
from ..train import mlp, train_batch
from .rivals import Rival


@dataclass(frozen=True)
class TrainingStep:
    """One step of Adam on one batch: softmax cross-entropy of an MLP in float32.

    Each of `hidden` is a Linear layer, BatchNorm (Linear then has no bias), ReLU and Dropout; the last
    layer is Linear with bias. Without `batch_norm` all Linear layers have a bias; with a `dropout` of
    0 there is no dropout layer.
    """

    name: str
    inputs: int
    hidden: tuple
    outputs: int
    batch: int
    batch_norm: bool = True
    dropout: float = 0.2
    lr: float = 1e-9  # a step that is repeated thousands of times must not leave the ordinary numbers
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8

    def arrays(self, rng):
        """(params, x, y): fresh arrays of the parameters in the order of `numfuse.train.mlp`, and the batch.

        params : for each hidden layer weight (out, in), then either bias (out,) or, with batch norm, its
            weight (out,) and bias (out,); at last weight and bias of the last layer
        x : (batch, inputs); y : integers (batch,) below `outputs`
        """
        params = [param.copy() for param in self._net(rng).parameters()]
        x = rng.standard_normal((self.batch, self.inputs), dtype=np.float32)
        return params, x, rng.integers(0, self.outputs, self.batch)

    def ours(self, params, x, y, backend):
        """The step with numfuse's layers and optimizer on the kernels of `backend`."""
        net = self._net(0).set_backend(backend)
        for own, param in zip(net.parameters(), params):
            own[...] = param
        net.train()
        optimizer = optim.Adam(net.parameters(), lr=self.lr, betas=self.betas, eps=self.eps).set_backend(backend)
        loss, values = nn.CrossEntropyLoss(), [np.nan]

        def run():
            values[0] = train_batch(net, loss, optimizer, x, y)[0]

        return Rival(run, lambda: {"loss": values[0], "params": net.parameters()})

    def products(self, params, x, y):
        """The matrix products of the step alone, into arrays that are there already.

        Nobody needs the gradient of the input.
        """
        weights = [param for param in params if param.ndim == 2]
        inputs = [x, *(np.ones((self.batch, weight.shape[1]), np.float32) for weight in weights[1:])]
        outputs = [np.empty((self.batch, len(weight)), np.float32) for weight in weights]
        grad_weights, grad_inputs = ([np.empty_like(a) for a in arrays] for arrays in (weights, inputs))

        def run():
            for x, weight, output in zip(inputs, weights, outputs):
                np.matmul(x, weight.T, out=output)
            for i in reversed(range(len(weights))):
                np.matmul(outputs[i].T, inputs[i], out=grad_weights[i])
                if i:
                    np.matmul(outputs[i], weights[i], out=grad_inputs[i])

        return run

    def _net(self, rng):
        return mlp(self.inputs, self.outputs, self.hidden, batch_norm=self.batch_norm, dropout=self.dropout, rng=rng)


TRAINING_STEPS = [
    TrainingStep("tiny", 4, (64, 64), 2, 32),
    TrainingStep("mlp", 784, (256, 256), 10, 128),
    TrainingStep("wide", 784, (1024, 1024, 1024), 10, 128),
    TrainingStep("tabular", 100, (512, 512), 2, 1024),
    TrainingStep("mlp plain", 784, (256, 256), 10, 128, batch_norm=False, dropout=0.0),
    TrainingStep("wide plain", 784, (1024, 1024, 1024), 10, 128, batch_norm=False, dropout=0.0),
]
