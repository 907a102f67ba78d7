"""Batch norm whose batch is that of the whole training step, on however many devices."""

import keras
import tensorflow as tf


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
