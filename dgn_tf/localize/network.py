"""The localiser (the network that Sec. 3.6 puts before the crop): which blocks show a hand.

Fully convolutional: each block of the thinned frame says whether it shows a hand, whether a left
one, and where that hand's centre lies from there.
"""

import json
import pathlib
from collections.abc import Sequence

import keras
import tensorflow as tf

from dgn_tf import weights_file, writing
from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json
from dgn_tf.layers.hourglass import ConvNorm, Hourglass
from dgn_tf.localize import raster
from dgn_tf.localize.raster import best_hands
from dgn_tf.weights_file import SHA256

OFFSET_MM = 50.0  # of one unit of the offsets
OUTPUTS = 5  # hand, left, offset's x, y, z
CHANNELS = (24, 48, 72, 96)


class Localiser(keras.Model):
    """Finds hands in whole depth frames.

    Call arguments:
        inputs: dict of depth [B, 128, 160] mm, 0 = missing, and intrinsics [B, 4]: a raster of
            `raster.thin`.

    Returns:
        hand [B, 32, 40] and left [B, 32, 40], logits; offset [B, 32, 40, 3] mm from the block's
        surface to its hand's centre; point [B, 32, 40, 3] mm, camera frame, and pixels
        [B, 32, 40]: that surface; near [B, 32, 40, 16] (see `raster.surfaces`).
    """

    def __init__(self, channels: Sequence[int] = CHANNELS, **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(channels)
        self._squeeze = ConvNorm(self.channels[0], 1, name="squeeze")
        self._hourglass = Hourglass(self.channels, name="hourglass")
        self._head = keras.layers.Conv2D(OUTPUTS, 1, name="head")

    def call(self, inputs, training=None):
        depth, intrinsics = inputs["depth"], inputs["intrinsics"]
        found = raster.surfaces(depth, intrinsics)
        seen = raster.features(found, intrinsics)
        outputs = self._squeeze(seen, training=training)
        outputs = self._head(self._hourglass(outputs, training=training))
        outputs = tf.cast(outputs, tf.float32)
        return {
            "hand": outputs[..., 0],
            "left": outputs[..., 1],
            "offset": OFFSET_MM * outputs[..., 2:],
            "point": found["point"],
            "pixels": found["pixels"][..., 0],
            "near": found["near"],
        }

    def example_inputs(self) -> dict:
        """One frame without depth: builds the weights."""
        return {
            "depth": tf.zeros([1, raster.HEIGHT, raster.WIDTH]),
            "intrinsics": tf.constant([[120.0, 120.0, 79.5, 63.5]]),
        }

    def locate(self, depth, intrinsics, count: int = 1):
        """Finds hands in whole frames; see `votes.best_hands` for what it returns.

        Args:
            depth: [B, H, W] mm, 0 = missing.
            intrinsics: [B, 4] of the frames.
            count: K, places to return.
        """
        thinned, of_raster = raster.thin(depth, intrinsics)
        outputs = self({"depth": thinned, "intrinsics": of_raster}, training=False)
        return best_hands(outputs, count)


# A trained localiser on disk: weights, sizes and flags in one folder.


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
