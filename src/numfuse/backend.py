import importlib
from types import ModuleType

from . import native


class BackendMixin:
    """Computing with a backend, any module of kernel functions, which is kept in pickles and copies.

    A subclass names the kernels that it calls in `kernel_names`.
    """

    kernels = native
    kernel_names = ()

    def set_backend(self, module):
        """Take the kernels from `module`, such as `numfuse.reference`; returns self."""
        check_backend(module, self.kernel_names)
        self.kernels = module
        return self

    def __getstate__(self):
        state = dict(vars(self))
        if "kernels" in state:
            state["kernels"] = self.kernels.__name__  # modules do not pickle
        return state

    def __setstate__(self, state):
        vars(self).update(state)
        if "kernels" in state:
            self.kernels = importlib.import_module(state["kernels"])


def check_backend(module, kernel_names):
    """TypeError unless `module` is a module that has these kernels."""
    if not isinstance(module, ModuleType):
        raise TypeError(f"a backend is a module of kernels such as numfuse.reference, was {module!r}")
    missing = [name for name in sorted(kernel_names) if not hasattr(module, name)]
    if missing:
        raise TypeError(
            f"a backend is a module of kernels; module {module.__name__} lacks the kernels {', '.join(missing)}"
        )
