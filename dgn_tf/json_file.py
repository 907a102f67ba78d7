"""JSON files: written whole or not at all, and read whatever somebody has put there."""

import json
import math
import os

from dgn_tf.file_kinds import named_kind
from dgn_tf.writing import write_output

MAX_BYTES = 256 * 2**20


def parse_json(text: str | bytes | bytearray):
    """`json.loads`, whose only error is a ValueError in one line, however deep the text nests."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(file: str | os.PathLike):
    """Reads a JSON file (UTF-8).

    Raises:
        OSError: it can't be read.
        ValueError: it is no JSON, is nested too deeply or has more than `MAX_BYTES`.
    """
    with open(file, "rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    try:
        return parse_json(content.decode("utf-8-sig"))  # Windows programs mark UTF-8
    except ValueError:
        if kind := named_kind(file):
            if kind != "it is JSON text":
                raise ValueError(kind) from None
        raise


def known(figures):
    """Nested figures with None, JSON's null, for those that are NaN or infinite."""
    if isinstance(figures, dict):
        return {name: known(value) for name, value in figures.items()}
    if isinstance(figures, (list, tuple)):
        return [known(value) for value in figures]
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures


def write_json(values, file, flag: str = "--json") -> None:
    """Writes the file and makes its folder. NaN is refused: it is no JSON.

    Raises:
        InputError: the file can't be written; the message names `flag`.
    """
    write_output(file, json.dumps(values, indent=1, allow_nan=False) + "\n", flag)
