"""scikit-learn: MLPClassifier, for whole training steps."""

import math

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from ..rivals import Rival, Unsupported


def configure(threads):
    # The threads are those of NumPy's BLAS. Checks that scikit-learn lets users switch off are off.
    sklearn.set_config(assume_finite=True, skip_parameter_validation=True)


def versions():
    return {"scikit-learn": sklearn.__version__}


def training_step(work, params, x, y):
    if work.batch_norm or work.dropout:
        raise Unsupported("has no batch normalisation or dropout")
    if work.outputs == 2:
        raise Unsupported("has one logistic output for two classes")
    beta1, beta2 = work.betas
    net = MLPClassifier(
        work.hidden, alpha=0.0, batch_size=len(x), shuffle=False, learning_rate_init=work.lr,
        beta_1=beta1, beta_2=beta2,
        # It is added before the bias correction of the root, not after it: so the first step is the same.
        epsilon=work.eps * math.sqrt(1 - beta2))
    net.partial_fit(x, y, classes=range(work.outputs))  # makes the arrays, and steps once
    for i in range(len(params) // 2):
        net.coefs_[i][...] = params[2 * i].T
        net.intercepts_[i][...] = params[2 * i + 1]
    del net._optimizer  # the next call makes a fresh one

    def results():
        pairs = zip(net.coefs_, net.intercepts_)
        return {"loss": float(net.loss_), "params": [array.T for pair in pairs for array in pair]}

    return {"sklearn": Rival(lambda: net.partial_fit(x, y), results)}


def learner(task, seed):
    net = MLPClassifier(
        task.hidden, alpha=0.0, batch_size=task.batch, learning_rate_init=task.lr, epsilon=task.eps,
        random_state=np.random.RandomState(seed))  # a number would shuffle every epoch alike
    return lambda: net.partial_fit(task.x_train, task.y_train, classes=range(task.classes)), net.predict
