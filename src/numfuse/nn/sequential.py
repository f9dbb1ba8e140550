import numpy as np

from .containers import ModuleList
from .fused import fuse
from .module import backward_parameters, gradient_name, masked_forward
from .row_mask import check_mask


class Sequential(ModuleList):
    """Layers run one after the other; `net[i]` is a layer, `net[i:j]` a Sequential of the same layers.

    A layer remembers one input, so the same object cannot stand in two places of a net.

    BatchNorm, ReLU and inverted Dropout that stand together, or two of them, are run as one kernel, and so the bias
    of a Linear, ReLU and inverted Dropout; the results are, bit for bit, those of one after the other. After that a
    single layer's own `backward` lacks what it needs, and raises RuntimeError. Which layers these are is found when the
    net first runs, and again when the list of its layers changes: subclasses are left alone, and so are layers whose
    `forward` or `backward` has been replaced by then.

    >>> import numpy as np
    >>> from numfuse import nn
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

    _plan = None, [], []

    def __init__(self, *layers):
        super().__init__(layers)

    def forward(self, x, mask=None):
        """The layers' outputs in turn; those that take a `mask`, such as BatchNorm, are given this one.

        mask : bool array, True somewhere, of x's first axis: (N,), or (N, ...) for positions. TypeError or
            ValueError for anything else, also if there is no layer that takes it, before any has run.
        """
        if mask is not None:
            rows = np.shape(x)[:1]
            check_mask(mask, lambda shape: shape[:1] == rows != (), f"{rows} or ({rows[0]}, ...)" if rows else "(N,)")
        try:
            for step in self._steps():
                x = step.forward(x) if mask is None else masked_forward(step, x, mask)
        except (TypeError, ValueError) as error:
            if not isinstance(step, Sequential):  # in which it was said already
                error.add_note(f"in the net at {step!r}")
            raise
        return x

    def backward(self, grad_y, accumulate=False, input_grad=True):
        """As `Module.backward`; with `input_grad=False` down to the first layer with parameters, returning None.

        RuntimeError in evaluation mode, and if one of the layers is: they have saved nothing of this batch.
        """
        self.check_training()
        for layer in self.layers:
            if not layer.training:
                raise RuntimeError(f"a net in training mode cannot go back through {layer!r}, which is in "
                                   "evaluation mode; for frozen batch norm there is freeze()")
        steps = self._steps()
        if input_grad:
            for step in reversed(steps):
                grad_y = step.backward(grad_y, accumulate)
            return grad_y
        for first, lowest in enumerate(steps):
            if lowest.has_parameters():
                for step in steps[:first:-1]:
                    grad_y = step.backward(grad_y, accumulate)
                return backward_parameters(lowest, grad_y, accumulate)
        return None

    def gradients(self):
        if type(self).children is not Sequential.children:
            return super().gradients()
        self._steps()
        _, _, places = self._plan
        gradients = []
        for owner, key, grad_key in places:
            if key is None:
                gradients += owner.gradients()
            elif getattr(owner, key) is not None:
                gradients.append(getattr(owner, grad_key))
        return gradients

    def __getstate__(self):
        state = super().__getstate__()
        state.pop("_plan", None)
        return state

    def _steps(self):
        """The layers, those that are fused as one."""
        layers, steps, _ = self._plan
        if layers != self.layers:
            layers, steps = list(self.layers), fuse(self.layers)
            self._plan = layers, steps, list(self._places())
        return steps

    def _places(self):
        """(layer, name of a parameter, of its gradient) of all there can be, in order; None: all of a layer."""
        for layer in (self, *self.layers):
            if layer is self or layer._leaf:
                for key in layer.parameter_names:
                    yield layer, key, gradient_name(key)
            else:
                yield layer, None, None

    def _like(self, layers):
        return Sequential(*layers)
