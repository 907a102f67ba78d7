"""JSON files that are written whole or not at all."""

import contextlib
import json
import os
import pathlib

from dgn_tf.errors import InputError


def write_json(values, file, flag: str = "--json") -> None:
    """Writes beside, then renames; makes the folder. NaN is refused: it is no JSON.

    Raises:
        InputError: the file can't be written; the message names `flag`.
    """
    file = pathlib.Path(file)
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    beside = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text)
        os.replace(beside, file)
    except OSError as error:
        with contextlib.suppress(OSError):  # a folder of its path may be a file
            beside.unlink()
        raise InputError(f"{flag}={file}: can't be written ({error.strerror}).") from None
