"""JAX, compiled by XLA, with Optax's optimizers: the kernels' work as one jitted function each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..operations.batch_norm import batch_norm_in_jax, layout
from ..operations.dropout import dropout_in_jax
from ..rivals import Rival

_COMPILED = {}  # by what was compiled, since compiling takes longer than all the rest


def configure(threads):
    """Keep JAX on the CPU. XLA takes its number of threads from NPROC alone, and when it starts."""
    jax.config.update("jax_platforms", "cpu")
    # Calls are waited for one by one here; handing each to another thread only makes them slower.
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def versions():
    return {"jax": jax.__version__, "optax": optax.__version__}


def block(x, grad_y, weight, bias, p):
    axes, shape = layout(x, 1)

    def both(y, grad_x, grad_weight, grad_bias, running_mean, running_var, key, x, grad_y, weight, bias):
        key, own = jax.random.split(key)

        def forward(x, weight, bias):
            y, *running = batch_norm_in_jax(x, weight, bias, running_mean, running_var, axes, shape, 0.1, 1e-5)[:3]
            y = jax.nn.relu(y)
            return (dropout_in_jax(own, y, p)[0] if p else y), running

        y, backward, running = jax.vjp(forward, x, weight, bias, has_aux=True)
        return y, *backward(grad_y), *running, key

    state = [device(array) for array in (x, x, weight, bias)]
    state += [jnp.zeros(weight.shape), jnp.ones(weight.shape), jax.random.key(0)]
    fixed = [device(array) for array in (x, grad_y, weight, bias)]
    names = "y", "grad_x", "grad_weight", "grad_bias", "running_mean", "running_var"
    return rival(both, state, fixed, names)


def training_step(work, params, x, y):
    optimizer = optax.adam(work.lr, *work.betas, eps=work.eps)

    def loss(params, running, key, x, y):
        params, statistics = iter(params), []
        for running_mean, running_var in running:
            x = x @ next(params)
            if work.batch_norm:
                x, running_mean, running_var, _, _ = batch_norm_in_jax(
                    x, next(params), next(params), running_mean, running_var, (0,), (1, -1), 0.1, 1e-5)
            else:
                x = x + next(params)
            statistics.append((running_mean, running_var))
            x = jax.nn.relu(x)
            if work.dropout:
                key, own = jax.random.split(key)
                x, _ = dropout_in_jax(own, x, work.dropout)
        logits = x @ next(params) + next(params)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), (statistics, key)

    def step(params, value, state, running, key, x, y):
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, (running, key)), grads = gradient(params, running, key, x, y)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), value, state, running, key

    def results(params, value, *_):
        return {"params": [np.array(param.T) for param in params], "loss": float(value)}

    # A weight is (in, out) in JAX's world, which is the transpose of ours.
    params = [device(param.T) for param in params]
    running = [(jnp.zeros(width), jnp.ones(width)) for width in work.hidden]
    state = [params, jnp.zeros(()), optimizer.init(params), running, jax.random.key(0)]
    return rival(step, state, [device(x), device(y.astype(np.int32))], results)


def scale(factor):
    """The parts of a step that scale gradients; none for a factor of 1."""
    return [(optax.scale(factor), optax.EmptyState())] if factor != 1 else []


def decay(weight_decay):
    """The parts of a step that add the gradient of L2 decay; none for 0."""
    return [(optax.add_decayed_weights(weight_decay), optax.EmptyState())] if weight_decay else []


def step(parts, params, grads, lr, names):
    """The rival that chains `parts`, pairs of an optax transformation and its state, and scales by -lr.

    names : what the fields of those states are called in a kernel's arguments
    """
    parts = [*parts, (optax.scale_by_learning_rate(lr), optax.EmptyState())]
    transforms, states = zip(*parts)
    optimizer = optax.chain(*transforms)

    def step(params, states, grads):
        updates, states = optimizer.update(grads, states, params)
        return optax.apply_updates(params, updates), states

    def results(params, states):
        fields = {"params": params}
        for state in states:
            fields |= {names[key]: value for key, value in state._asdict().items() if key in names}
        return {name: [np.array(array) for array in arrays] for name, arrays in fields.items()}

    return rival(step, [device(params), states], [device(grads)], results)


def rival(function, state, fixed, results):
    """The rival that lets `function(*state, *fixed)`, compiled, return the next state, run after run.

    The old state's memory is donated to the new: so JAX updates in place, and writes its outputs over
    the last run's instead of into fresh memory, which would cost more than to compute them.

    results : the function of `*state`, or what the results that come first in the state are called
    """
    jitted = jax.jit(function, donate_argnums=range(len(state)), keep_unused=True)
    with _precision((state, fixed)):
        lowered = jitted.lower(*state, *fixed)
        text = lowered.as_text()
        compiled = _COMPILED[text] = _COMPILED.get(text) or lowered.compile()
    current = list(state)

    def run():
        current[:] = compiled(*current, *fixed)
        first = current[0]
        # All results of a function are there together; asking each of them takes longer than a small step.
        (first[0] if isinstance(first, list) else first).block_until_ready()

    def named():
        return {name: np.array(value) for name, value in zip(results, current) if value is not None}

    return {"jax": Rival(run, (lambda: results(*current)) if callable(results) else named)}


def device(arrays):
    """Copies, which may be donated, of a NumPy array, a list of them, or None, in JAX's own memory."""
    with _precision(arrays):
        return jax.tree.map(jnp.array, arrays)


def _precision(tree):
    """A context in which float64 arrays stay float64, if there are any in `tree`; else JAX's usual one."""
    return jax.enable_x64(any(leaf.dtype == np.float64 for leaf in jax.tree.leaves(tree)))
