"""A trained network on disk: weights, sizes, template and flags in one folder."""

import dataclasses
import json
import pathlib
import shutil

from dgn_tf import weights_file, writing
from dgn_tf.confidence.probability import ConfidenceModel
from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json
from dgn_tf.network import DualGridNet
from dgn_tf.network_config import NetworkConfig
from dgn_tf.template import HandTemplate
from dgn_tf.weights_file import SHA256

WEIGHTS, CONFIG, TEMPLATE, FLAGS = "weights.h5", "config.json", "template.npz", "flags.txt"
CONFIDENCE = "confidence.npz"  # there once it is calibrated
SHAPE_BIAS = "shape_bias.npz"  # there once dgn_tf.learn_shape_bias has been run


def save_model_folder(network: DualGridNet, folder, flags: str = "", info: dict | None = None):
    """Writes `network` so that `load_network` gives it back, all files or none.

    Args:
        network: built; its current weights are written (averages applied by the caller).
        folder: made where missing; other files in it stay.
        flags: the flagfile that made the weights, written as `flags.txt`.
        info: JSON-able facts of the run (seed, commit, step, figures), kept in `config.json`.

    Raises:
        OSError: the folder can't be written; it holds what it held.
    """
    template = network.template
    description = {
        "format": 1,
        "network": dataclasses.asdict(network.config),
        "embedding": template.embedding,
        "template_hash": template.hash,
        **(info or {}),
    }
    # What was fitted to the weights that were there goes with them.
    with writing.files_together(folder, instead_of=(CONFIDENCE, SHAPE_BIAS)) as beside:
        description[SHA256] = weights_file.save_weights(network, beside / WEIGHTS)
        (beside / TEMPLATE).write_bytes(template.to_bytes())
        (beside / CONFIG).write_text(json.dumps(description, indent=1) + "\n")
        (beside / FLAGS).write_text(flags)


def files_in(folder) -> list[pathlib.Path]:
    """The files that `save_model_folder` and `copy_model_folder` write in a folder."""
    return [pathlib.Path(folder) / name for name in (WEIGHTS, TEMPLATE, CONFIG, FLAGS)]


def find_model_folder(path) -> pathlib.Path:
    """The folder that holds `config.json`: `path`, the folder of a file in it, or the model
    folder of a version (`saved_models/dgn/1`).

    Raises:
        InputError: there is none.
    """
    path = pathlib.Path(path)
    for folder in (path, path.parent):
        writing.settle(folder)
        if (folder / CONFIG).is_file():
            return folder
    raise InputError(
        f"{path} is no model: a folder with {CONFIG}, {WEIGHTS} and {TEMPLATE} is wanted, "
        "as dgn_tf.train writes to OUTPUT_DIR/best and saved_models/dgn holds."
    )


def read_description(path) -> dict:
    """`config.json` of the model folder at `path`; raises InputError where it can't be read."""
    file = find_model_folder(path) / CONFIG
    try:
        description = read_json(file)
        if description["format"] != 1:
            raise InputError(f"{file}: format {description['format']} is not 1, the one known.")
        return description
    except (ValueError, KeyError, TypeError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file}: not a model's description ({error}); export it again.") from None


def described_network(path) -> NetworkConfig:
    """Sizes and choices of the network in the model folder at `path`; InputError as above."""
    folder = find_model_folder(path)
    try:
        # Networks of before `upright` say nothing of it, and see their crops as they are.
        return NetworkConfig(**{"upright": False, **read_description(folder)["network"]})
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder / CONFIG}: {error}; it is of another version.") from None


def load_template_of(path) -> HandTemplate:
    """The template of the model folder at `path` (or of the version there)."""
    folder = find_model_folder(path)
    return HandTemplate.load(folder / TEMPLATE, embedding=read_description(folder)["embedding"])


def weights_sha256(folder) -> str:
    """sha256 (hex) of the weights in a model folder."""
    return weights_file.sha256_of(find_model_folder(folder) / WEIGHTS)


def load_network(path, calibrated: bool = True) -> DualGridNet:
    """The network of a model folder (or of a version or file inside one), ready to call.

    Args:
        path: the folder.
        calibrated: with the calibration of its confidence, where the folder has one.

    Raises:
        InputError: a file is missing, damaged, or of another network or template.
    """
    folder = find_model_folder(path)
    description = read_description(folder)
    template = HandTemplate.load(folder / TEMPLATE, embedding=description["embedding"])
    if template.hash != description["template_hash"]:
        raise InputError(
            f"{folder / TEMPLATE} has hash {template.hash[:12]}, but the weights were trained "
            f"with {description['template_hash'][:12]}; restore the template they came with."
        )
    network = DualGridNet(template, described_network(folder))
    network(network.example_inputs())
    load_weights(network, folder / WEIGHTS)
    if calibrated and (folder / CONFIDENCE).is_file():
        network.confidence_model = ConfidenceModel.load(
            folder / CONFIDENCE,
            weights_sha256(folder),
            len(template.vertices),
            len(template.keypoints),
        )
    return network


def load_weights(network: DualGridNet, file, other_template: bool = False) -> None:
    """Loads `weights.h5` into a built network.

    Args:
        network: built.
        file: weights.h5 or a model folder.
        other_template: take weights that were trained with another template; else these are
            refused, as far as the folder of the file tells.

    Raises:
        InputError: they do not exist, do not fit, belong to another template, or are not those
            that the description beside them was written with.
    """
    file = pathlib.Path(file)
    if file.is_dir():
        file = file / WEIGHTS
    if not file.is_file():
        raise InputError(f"weights {file} do not exist; --init_weights wants a weights.h5.")
    described = read_description(file.parent) if (file.parent / CONFIG).is_file() else {}
    if described and not other_template:
        trained, own = described["template_hash"], network.template.hash
        if trained != own:
            raise InputError(
                f"{file} was trained with the template of hash {trained[:12]}, this network has "
                f"{network.template.name}, {own[:12]}; pass --template={file.parent / TEMPLATE}, "
                "or --init_other_template to learn this one from there."
            )
    weights_file.load_weights(
        network, file, described.get(SHA256) if file.name == WEIGHTS else None
    )


def copy_model_folder(source, target) -> None:
    """Copies the files of a model folder into `target`, all or none."""
    folder = find_model_folder(source)
    names = [WEIGHTS, TEMPLATE, CONFIG, FLAGS]
    fitted = (CONFIDENCE, SHAPE_BIAS)
    names += [name for name in fitted if (folder / name).is_file()]
    with writing.files_together(target, instead_of=fitted) as beside:
        for name in names:
            shutil.copyfile(folder / name, beside / name)
