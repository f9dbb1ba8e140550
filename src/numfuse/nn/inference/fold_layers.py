import copy

from ..sequential import Sequential


def fold_layers(net, fold):
    """A copy of a Sequential for inference, with what `fold(layer, name)` returns in the place of each layer.

    net : Sequential, whose Sequentials inside are copied likewise; it is not changed
    fold : called for the layers in the order in which they run, with the name that `net.children()` leads to, such
        as "1.0"; returns a list of layers, which shares no array with `net`

    Returns a Sequential in evaluation mode. TypeError if `net` is anything else, a subclass too.

    >>> from numfuse import nn
    >>> fold_layers(nn.Sequential(nn.ReLU(), nn.Sequential(nn.Tanh())), lambda layer, name: [layer] * (name == "1.0"))
    Sequential(
      (0): Sequential(
        (0): Tanh()
      )
    )
    """
    if type(net) is not Sequential:
        raise TypeError(f"net must be a Sequential, was {type(net).__name__}")
    return _copy(net, fold, "").eval()


def _copy(net, fold, prefix):
    folded = copy.copy(net)
    folded.layers = []
    for name, layer in net.children().items():
        name = prefix + name
        folded.layers += [_copy(layer, fold, f"{name}.")] if type(layer) is Sequential else fold(layer, name)
    return folded
