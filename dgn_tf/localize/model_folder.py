"""A trained localiser on disk: weights, sizes and flags in one folder."""

import json
import os
import pathlib
import tempfile

from dgn_tf.errors import InputError
from dgn_tf.localize.network import Localiser

WEIGHTS, CONFIG, FLAGS = "weights.h5", "config.json", "flags.txt"
_KIND = "localiser"


def save_localiser(network: Localiser, folder, flags: str = "", info: dict | None = None) -> None:
    """Writes `network` so that `load_localiser` gives it back, each file beside, then renamed.

    Args:
        network: built; its current weights are written (averages applied by the caller).
        folder: made where missing; other files in it stay.
        flags: the flagfile that made the weights, written as `flags.txt`.
        info: JSON-able facts of the run (seed, commit, step, figures), kept in `config.json`.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    description = {"format": 1, "kind": _KIND, "channels": network.channels, **(info or {})}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as scratch:
        beside = pathlib.Path(scratch)
        network.save_weights(str(beside / WEIGHTS), save_format="h5")
        (beside / CONFIG).write_text(json.dumps(description, indent=1) + "\n")
        (beside / FLAGS).write_text(flags)
        for name in (WEIGHTS, CONFIG, FLAGS):
            os.replace(beside / name, folder / name)


def load_localiser(folder, flag: str = "--localiser") -> Localiser:
    """The localiser of a folder, ready to call.

    Raises:
        InputError: names `flag`; a file is missing, damaged, or of another model.
    """
    folder = pathlib.Path(folder)
    file = folder / CONFIG
    if not file.is_file():
        raise InputError(
            f"{flag}={folder} holds no {CONFIG}; give the folder of a localiser, such as "
            "saved_models/localiser, or train one with python -m dgn_tf.train_localiser."
        )
    try:
        description = json.loads(file.read_text())
        if (description["format"], description["kind"]) != (1, _KIND):
            raise ValueError(f"format {description['format']} of a {description['kind']}")
        network = Localiser(tuple(int(count) for count in description["channels"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{flag}: {file} is not a localiser's description ({error}).") from None
    network(network.example_inputs())
    try:
        network.load_weights(str(folder / WEIGHTS))
    except (OSError, KeyError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"{flag}: {folder / WEIGHTS} can't be read or does not fit: {first}"
        ) from None
    return network
