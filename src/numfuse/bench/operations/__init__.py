"""One module per operation, with all that the harness knows of it. Tests, `numfuse bench` and `benchmarks/` walk them.

A module holds, in this order:

GROUP : the table of a report that its cases stand in
TOLERANCE : of its rivals' results, by dtype; see `case.ROUNDING`
CASES : a list of `Case`, one for each kernel and set of options that matters
SAME_BITS : False where results may differ from the reference's in bits, as those of long sums; True if left out
OPTIMIZERS : {name of a case: function that makes the optimizer whose step is the case}; may be left out
<source>_<kernel> : other implementations, which take the kernel's arguments and are found by this name:

- `textbook_adam_step`, the formula as a NumPy user writes it from the paper, temporary arrays and all. It returns
  what the kernel does, up to rounding, but draws its dropout masks from NumPy's generator and keeps them as floats.
  It may assume that no gradient is None, that `maximize` is False, that momentum begins with buffers of 0, and that
  dropout's p is below 1.
- `in_place_adam_step`, the same by someone who knows `out=`: no temporary arrays, few passes. It returns the
  function that does the work once, with scratch that is kept from call to call.
- `torch_adam_step`, `jax_adam_step`, `numba_adam_step`: other libraries, which are imported where they are used. They
  return {label: Rival}, or raise Unsupported; see `peers`.

A kernel that has a case is timed, and compared with its reference on every instruction set, with no further code; where
SAME_BITS is False, it is compared with itself, and its own test compares it with the reference.

>>> from numfuse import native
>>> import numpy as np
>>> case = find("adam_step amsgrad")
>>> arguments = case.arguments(1000, np.float32, np.random.default_rng(0))
>>> arguments["params"][0].shape, arguments["eps"]
((1000,), 0.001)
>>> getattr(native, case.kernel)(**arguments)
"""

import importlib
from pathlib import Path

from ... import native

WITHOUT_CASES = ("stream",)  # it measures memory


def load(name):
    """The module of an operation; ModuleNotFoundError, which names the file, if it has none."""
    module = f"{__name__}.{name}"
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        file = Path(__file__).with_name(f"{name}.py")
        raise ModuleNotFoundError(f"the operation {name!r} of native.operations() has no file {file}",
                                  name=module) from None


OPERATIONS = {name: load(name) for name in native.operations() if name not in WITHOUT_CASES}
CASES = [case for module in OPERATIONS.values() for case in module.CASES]
OPTIMIZERS = {name: make for module in OPERATIONS.values() for name, make in getattr(module, "OPTIMIZERS", {}).items()}
_BY_NAME = {case.name: case for case in CASES}
_BY_KERNEL = {case.kernel: module for module in OPERATIONS.values() for case in module.CASES}


def find(name):
    """The case of that name."""
    return _BY_NAME[name]


def operation_of(kernel):
    """The module of the operation that a kernel belongs to."""
    return _BY_KERNEL[kernel]


def function(source, kernel):
    """The function of a kernel's operation that does its work by other means, or None."""
    return getattr(_BY_KERNEL.get(kernel), f"{source}_{kernel}", None)
