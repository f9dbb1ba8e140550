import numpy as np
import pytest

from helpers.cases import CASES, arguments
from helpers.losses import assert_terms_are_close
from helpers.parity import ODD_SIZES, each, each_dtype
from helpers.refusals import assert_refused


@each([case for case in CASES if case.kernel == "bce_with_logits"])
@each_dtype
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_close_to_the_reference(kernels, case, dtype, size, special):
    assert_terms_are_close(kernels, case, dtype, size, special)


def test_targets_are_looked_at_before_anything_is_written():
    target = np.linspace(-1, 1, 24, dtype=np.float32).reshape(6, 4)
    bad = arguments("bce_with_logits", target=target)
    assert_refused("bce_with_logits", bad, ValueError, "^target must be from 0 to 1, was -1.0")
