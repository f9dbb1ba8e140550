from .module import Module


class Sequential(Module):
    """Layers run one after the other; `net[i]` is a layer, `net[i:j]` a Sequential of the same layers.

    A layer remembers one input, so the same object cannot stand in two places of a net.

    >>> import numpy as np
    >>> from onepass import nn
    >>> net = nn.Sequential(nn.Linear(2, 3, rng=0), nn.Tanh())
    >>> net
    Sequential(
      (0): Linear(2, 3, bias=True)
      (1): Tanh()
    )
    >>> net(np.zeros((4, 2), np.float32)).shape
    (4, 3)
    >>> list(net.named_parameters())
    ['0.weight', '0.bias']
    """

    def __init__(self, *layers):
        self.layers = []
        for layer in layers:
            self.append(layer)

    def append(self, layer):
        """Add a layer at the end; returns self."""
        if not isinstance(layer, Module):
            raise TypeError(f"layer {len(self)} of a Sequential must be a Module, was {layer!r}")
        if _below(self) & _below(layer):
            raise ValueError(f"layer {len(self)}, {layer!r}, has a place in this net already")
        self.layers.append(layer)
        return self

    def children(self):
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad_y, accumulate=False):
        for layer in reversed(self.layers):
            grad_y = layer.backward(grad_y, accumulate)
        return grad_y

    def __getitem__(self, index):
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __len__(self):
        return len(self.layers)

    def __iter__(self):
        return iter(self.layers)


def _below(module):
    return {id(module)}.union(*(_below(child) for child in module.children().values()))
