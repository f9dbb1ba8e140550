import re

import numpy as np
from helpers.commands import run

import numfuse


def test_info(capsys):
    code, out, _ = run(capsys, "info")
    assert code == 0
    for word in (numfuse.__version__, numfuse.native.isa(), np.__version__, "BLAS", "Python"):
        assert word in out
    assert re.search(r"^import +\d+\.\d ms beyond NumPy's$", out, re.M)
