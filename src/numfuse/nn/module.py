import contextlib
import functools
import inspect
from collections.abc import Mapping

import numpy as np

from ..backend import BackendMixin, check_backend
from .checks import check_array, check_shape


class Module(BackendMixin):
    """What all layers share: names, modes, state, backend.

    A layer defines `forward(x)`, or `forward(x, mask=None)` if it is to know which rows are padding, and
    `backward(grad_y, accumulate=False)`, and lists the attributes that hold its arrays: `parameter_names` are learned,
    and the gradient of `weight` is `grad_weight`; `buffer_names` are other state to save; `kernel_names` are the
    kernels that it calls as `self.kernels.name`. An attribute may be None. Attributes that are Modules are its
    children, and their arrays are named "child.weight", as in PyTorch; Modules in a list or dict stand in a
    `ModuleList` or `ModuleDict`. A class, but none of its subclasses, promises to have no children by
    `class Name(Module, leaf=True)`, so that nobody looks for them.

    What `forward` keeps for `backward`, by reference and in training mode only, is not pickled or
    copied; gradients are.

    >>> import numpy as np
    >>> class Scale(Module):
    ...     parameter_names = ("weight",)
    ...     def __init__(self):
    ...         self.weight = np.ones(1, np.float32)
    ...         self.init_gradients()
    ...     def forward(self, x):
    ...         self.save_for_backward(x)
    ...         return x * self.weight
    ...     def backward(self, grad_y, accumulate=False):
    ...         grad_weight = (grad_y * self.saved()).sum(keepdims=True)
    ...         self.grad_weight[...] = grad_weight + self.grad_weight if accumulate else grad_weight
    ...         return grad_y * self.weight
    >>> layer = Scale()
    >>> layer(np.full(1, 3, np.float32)), layer.backward(np.full(1, 2, np.float32))
    (array([3.], dtype=float32), array([2.], dtype=float32))
    >>> layer.named_gradients()
    {'weight': array([6.], dtype=float32)}
    """

    parameter_names = ()
    buffer_names = ()
    training = True
    _saved = None
    _leaf = False

    def __init_subclass__(cls, leaf=False, **options):
        super().__init_subclass__(**options)
        cls._leaf = leaf

    def forward(self, x):
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def backward(self, grad_y, accumulate=False):
        """The gradient of the loss with respect to the last training input, from that of the output.

        The parameters' gradients are written to arrays that the layer owns and reuses, or added to
        them with `accumulate=True`. May be called again; RuntimeError if there was no training forward, or in
        evaluation mode: what is there is of an older batch.

        Where computing the gradient of the input is work, `backward` may take `input_grad=True`, too: False
        says that nobody needs it, and returns None, as `Linear` and `Sequential` do.
        """
        raise NotImplementedError(f"{type(self).__name__}.backward")

    def __call__(self, *args, **options):
        return self.forward(*args, **options)

    def children(self):
        """The modules directly below this one: dict of name to module."""
        if self._leaf:
            return {}
        return {name: value for name, value in vars(self).items() if isinstance(value, Module)}

    def modules(self):
        """This module and all below it, from the top down."""
        yield self
        for child in self.children().values():
            yield from child.modules()

    def train(self, mode=True):
        """Go to training mode, or to evaluation with `mode=False`; returns self."""
        self.training = bool(mode)
        for child in self.children().values():
            child.train(mode)
        return self

    def eval(self):
        """Go to evaluation mode, in which `forward` stores nothing and threads may share the layer."""
        return self.train(False)

    def parameters(self):
        """The learned arrays, in the order of `gradients()`."""
        return list(self.named_parameters().values())

    def gradients(self):
        """The gradient arrays, in the order of `parameters()`; zero before the first backward."""
        gradients = []
        for key in self.parameter_names:
            if getattr(self, key) is not None:
                gradients.append(getattr(self, gradient_name(key)))
        for child in self.children().values():
            gradients += child.gradients()
        return gradients

    def has_parameters(self):
        """Whether there is a learned array, here or below."""
        for key in self.parameter_names:
            if getattr(self, key) is not None:
                return True
        return any(child.has_parameters() for child in self.children().values())

    def named_parameters(self):
        """The learned arrays: dict of dotted name to array."""
        return {name: getattr(owner, key) for name, owner, key in self._arrays(parameters=True)}

    def named_gradients(self):
        """The gradient arrays under the names of their parameters."""
        return {name: getattr(owner, gradient_name(key)) for name, owner, key in self._arrays(parameters=True)}

    def named_buffers(self):
        """The state that is saved but not learned: dict of dotted name to array."""
        return {name: getattr(owner, key) for name, owner, key in self._arrays(buffers=True)}

    def state_dict(self):
        """Copies of all parameters and buffers: dict of dotted name to array.

        `np.savez(path, **net.state_dict())` saves a net and `net.load_state_dict(np.load(path))`
        restores it.
        """
        return {name: array.copy() for name, array in self._state().items()}

    def load_state_dict(self, state):
        """Copy the arrays of `state` into the parameters and buffers, in place.

        state : mapping as `state_dict` returns it, of exactly its names, shapes and dtypes. Anything
            else raises ValueError or TypeError before an array is changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a mapping of names to arrays, was {type(state).__name__}")
        own = self._state()
        state = {name: np.asarray(state[name]) for name in state}
        missing = [name for name in own if name not in state]
        unexpected = [name for name in state if name not in own]
        if missing or unexpected:
            raise ValueError(
                f"state must have the names of this net; missing: {', '.join(missing) or 'none'}; "
                f"unexpected: {', '.join(unexpected) or 'none'}"
            )
        for name, array in own.items():
            check_array(name, state[name], array.dtype)
            check_shape(name, state[name], array.shape)
        for name, array in own.items():
            array[...] = state[name]

    def set_backend(self, module):
        """Take the kernels from `module`, such as `numfuse.reference`, here and below; returns self."""
        check_backend(module, {name for each in self.modules() for name in each.kernel_names})
        for child in self.children().values():
            child.set_backend(module)
        return super().set_backend(module)

    def init_gradients(self):
        """Give every parameter a gradient array of zeros; for the end of a layer's `__init__`."""
        for name in self.parameter_names:
            parameter = getattr(self, name)
            setattr(self, gradient_name(name), None if parameter is None else np.zeros_like(parameter))

    def save_for_backward(self, *values):
        """Save `values` for `backward`, if in training mode."""
        if self.training:
            self._saved = values[0] if len(values) == 1 else values

    def saved(self):
        """The values that the last forward in training mode has saved."""
        self.check_training()
        if self._saved is None or type(self._saved) is RanTogether:
            alone = "" if self._saved is None else ", of this layer itself: a Sequential has run it as one with others"
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward in training mode before it{alone}")
        return self._saved

    def check_training(self):
        """RuntimeError in evaluation mode, the forward of which has saved nothing for `backward`."""
        if not self.training:
            raise RuntimeError(f"{type(self).__name__}.backward needs a forward in training mode before it, "
                               "but is in evaluation mode: call train() before forward")

    def extra_repr(self):
        """What `repr` shows between the brackets."""
        return ""

    def __repr__(self):
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children().items()]
        inside = "".join(f"\n  {line}" for line in lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inside})"

    def __getstate__(self):
        state = super().__getstate__()
        state.pop("_saved", None)
        return state

    def _arrays(self, parameters=False, buffers=False, prefix=""):
        """(dotted name, module, attribute) of every array here and below."""
        self._check_attributes()
        for key in self.parameter_names * parameters + self.buffer_names * buffers:
            if getattr(self, key) is not None:
                yield prefix + key, self, key
        for name, child in self.children().items():
            yield from child._arrays(parameters, buffers, f"{prefix}{name}.")

    def _check_attributes(self):
        """TypeError for Modules in attributes where nobody would find their arrays, such as plain lists and dicts."""
        found = set() if self._leaf else {id(module) for module in self.modules()}
        for name, value in vars(self).items() if found else ():
            if name[0] != "_" and any(id(module) not in found for module in _modules_in(value)):
                remedy = {list: "make it a nn.ModuleList", tuple: "make it a nn.ModuleList",
                          dict: "make it a nn.ModuleDict"}.get(type(value), "let children() return them")
                kind = "Module" if isinstance(value, Module) else f"{type(value).__name__} of Modules"
                raise TypeError(f"{type(self).__name__}.{name} is a {kind}, whose parameters are not found there: "
                                f"{remedy}")

    def _state(self):
        return {name: getattr(owner, key) for name, owner, key in self._arrays(parameters=True, buffers=True)}


def _modules_in(value):
    """The Modules in a value and in plain lists, tuples, sets and dicts below it."""
    if isinstance(value, Module):
        yield value
    elif isinstance(value, (list, tuple, set, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _modules_in(each)


# The very same string at each call, which Python finds the attribute of in a fraction of the time.
gradient_name = functools.cache("grad_{}".format)


@contextlib.contextmanager
def modes_restored(net):
    """A context after which every module of `net` is in the mode that it was in before, whatever happens."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class RanTogether:
    """The mark that a layer keeps when it has been run as one with others, of which it has saved nothing itself."""


def masked_forward(layer, x, mask):
    """The layer's `forward`, with the mask of x's valid rows if it takes one."""
    forward = layer.forward
    if mask is not None and takes(getattr(forward, "__func__", forward), "mask"):
        return forward(x, mask=mask)
    return forward(x)


def backward_parameters(layer, grad_y, accumulate=False):
    """The layer's `backward` where nobody needs the gradient of its input; that is not computed if it can be told."""
    backward = layer.backward
    if takes(getattr(backward, "__func__", backward), "input_grad"):
        backward(grad_y, accumulate, input_grad=False)
    else:
        backward(grad_y, accumulate)


@functools.lru_cache
def takes(function, argument):
    return argument in inspect.signature(function).parameters
