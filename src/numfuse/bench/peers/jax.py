"""JAX, compiled by XLA, with Optax's optimizers: the kernels' work as one jitted function each.

Each function takes the arguments of the kernel of its name. It takes for granted that no gradient is
None, that `maximize` is False, that batch norm has running statistics and its backward is in training,
and that SGD's first step, which dampening leaves alone, is behind it.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..rivals import Rival, Unsupported, plain
from ..textbook import layout


_COMPILED = {}  # by what was compiled, since compiling takes longer than all the rest


def configure(threads):
    """Keep JAX on the CPU. XLA takes its number of threads from NPROC alone, and when it starts."""
    jax.config.update("jax_platforms", "cpu")
    # Calls are waited for one by one here; handing each to another thread only makes them slower.
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def versions():
    return {"jax": jax.__version__, "optax": optax.__version__}


def sgd_step(params, grads, momentum_buffers, ema_params, steps, *,
             lr, momentum, dampening, running_average, nesterov, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    if running_average:
        raise Unsupported("momentum is the heavy ball")
    if momentum and dampening and nesterov:
        raise Unsupported("optax.trace cannot dampen Nesterov's momentum")
    parts = _scale(grad_scale) + _decay(weight_decay)
    if momentum:
        if dampening:
            parts += _scale(1 - dampening)
        parts.append((optax.trace(momentum, nesterov), optax.TraceState(_device(momentum_buffers))))
    return _step(parts, params, grads, lr, {"trace": "momentum_buffers"})


def rmsprop_step(params, grads, square_avgs, grad_avgs, momentum_buffers, ema_params, steps, *,
                 lr, alpha, eps, momentum, nesterov, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    if nesterov:
        raise Unsupported("RMSProp has no Nesterov momentum")
    # optax.rmsprop puts the learning rate before the momentum, and the buffers hold it.
    parts, nu = _scale(grad_scale) + _decay(weight_decay), _device(square_avgs)
    if grad_avgs is None:
        parts.append((optax.scale_by_rms(alpha, eps, eps_in_sqrt=False), optax.ScaleByRmsState(nu)))
    else:
        state = optax.ScaleByRStdDevState(_device(grad_avgs), nu)
        parts.append((optax.scale_by_stddev(alpha, eps, eps_in_sqrt=False), state))
    if momentum:
        parts.append((optax.trace(momentum), optax.TraceState(_device(momentum_buffers))))
    names = {"nu": "square_avgs", "mu": "grad_avgs", "trace": "momentum_buffers"}
    return _step(parts, params, grads, lr, names)


def adam_step(params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, ema_params, steps, *,
              lr, beta1, beta2, eps, decoupled, **regularization):
    weight_decay, grad_scale = plain(ema_params, **regularization)
    if max_exp_avg_sqs is not None:
        raise Unsupported("optax.amsgrad takes the maximum after the bias correction, or leaves that out")
    if np.any(steps != steps[0]):
        raise Unsupported("optax counts steps once for all parameters")
    count = jnp.array(steps[0], dtype=jnp.int32)
    state = optax.ScaleByAdamState(count, _device(exp_avgs), _device(exp_avg_sqs))
    parts = [(optax.scale_by_adam(beta1, beta2, eps), state)]
    decay = _decay(weight_decay)
    parts = parts + decay if decoupled else decay + parts
    return _step(_scale(grad_scale) + parts, params, grads, lr, {"mu": "exp_avgs", "nu": "exp_avg_sqs"})


def grad_norm(grads):
    def norm(last, grads):
        return [optax.tree.norm(grads)]

    return _rival(norm, [_device(grads[0].dtype.type(0))], [_device(grads)], lambda norm: {"norm": float(norm)})


def batch_norm_forward(x, weight, bias, running_mean, running_var, *, axis, momentum, eps, out):
    axes, shape = layout(x, axis)

    def forward(y, running_mean, running_var, mean, rstd, x, weight, bias):
        return _batch_norm(x, weight, bias, running_mean, running_var, axes, shape, momentum, eps)

    statistics = [_device(array) for array in (running_mean, running_var, running_mean, running_var)]
    fixed = [_device(array) for array in (x, weight, bias)]
    return _rival(forward, [_device(out), *statistics], fixed, ("y", "running_mean", "running_var"))


def batch_norm_inference(x, weight, bias, running_mean, running_var, *, axis, eps, out):
    _, shape = layout(x, axis)

    def inference(y, x, weight, bias, mean, var):
        return [_normalise(x, weight, bias, mean, jax.lax.rsqrt(var + eps), shape)]

    fixed = [_device(array) for array in (x, weight, bias, running_mean, running_var)]
    return _rival(inference, [_device(out)], fixed, ["y"])


def batch_norm_backward(grad_y, x, weight, mean, rstd, grad_weight, grad_bias, *, axis, training, out):
    axes, shape = layout(x, axis)
    n = x.size // x.shape[axis]

    def backward(grad_x, grad_weight, grad_bias, grad_y, x, weight, mean, rstd):
        xhat = (x - mean.reshape(shape)) * rstd.reshape(shape)
        sum_g, sum_g_xhat = grad_y.sum(axes), (grad_y * xhat).sum(axes)
        scale = rstd if weight is None else rstd * weight
        grad_x = grad_y - (sum_g / n).reshape(shape) - xhat * (sum_g_xhat / n).reshape(shape)
        affine = (None, None) if weight is None else (sum_g_xhat, sum_g)
        return grad_x * scale.reshape(shape), *affine

    state = [_device(array) for array in (out, grad_weight, grad_bias)]
    fixed = [_device(array) for array in (grad_y, x, weight, mean.astype(x.dtype), rstd.astype(x.dtype))]
    return _rival(backward, state, fixed, ("grad_x", "grad_weight", "grad_bias"))


def dropout_forward(x, *, p, seed, offset, inverted, out):
    def forward(y, mask, key, x):
        key, own = jax.random.split(key)
        return *_dropout(own, x, p), key

    state = [_device(out), _device(np.empty(x.shape, dtype=bool)), jax.random.key(0)]
    return _rival(forward, state, [_device(x)], ["y"])


def dropout_backward(grad_y, mask, *, p, out):
    def backward(grad_x, grad_y, mask):
        return [jnp.where(mask, grad_y / (1 - p), 0)]

    kept = np.unpackbits(mask.astype("<u4").view(np.uint8), count=grad_y.size, bitorder="little")
    fixed = [_device(grad_y), _device(kept.reshape(grad_y.shape).astype(bool))]
    return _rival(backward, [_device(out)], fixed, ["grad_x"])


def cross_entropy(prediction, target, weight, sample_weight, *, mean, label_smoothing, out):
    if weight is not None or label_smoothing:
        raise Unsupported("optax's cross-entropy of integer labels has no class weights and no label smoothing")
    terms = optax.softmax_cross_entropy_with_integer_labels
    return _loss(terms, prediction, target.astype(np.int32), sample_weight, mean, out)


def mse(prediction, target, sample_weight, *, mean, out):
    return _loss(optax.squared_error, prediction, target, sample_weight, mean, out)


def huber(prediction, target, sample_weight, *, mean, delta, out):
    return _loss(partial(optax.huber_loss, delta=delta), prediction, target, sample_weight, mean, out)


def bce_with_logits(prediction, target, pos_weight, sample_weight, *, mean, out):
    if pos_weight is not None:
        raise Unsupported("optax.sigmoid_binary_cross_entropy has no weight of positive targets")
    return _loss(optax.sigmoid_binary_cross_entropy, prediction, target, sample_weight, mean, out)


def _function(name, alpha):
    if name in ("leaky_relu", "elu"):
        return lambda x: getattr(jax.nn, name)(x, alpha)
    if name in ("gelu", "gelu_tanh"):
        return lambda x: jax.nn.gelu(x, approximate=name == "gelu_tanh")
    return getattr(jax.nn, name)


def activation_forward(x, bias, *, function, alpha, out):
    def forward(y, x, bias):
        return [_function(function, alpha)(x if bias is None else x + bias)]

    return _rival(forward, [_device(out)], [_device(x), _device(bias)], ["y"])


def activation_backward(grad_y, saved, bias, *, function, alpha, grad_bias, out):
    def backward(grad_x, grad_bias, grad_y, saved, bias):
        if function in ("sigmoid", "tanh"):
            grad_x = grad_y * (1 - saved * saved if function == "tanh" else saved * (1 - saved))
        else:
            (grad_x,) = jax.vjp(_function(function, alpha), saved if bias is None else saved + bias)[1](grad_y)
        return grad_x, None if grad_bias is None else grad_x.sum(0)

    fixed = [_device(grad_y), _device(saved), _device(bias)]
    return _rival(backward, [_device(out), _device(grad_bias)], fixed, ("grad_x", "grad_bias"))


def softmax_forward(x, *, out):
    return _rival(lambda y, x: [jax.nn.softmax(x)], [_device(out)], [_device(x)], ["y"])


def softmax_backward(grad_y, y, *, out):
    def backward(grad_x, grad_y, y):
        return [y * (grad_y - (grad_y * y).sum(-1, keepdims=True))]

    return _rival(backward, [_device(out)], [_device(grad_y), _device(y)], ["grad_x"])


def block(x, grad_y, weight, bias, p):
    axes, shape = layout(x, 1)

    def both(y, grad_x, grad_weight, grad_bias, running_mean, running_var, key, x, grad_y, weight, bias):
        key, own = jax.random.split(key)

        def forward(x, weight, bias):
            y, *running = _batch_norm(x, weight, bias, running_mean, running_var, axes, shape, 0.1, 1e-5)[:3]
            y = jax.nn.relu(y)
            return (_dropout(own, y, p)[0] if p else y), running

        y, backward, running = jax.vjp(forward, x, weight, bias, has_aux=True)
        return y, *backward(grad_y), *running, key

    state = [_device(array) for array in (x, x, weight, bias)]
    state += [jnp.zeros(weight.shape), jnp.ones(weight.shape), jax.random.key(0)]
    fixed = [_device(array) for array in (x, grad_y, weight, bias)]
    names = "y", "grad_x", "grad_weight", "grad_bias", "running_mean", "running_var"
    return _rival(both, state, fixed, names)


def training_step(work, params, x, y):
    optimizer = optax.adam(work.lr, *work.betas, eps=work.eps)

    def loss(params, running, key, x, y):
        params, statistics = iter(params), []
        for running_mean, running_var in running:
            x = x @ next(params)
            if work.batch_norm:
                x, running_mean, running_var, _, _ = _batch_norm(
                    x, next(params), next(params), running_mean, running_var, (0,), (1, -1), 0.1, 1e-5)
            else:
                x = x + next(params)
            statistics.append((running_mean, running_var))
            x = jax.nn.relu(x)
            if work.dropout:
                key, own = jax.random.split(key)
                x, _ = _dropout(own, x, work.dropout)
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
    params = [_device(param.T) for param in params]
    running = [(jnp.zeros(width), jnp.ones(width)) for width in work.hidden]
    state = [params, jnp.zeros(()), optimizer.init(params), running, jax.random.key(0)]
    return _rival(step, state, [_device(x), _device(y.astype(np.int32))], results)


def _loss(terms, prediction, target, sample_weight, mean, out):
    if sample_weight is not None:
        raise Unsupported("optax's losses have no weights")

    def loss(x, target):
        values = terms(x, target)
        return values.mean() if mean else values.sum()

    def value_and_grad(grad, value, x, target):
        value, grad = jax.value_and_grad(loss)(x, target)
        return grad, value

    state = [_device(out), _device(np.zeros((), prediction.dtype))]
    return _rival(value_and_grad, state, [_device(prediction), _device(target)], ("grad", "loss"))


def _batch_norm(x, weight, bias, running_mean, running_var, axes, shape, momentum, eps):
    mean, var = jnp.mean(x, axes), jnp.var(x, axes)
    rstd = jax.lax.rsqrt(var + eps)
    n = x.size // mean.size
    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var = (1 - momentum) * running_var + momentum * var * (n / (n - 1))
    return _normalise(x, weight, bias, mean, rstd, shape), running_mean, running_var, mean, rstd


def _normalise(x, weight, bias, mean, rstd, shape):
    scale = rstd if weight is None else rstd * weight
    y = (x - mean.reshape(shape)) * scale.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _dropout(key, x, p):
    mask = jax.random.bernoulli(key, np.float32(1 - p), x.shape)
    return jnp.where(mask, x / (1 - p), 0), mask


def _scale(factor):
    return [(optax.scale(factor), optax.EmptyState())] if factor != 1 else []


def _decay(weight_decay):
    return [(optax.add_decayed_weights(weight_decay), optax.EmptyState())] if weight_decay else []


def _step(parts, params, grads, lr, names):
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

    return _rival(step, [_device(params), states], [_device(grads)], results)


def _rival(function, state, fixed, results):
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


def _device(arrays):
    """Copies, which may be donated, of a NumPy array, a list of them, or None, in JAX's own memory."""
    with _precision(arrays):
        return jax.tree.map(jnp.array, arrays)


def _precision(tree):
    """A context in which float64 arrays stay float64, if there are any in `tree`; else JAX's usual one."""
    return jax.enable_x64(any(leaf.dtype == np.float64 for leaf in jax.tree.leaves(tree)))
