"""Arguments that a kernel must refuse, made of good ones."""

import numpy as np
import pytest

from helpers.arrays import flat
from numfuse import native

each_wrong_type = pytest.mark.parametrize("change", [
    lambda array: array.tolist(),
    lambda array: array.astype(array.dtype.newbyteorder()),
    *[lambda array, dtype=dtype: array.astype(dtype) for dtype in "ei?FO"],
], ids=["list", "byte-swapped", "float16", "int32", "bool", "complex64", "object"])


def bits_of(arguments):
    """The bytes of all arrays, with what they are views of."""
    arrays = [array for array in flat(arguments) if array.dtype != "O"]
    arrays += [array.base for array in arrays if isinstance(array.base, np.ndarray)]
    return [array.tobytes() for array in arrays]


def assert_refused(kernel, arguments, error, pattern):
    """The kernel of that name raises an error whose message matches, and modifies no array."""
    before = bits_of(arguments)
    with pytest.raises(error, match=pattern):
        getattr(native, kernel)(**arguments)
    assert bits_of(arguments) == before
