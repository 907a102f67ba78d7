"""A trained localiser on disk: weights, sizes and flags in one folder."""

import json
import pathlib

from dgn_tf import weights_file, writing
from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json
from dgn_tf.localize.network import Localiser
from dgn_tf.weights_file import SHA256

WEIGHTS, CONFIG, FLAGS = "weights.h5", "config.json", "flags.txt"
SHIPPED = pathlib.Path(__file__).parent / "assets"
_KIND = "localiser"


def save_localiser(network: Localiser, folder, flags: str = "", info: dict | None = None) -> None:
    """Writes `network` so that `load_localiser` gives it back, all files or none.

    Args:
        network: built; its current weights are written (averages applied by the caller).
        folder: made where missing; other files in it stay.
        flags: the flagfile that made the weights, written as `flags.txt`.
        info: JSON-able facts of the run (seed, commit, step, figures), kept in `config.json`.

    Raises:
        OSError: the folder can't be written; it holds what it held.
    """
    description = {"format": 1, "kind": _KIND, "channels": network.channels, **(info or {})}
    with writing.files_together(folder) as beside:
        description[SHA256] = weights_file.save_weights(network, beside / WEIGHTS)
        (beside / CONFIG).write_text(json.dumps(description, indent=1) + "\n")
        (beside / FLAGS).write_text(flags)


def weights_hash(folder) -> str:
    """sha256 (hex) of a localiser's weights; empty: of the one that ships; "" without weights."""
    file = pathlib.Path(folder or SHIPPED) / WEIGHTS
    return weights_file.sha256_of(file) if file.is_file() else ""


def load_localiser(folder="") -> Localiser:
    """The localiser of a folder, ready to call; empty: the one that ships.

    Raises:
        InputError: names --localiser; a file is missing, damaged, or of another model.
    """
    folder = pathlib.Path(folder or SHIPPED)
    writing.settle(folder)
    file = folder / CONFIG
    if not file.is_file():
        raise InputError(
            f"--localiser={folder} holds no {CONFIG}; give the folder of a localiser, such as "
            "OUTPUT_DIR/best of python -m dgn_tf.train_localiser."
        )
    try:
        description = read_json(file)
        if (description["format"], description["kind"]) != (1, _KIND):
            raise ValueError(f"format {description['format']} of a {description['kind']}")
        network = Localiser(tuple(int(count) for count in description["channels"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"--localiser: {file} is not a localiser's description ({error})."
        ) from None
    network(network.example_inputs())
    try:
        weights_file.load_weights(network, folder / WEIGHTS, description.get(SHA256))
    except InputError as error:
        raise InputError(f"--localiser: {error}") from None
    return network
