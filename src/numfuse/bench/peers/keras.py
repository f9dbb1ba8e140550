"""Keras, on the first of its backends that is installed, or on the one that KERAS_BACKEND names."""

import importlib.util
import os

BACKENDS = ["jax", "tensorflow", "torch"]
if found := [name for name in BACKENDS if importlib.util.find_spec(name)]:
    os.environ.setdefault("KERAS_BACKEND", found[0])

import keras  # noqa: E402  it reads KERAS_BACKEND when it is imported


def configure(threads):
    """Set the threads of PyTorch and TensorFlow; JAX takes them from the environment."""
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)


def versions():
    return {"keras": f"{keras.__version__} on {keras.backend.backend()}"}


def learner(task, seed):
    keras.utils.set_random_seed(seed)
    sizes = [task.x_train.shape[1], *task.hidden, task.classes]
    layers = [_linear(*pair) for pair in zip(sizes, sizes[1:])]
    for layer in layers[:-1]:
        layer.activation = keras.activations.relu
    net = keras.Sequential([keras.Input((sizes[0],)), *layers])
    net.compile(keras.optimizers.Adam(task.lr, epsilon=task.eps),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    net.optimizer.build(net.trainable_variables)
    _compile(net, task.thrown_away())

    def epoch():
        net.fit(task.x_train, task.y_train, batch_size=task.batch, verbose=0)

    return epoch, lambda x: net.predict(x, batch_size=1024, verbose=0).argmax(axis=1)


def _linear(inputs, outputs):
    """A Dense layer with PyTorch's initial values: uniform in +-1 / sqrt(inputs)."""
    def uniform():
        return keras.initializers.RandomUniform(-inputs**-0.5, inputs**-0.5)

    return keras.layers.Dense(outputs, kernel_initializer=uniform(), bias_initializer=uniform())


def _compile(net, task):
    """Train for an epoch, which compiles the step of this very net, and forget what was learned."""
    variables = [*net.variables, *net.optimizer.variables]
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    net.fit(task.x_train, task.y_train, batch_size=task.batch, verbose=0)
    for variable, value in zip(variables, before):
        variable.assign(value)
