import math

import pytest

from helpers.cases import CASES, arguments
from helpers.losses import assert_terms_have_the_same_bits
from helpers.parity import ODD_SIZES, each, each_dtype
from helpers.refusals import assert_refused


@each([case for case in CASES if case.kernel == "huber"])
@each_dtype
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_close_to_the_reference(kernels, case, dtype, size, special):
    assert_terms_have_the_same_bits(kernels, case, dtype, size, special)


@pytest.mark.parametrize("delta", [0.0, -1.0, math.nan])
def test_wrong_delta_is_refused(delta):
    assert_refused("huber", arguments("huber", delta=delta), ValueError, f"^delta must be .* was {delta}")
