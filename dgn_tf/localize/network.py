"""The localiser (the network that Sec. 3.6 puts before the crop): which blocks show a hand.

Fully convolutional: each block of the thinned frame says whether it shows a hand, whether a left
one, and where that hand's centre lies from there.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from dgn_tf.layers.hourglass import ConvNorm, Hourglass
from dgn_tf.localize import raster
from dgn_tf.localize.votes import best_hands

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
