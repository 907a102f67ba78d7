"""JSON files that are written whole or not at all."""

import json

from dgn_tf.writing import write_output


def write_json(values, file, flag: str = "--json") -> None:
    """Writes the file and makes its folder. NaN is refused: it is no JSON.

    Raises:
        InputError: the file can't be written; the message names `flag`.
    """
    write_output(file, json.dumps(values, indent=1, allow_nan=False) + "\n", flag)
