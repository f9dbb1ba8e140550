"""Arrays that the doors must refuse, made of good ones; for tests of more than one kernel."""

import numpy as np
import pytest


def misaligned(array):
    order = "C" if array.flags.c_contiguous else "F"
    view = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape, order=order)
    view[...] = array
    return view


each_wrong_type = pytest.mark.parametrize("change", [
    lambda array: array.tolist(),
    lambda array: array.astype(array.dtype.newbyteorder()),
    *[lambda array, dtype=dtype: array.astype(dtype) for dtype in "ei?FO"],
], ids=["list", "byte-swapped", "float16", "int32", "bool", "complex64", "object"])
