import numpy as np

from ..batch_norm import BatchNorm
from ..module import Module, modes_restored


def reestimate_batch_norm(net, batches, *, masked=False):
    """Set the running statistics of every batch norm of `net` to their averages over `batches`.

    As PyTorch's `torch.optim.swa_utils.update_bn`, for parameters that were averaged or changed after training;
    but only the batch norms are in training mode, so that dropout does not disturb what they see. Frozen
    ones take part, those without running statistics do not.

    net : Module; modes, momentum and all else are afterwards as before, so that a `backward` is that of the last
        training forward
    batches : iterable of x, or of tuples or lists that begin with x; batches without rows are left out
    masked : whether batches are (x, mask) or begin so, for `net.forward(x, mask)`; a mask may be None. A bool array in
        second place raises TypeError without it: it could be labels or a mask.

    Whatever is raised on the way, the net keeps the statistics that it had. ValueError if a batch norm
    saw no batch.

    >>> import numpy as np
    >>> from numfuse import nn
    >>> net = nn.Sequential(nn.BatchNorm1d(1), nn.ReLU())
    >>> reestimate_batch_norm(net, [np.array([[1], [3]], np.float32), np.array([[5], [9]], np.float32)])
    >>> net[0].running_mean, net[0].running_var
    (array([4.5], dtype=float32), array([5.], dtype=float32))
    """
    if not isinstance(net, Module):
        raise TypeError(f"net must be a Module, was {type(net).__name__}")
    norms = [module for module in net.modules() if isinstance(module, BatchNorm) and module.running_mean is not None]
    options = [(norm, norm.momentum, norm.frozen, norm._saved) for norm in norms]
    before = [norm.state_dict() for norm in norms]
    try:
        with modes_restored(net):
            net.eval()
            for norm in norms:
                norm.train()
                norm.momentum, norm.frozen = None, False
                norm.running_mean[...], norm.running_var[...], norm.num_batches_tracked[...] = 0, 1, 0
            for batch in batches:
                arguments = _arguments(batch, masked)
                if np.size(arguments[0]):
                    net.forward(*arguments)
        for norm in norms:
            if norm.num_batches_tracked == 0:
                raise ValueError(f"batches must bring every batch norm a batch with rows, brought none to {norm!r}")
    except BaseException:
        for norm, state in zip(norms, before):
            norm.load_state_dict(state)
        raise
    finally:
        for norm, momentum, frozen, saved in options:
            norm.momentum, norm.frozen, norm._saved = momentum, frozen, saved


def _arguments(batch, masked):
    """What `forward` is to be given of a batch."""
    x, *others = batch if isinstance(batch, (tuple, list)) else (batch,)
    if masked and not others:
        raise TypeError("with masked=True batches must be (x, mask), one had no mask")
    if not masked and others and isinstance(others[0], np.ndarray) and others[0].dtype == bool:
        raise TypeError("batches must be x, or (x, mask) with masked=True; one had a bool array in second place: "
                        "leave it out if it holds labels")
    return (x, others[0]) if masked else (x,)
