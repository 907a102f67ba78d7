"""Small .npz files of a dataclass's fields, written whole or not at all."""

import dataclasses
import os
import zipfile

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.writing import output_file


def write_fields(values, file: str | os.PathLike) -> None:
    """Writes a dataclass's fields by their names; InputError where the file can't be written."""
    with output_file(file) as beside, open(beside, "wb") as out:
        np.savez(out, **dataclasses.asdict(values))


def read_fields(kind: type, file: str | os.PathLike, remedy: str) -> dict[str, np.ndarray]:
    """Reads what `write_fields` wrote of a dataclass; field name -> array. Nothing in it runs.

    Raises:
        InputError: it can't be read or lacks a field; the message ends in `remedy`.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {field.name: archive[field.name] for field in dataclasses.fields(kind)}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} can't be read ({error}): {remedy}.") from None
