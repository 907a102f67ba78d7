"""The hourglass of both grids (Sec. 3.2, 3.3): an encoder, a decoder, skips between them.

Sublayers get their layer's dtype policy, so that `dtype="float32"` holds throughout.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

ACTIVATIONS = {
    "relu": tf.nn.relu,
    "leaky_relu": lambda values: tf.nn.leaky_relu(values, 0.1),
}


def activation_of_sum(name: str):
    """`activation_of`, for a sum with what a convolution gives.

    TensorFlow 2.15 makes one kernel of Conv2D, BiasAdd, AddV2 and LeakyRelu in a graph, and its
    slope is 0.2, whatever was asked for.
    """
    activate = activation_of(name)
    return activate if name == "relu" else lambda values: tf.maximum(values, 0.1 * values)


def activation_of(name: str):
    """The function of that name; ValueError for another name."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation wants one of {', '.join(ACTIVATIONS)}, got {name!r}.")
    return ACTIVATIONS[name]


@keras.utils.register_keras_serializable("dgn_tf")
class ResidualBlock(keras.layers.Layer):
    """Two 3x3 convolutions (`plain`) or 1x1, 3x3, 1x1 (`bottleneck`), and a shortcut.

    Post-activation, so that batch norms fold into the convolutions before them. `plain` is the
    faster of the two on a CPU, where small operations are bound by memory.

    Call arguments:
        inputs: [B, H, W, C].

    Returns:
        [B, H, W, filters]; the shortcut is a 1x1 convolution where C is not `filters`.
    """

    def __init__(
        self,
        filters: int,
        block: str = "plain",
        norm: str = "batch",
        activation: str = "relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if block not in ("plain", "bottleneck"):
            raise ValueError(f"block wants plain or bottleneck, got {block!r}.")
        self.filters, self.block, self.norm = filters, block, norm
        self.activation = activation
        self._activate = activation_of_sum(activation)
        half = max(filters // 2, 1)
        sizes = (
            [(filters, 3), (filters, 3)]
            if block == "plain"
            else [(half, 1), (half, 3), (filters, 1)]
        )
        last = len(sizes) - 1
        # Branches that start at zero keep the activations' size over the depth.
        self._units = [
            ConvNorm(
                count,
                size,
                norm=norm,
                relu=index < last,
                zero_start=index == last,
                activation=activation,
                dtype=self.dtype_policy,
                name=f"conv_{index}",
            )
            for index, (count, size) in enumerate(sizes)
        ]
        self._shortcut: ConvNorm | None = None

    def build(self, input_shape):
        if input_shape[-1] != self.filters:
            self._shortcut = ConvNorm(
                self.filters,
                1,
                norm=self.norm,
                relu=False,
                dtype=self.dtype_policy,
                name="shortcut",
            )
        super().build(input_shape)

    def call(self, inputs, training=None):
        outputs = inputs
        for unit in self._units:
            outputs = unit(outputs, training=training)
        shortcut = inputs if self._shortcut is None else self._shortcut(inputs, training=training)
        return self._activate(outputs + shortcut)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "block": self.block,
            "norm": self.norm,
            "activation": self.activation,
        }


@keras.utils.register_keras_serializable("dgn_tf")
class ConvNorm(keras.layers.Layer):
    """Convolution (padding same), batch norm (or, with norm 'none', a bias), ReLU if wanted.

    `zero_start` begins with an output of zeros, for the last convolution of a residual branch.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        norm: str = "batch",
        relu: bool = True,
        zero_start: bool = False,
        activation: str = "relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if norm not in ("batch", "none"):
            raise ValueError(f"norm wants batch or none, got {norm!r}.")
        self.filters, self.kernel_size, self.strides = filters, kernel_size, strides
        self.norm, self.relu, self.zero_start = norm, relu, zero_start
        self.activation = activation
        self._activate = activation_of(activation)
        self.conv = keras.layers.Conv2D(
            filters,
            kernel_size,
            strides,
            padding="same",
            use_bias=norm == "none",
            kernel_initializer="zeros" if zero_start and norm == "none" else "he_normal",
            dtype=self.dtype_policy,
            name="conv",
        )
        self.batch_norm = None
        if norm == "batch":
            self.batch_norm = BatchNorm(
                momentum=0.98,
                gamma_initializer="zeros" if zero_start else "ones",
                dtype=self.dtype_policy,
                name="norm",
            )

    def call(self, inputs, training=None):
        outputs = self.conv(inputs)
        if self.batch_norm is not None:
            outputs = self.batch_norm(outputs, training=training)
        return self._activate(outputs) if self.relu else outputs

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "norm": self.norm,
            "relu": self.relu,
            "zero_start": self.zero_start,
            "activation": self.activation,
        }


@keras.utils.register_keras_serializable("dgn_tf")
class Hourglass(keras.layers.Layer):
    """Hourglass network: one level of half the resolution for each further entry of `channels`.

    Down by strided 3x3 convolutions, up by 1x1 convolutions and pixel shuffle (XLA on CPU has no
    gradient for nearest-neighbour resizing); skips are added.

    Call arguments:
        inputs: [B, H, W, C]; H and W divisible by 2^(len(channels) - 1).

    Returns:
        [B, H, W, channels[0]].
    """

    def __init__(
        self,
        channels: Sequence[int] = (64, 96, 128),
        blocks: int = 1,
        block: str = "plain",
        norm: str = "batch",
        activation: str = "relu",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.channels = tuple(int(count) for count in channels)
        if not self.channels or blocks < 1:
            raise ValueError(
                "An hourglass wants at least one level and one block, got channels="
                f"{self.channels}, blocks={blocks}."
            )
        self.blocks, self.block, self.norm = blocks, block, norm
        self.activation, self._activate = activation, activation_of_sum(activation)
        policy = {"activation": activation, "dtype": self.dtype_policy}

        def residual(level, side):
            return [
                ResidualBlock(
                    self.channels[level],
                    block,
                    norm,
                    **policy,
                    name=f"{side}_{level}_{i}",
                )
                for i in range(blocks)
            ]

        levels = range(len(self.channels))
        self._stem = ConvNorm(self.channels[0], 3, norm=norm, **policy, name="stem")
        self._encoders = [residual(level, "encoder") for level in levels]
        self._downs = [
            ConvNorm(
                self.channels[level + 1],
                3,
                strides=2,
                norm=norm,
                **policy,
                name=f"down_{level}",
            )
            for level in levels[:-1]
        ]
        self._ups = [
            ConvNorm(
                4 * self.channels[level],
                1,
                norm=norm,
                relu=False,
                **policy,
                name=f"up_{level}",
            )
            for level in levels[:-1]
        ]
        self._decoders = [residual(level, "decoder") for level in levels[:-1]]
        # `save_weights` to *.weights.h5 misses layers in lists of lists, silently.
        self._blocks = [block for stage in (*self._encoders, *self._decoders) for block in stage]

    def build(self, input_shape):
        factor = 2 ** (len(self.channels) - 1)
        if any(side is not None and side % factor for side in input_shape[1:3]):
            raise ValueError(
                f"An hourglass of {len(self.channels)} levels wants sides divisible "
                f"by {factor}, got {tuple(input_shape)}."
            )
        super().build(input_shape)

    def call(self, inputs, training=None):
        outputs = self._stem(inputs, training=training)
        skips = []
        for level, encoder in enumerate(self._encoders):
            for block in encoder:
                outputs = block(outputs, training=training)
            if level < len(self._downs):
                skips.append(outputs)
                outputs = self._downs[level](outputs, training=training)
        for level in reversed(range(len(self._ups))):
            up = tf.nn.depth_to_space(self._ups[level](outputs, training=training), 2)
            outputs = self._activate(up + skips[level])
            for block in self._decoders[level]:
                outputs = block(outputs, training=training)
        return outputs

    def get_config(self):
        return {
            **super().get_config(),
            "channels": list(self.channels),
            "blocks": self.blocks,
            "block": self.block,
            "norm": self.norm,
            "activation": self.activation,
        }


# Batch norm whose batch is that of the whole training step, on however many devices.


@keras.utils.register_keras_serializable("dgn_tf")
class BatchNorm(keras.layers.BatchNormalization):
    """Keras' layer; in a training step of several replicas, statistics over all their frames.

    Keras' own `synchronized=True` differs from its fused kernel of a single device: the variance
    is a difference of large numbers, and its moving average lacks Bessel's correction. Here both
    are those of one device with the whole batch, up to rounding.

    Every replica must have as many frames as the next. Weights are those of Keras' layer.

    Call arguments:
        inputs: [..., C].

    Returns:
        [..., C].
    """

    def add_weight(self, name=None, **kwargs):
        if str(name).startswith("moving_"):
            # The replicas' values are equal: reading one of them asks no other process.
            kwargs["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return super().add_weight(name=name, **kwargs)

    def call(self, inputs, training=None):
        replica = tf.distribute.get_replica_context()
        if not training or replica is None or replica.num_replicas_in_sync == 1:
            return super().call(inputs, training=training)
        values = tf.cast(inputs, tf.float32)
        axes = list(range(len(values.shape) - 1))
        mean = replica.all_reduce("mean", tf.reduce_mean(values, axis=axes))
        square = tf.reduce_mean((values - mean) ** 2, axis=axes)
        variance = replica.all_reduce("mean", square)
        number = tf.cast(tf.size(values) // values.shape[-1], tf.float32)
        number *= replica.num_replicas_in_sync
        self._follow(self.moving_mean, mean)
        self._follow(self.moving_variance, variance * number / (number - 1))
        outputs = tf.nn.batch_normalization(
            values, mean, variance, self.beta, self.gamma, self.epsilon
        )
        return tf.cast(outputs, inputs.dtype)

    def _follow(self, average, value):
        average.assign(average * self.momentum + value * (1 - self.momentum))


# Pixel shuffling (Sec. 3.6): trades resolution for channels and back.


class _Shuffle(keras.layers.Layer):
    def __init__(self, block_size: int = 2, **kwargs):
        super().__init__(**{**kwargs, "autocast": False})  # it moves numbers, of any type
        self.block_size = block_size

    def get_config(self):
        return {**super().get_config(), "block_size": self.block_size}


@keras.utils.register_keras_serializable("dgn_tf")
class SpaceToDepth(_Shuffle):
    """[B, H, W, C] -> [B, H/block_size, W/block_size, C*block_size^2]."""

    def call(self, inputs):
        return tf.nn.space_to_depth(inputs, self.block_size)


@keras.utils.register_keras_serializable("dgn_tf")
class DepthToSpace(_Shuffle):
    """[B, H, W, C] -> [B, H*block_size, W*block_size, C/block_size^2]."""

    def call(self, inputs):
        return tf.nn.depth_to_space(inputs, self.block_size)
