"""A small network that sees which way the palm points in the image."""

import keras
import tensorflow as tf

from dgn_tf.layers.hourglass import ConvNorm, ResidualBlock, SpaceToDepth, activation_of


@keras.utils.register_keras_serializable("dgn_tf")
class PalmDirection(keras.layers.Layer):
    """Predicts the palm's axis as the image shows it.

    It looks at every second pixel of every second row: enough for a direction, and a tenth of
    the network's work.

    Args:
        channels: channels at an eighth, a sixteenth, ... of the crop's resolution.

    Call arguments:
        pixels: [B, S, S, C] what the image network sees.

    Returns:
        [B, 2] x right, y down, of the unit axis from wrist to fingers: shorter where the palm
        points towards or away from the camera, or where the network is not sure.
    """

    def __init__(self, channels=(64, 96), activation: str = "relu", **kwargs):
        super().__init__(**kwargs)
        self.channels = tuple(int(count) for count in channels)
        self.activation = activation
        policy = {"activation": activation, "dtype": self.dtype_policy}
        self._shuffle = SpaceToDepth(4)
        self._convs = []
        for level, count in enumerate(self.channels):
            self._convs.append(
                ConvNorm(
                    count,
                    3,
                    strides=1 if level == 0 else 2,
                    norm="none",
                    **policy,
                    name=f"down_{level}",
                )
            )
            self._convs.append(ResidualBlock(count, norm="none", **policy, name=f"block_{level}"))
        self._hidden = keras.layers.Dense(
            128, activation_of(activation), dtype=self.dtype_policy, name="hidden"
        )
        self._direction = keras.layers.Dense(2, dtype="float32", name="direction")

    def call(self, pixels, training=None):
        half, channels = pixels.shape[1] // 2, pixels.shape[-1]
        # Slices of whole pixels: `pixels[:, ::2, ::2]` goes number by number.
        pairs = tf.reshape(pixels, [-1, half, 2, half, 2 * channels])
        outputs = self._shuffle(pairs[:, :, 0, :, :channels])
        for conv in self._convs:
            outputs = conv(outputs, training=training)
        size = outputs.shape[1] * outputs.shape[2] * outputs.shape[3]
        return self._direction(self._hidden(tf.reshape(outputs, [-1, size])))

    def get_config(self):
        return {
            **super().get_config(),
            "channels": list(self.channels),
            "activation": self.activation,
        }
