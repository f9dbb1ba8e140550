from collections.abc import Mapping

from .module import Module


class ModuleList(Module):
    """A list of Modules, which the Module that has it for an attribute finds; the user's own code calls them.

    modules : iterable of Modules. The list has `append`, `extend`, indices, slices, `del` and `len`. TypeError for what
        is no Module; ValueError for one that has a place in the list already, since a layer remembers one input.

    >>> import numpy as np
    >>> from numfuse import nn
    >>> class Net(nn.Module):
    ...     def __init__(self, widths):
    ...         self.layers = nn.ModuleList(nn.Linear(n, m, rng=0) for n, m in zip(widths, widths[1:]))
    ...     def forward(self, x):
    ...         for layer in self.layers:
    ...             x = layer(x)
    ...         return x
    >>> list(Net([4, 8, 2]).named_parameters())
    ['layers.0.weight', 'layers.0.bias', 'layers.1.weight', 'layers.1.bias']
    """

    def __init__(self, modules=()):
        self.layers = []
        self.extend(modules)

    def append(self, layer):
        """Add a layer at the end; returns self."""
        self._check(layer, len(self), self.layers)
        self.layers.append(layer)
        return self

    def extend(self, layers):
        """Add layers at the end; returns self."""
        for layer in layers:
            self.append(layer)
        return self

    def children(self):
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def __getitem__(self, index):
        return self._like(self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __setitem__(self, index, layer):
        if isinstance(index, slice):
            raise TypeError("a slice of layers cannot be set; set them one by one")
        index = range(len(self))[index]
        self._check(layer, index, [*self.layers[:index], *self.layers[index + 1 :]])
        self.layers[index] = layer

    def __delitem__(self, index):
        del self.layers[index]

    def __len__(self):
        return len(self.layers)

    def __iter__(self):
        return iter(self.layers)

    def _like(self, layers):
        return type(self)(layers)

    def _check(self, layer, index, others):
        name = type(self).__name__
        if not isinstance(layer, Module):
            raise TypeError(f"layer {index} of a {name} must be a Module, was {layer!r}")
        if any(_identities(other) & _identities(layer) for other in others) or id(self) in _identities(layer):
            raise ValueError(f"layer {index}, {layer!r}, has a place in this net already")


class ModuleDict(Module):
    """A dict of Modules, which the Module that has it for an attribute finds; the user's own code calls them.

    modules : mapping of name to Module. The names are strings without dots, which are not empty. The dict has `update`,
        `keys`, `values`, `items`, `in`, `del` and `len`. TypeError or ValueError for anything else.

    >>> from numfuse import nn
    >>> heads = nn.ModuleDict({"policy": nn.Linear(8, 4, rng=0)})
    >>> heads["value"] = nn.Linear(8, 1, rng=1)
    >>> list(heads.named_parameters())
    ['policy.weight', 'policy.bias', 'value.weight', 'value.bias']
    """

    def __init__(self, modules=()):
        self._modules = {}
        self.update(modules)

    def update(self, modules):
        """Take over the Modules of a mapping, or of pairs; returns self."""
        for name, module in (modules.items() if isinstance(modules, (Mapping, ModuleDict)) else modules):
            self[name] = module
        return self

    def children(self):
        return dict(self._modules)

    def keys(self):
        return self._modules.keys()

    def values(self):
        return self._modules.values()

    def items(self):
        return self._modules.items()

    def __getitem__(self, name):
        return self._modules[name]

    def __setitem__(self, name, module):
        if not isinstance(name, str):
            raise TypeError(f"the name of a module must be a string, was {name!r}")
        if not name or "." in name:
            raise ValueError(f"the name of a module must not be empty and have no dot, was {name!r}")
        if not isinstance(module, Module):
            raise TypeError(f"module {name!r} of a ModuleDict must be a Module, was {module!r}")
        others = [other for key, other in self._modules.items() if key != name]
        if any(_identities(other) & _identities(module) for other in others) or id(self) in _identities(module):
            raise ValueError(f"module {name!r}, {module!r}, has a place in this net already")
        self._modules[name] = module

    def __delitem__(self, name):
        del self._modules[name]

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, name):
        return name in self._modules


def _identities(module):
    return {id(each) for each in module.modules()}
