"""clang-format finds nothing to change: every macro and every loop of the C code is written so that it can parse it."""

import shutil
import subprocess

import pytest

from helpers.paths import ROOT


@pytest.mark.skipif(shutil.which("clang-format") is None, reason="needs clang-format: pip install clang-format")
@pytest.mark.parametrize("folder", ["csrc", "tests/c"])
def test_clang_format_keeps_the_code(folder):
    files = [path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".c", ".h")]
    assert files
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
