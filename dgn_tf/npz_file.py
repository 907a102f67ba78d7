"""Small .npz files, read whatever somebody has put there and written whole or not at all."""

import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Iterable

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.writing import output_file

MAX_BYTES = 2**30  # of all arrays that are read of a file
_MAX_MEMBERS = 1000


def write_fields(values, file: str | os.PathLike) -> None:
    """Writes a dataclass's fields by their names; InputError where the file can't be written."""
    with output_file(file) as beside, open(beside, "wb") as out:
        np.savez(out, **dataclasses.asdict(values))


def read_fields(kind: type, file: str | os.PathLike, remedy: str) -> dict[str, np.ndarray]:
    """Reads what `write_fields` wrote of a dataclass; field name -> array. Nothing in it runs.

    Raises:
        InputError: it can't be read or lacks a field; the message ends in `remedy`.
    """
    names = [field.name for field in dataclasses.fields(kind)]
    try:
        arrays = read_arrays(file, names)
        return {name: arrays[name] for name in names}
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{file} can't be read ({error}): {remedy}.") from None


def read_arrays(
    file, names: Iterable[str] | None = None, limit: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """The arrays of an .npz, each compared with its check sum; nothing in it runs.

    Args:
        file: path or stream.
        names: which are wanted; those that are not there are left out. None: all.
        limit: bytes that they may take together, compressed or not.

    Raises:
        OSError: it can't be read.
        ValueError: it is no .npz, damaged, holds objects, or takes more than `limit` bytes.
    """
    wanted = None if names is None else set(names)
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                raise ValueError(f"it has {len(members)} members, at most {_MAX_MEMBERS} are read")
            for member in members:
                name = member.filename.removesuffix(".npy")
                if wanted is not None and name not in wanted:
                    continue
                limit -= member.file_size  # what zipfile reads at most, whatever is there
                if limit < 0:
                    raise ValueError(f"'{name}' takes {member.file_size} bytes, too many")
                arrays[name] = array_of(archive.read(member))
    except (OSError, ValueError):
        raise
    except Exception as error:  # zipfile and the decompressors raise a dozen kinds
        raise ValueError(str(error) or type(error).__name__) from None
    return arrays


def array_of(content: bytes) -> np.ndarray:
    """An array of the bytes of a .npy file, which are as many as its header says; nothing runs.

    Raises:
        ValueError: no .npy file, damaged, or of Python objects.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"an array of .npy format {version}")
    header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    try:
        shape, fortran, dtype = header(stream)
    except Exception as error:  # Python's own parser raises a dozen kinds
        raise ValueError(f"its header is damaged: {error}") from None
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    size = math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or size != len(content) - stream.tell():
        raise ValueError(f"an array {list(shape)} of {dtype} in {len(content)} bytes")
    if not size:  # numpy.frombuffer takes no element of no bytes
        return np.empty(shape, dtype)
    # A copy: it can be written to, as numpy's own reader has it.
    flat = np.frombuffer(content, dtype, offset=stream.tell()).copy()
    return flat.reshape(shape, order="F" if fortran else "C")
