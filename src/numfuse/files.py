"""Files that are written whole or not at all, and the errors of broken archives."""

import contextlib
import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path

# Raised for a broken .npz file by zipfile, the decompressors behind it and NumPy.
BROKEN_NPZ = (ValueError, OSError, EOFError, KeyError, RuntimeError, OverflowError, struct.error,
              zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@contextlib.contextmanager
def replacing(path):
    """Open a new binary file that takes the place of `path` once it has been written without error."""
    temporary = Path(f"{path}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
