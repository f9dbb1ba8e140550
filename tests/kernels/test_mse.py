import pytest

from helpers.cases import CASES
from helpers.losses import assert_terms_have_the_same_bits
from helpers.parity import ODD_SIZES, each, each_dtype


@each([case for case in CASES if case.kernel == "mse"])
@each_dtype
@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_close_to_the_reference(kernels, case, dtype, size, special):
    assert_terms_have_the_same_bits(kernels, case, dtype, size, special)
