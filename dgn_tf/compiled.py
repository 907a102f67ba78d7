"""How the package compiles its kernels: without the interpreter lock, and kept on disk."""

import functools
import hashlib
import pathlib
from typing import Any

import numba

_CONFIG: Any = numba.config  # its attributes are set at run time


@functools.cache
def _cache_folder() -> str:
    """A folder for compiled kernels that belongs to the very sources they were compiled from.

    numba looks for changes in a kernel's own file only, and would go on using it when a kernel that
    it calls has changed in another.
    """
    package = pathlib.Path(__file__).parent
    digest = hashlib.sha256(numba.__version__.encode())
    folders = ("geometry", "synthesis", "records", "hand_fit", "losses")
    for path in sorted(file for folder in folders for file in package.glob(f"{folder}/*.py")):
        source = path.read_bytes()
        if b"@kernel" in source:
            digest.update(path.name.encode() + b"\0" + source)
    base = pathlib.Path(_CONFIG.CACHE_DIR or package / "__pycache__")
    return str(base / f"kernels-{digest.hexdigest()[:16]}")


def kernel(function):
    """Compiles a function at its first call; division by zero gives inf or nan, as in numpy.

    Where the package's folder cannot be written, numba's own choice of a cache takes over.
    """
    given = _CONFIG.CACHE_DIR
    folder = _cache_folder()
    _CONFIG.CACHE_DIR = folder  # read when a function is decorated
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    finally:
        _CONFIG.CACHE_DIR = given
