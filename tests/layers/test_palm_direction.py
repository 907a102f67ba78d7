"""The small network that sees which way the palm points."""

import json

import numpy as np
import tensorflow as tf

from dgn_tf.layers import PalmDirection


def bars(count, seed):
    """Crops [N, 32, 32, 1] of a bar from the middle outwards, and its direction [N, 2]."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, count)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1).astype(np.float32)
    columns, rows = np.meshgrid(np.arange(32) - 15.5, np.arange(32) - 15.5)
    along = columns * direction[:, :1, None] + rows * direction[:, 1:, None]
    across = columns * direction[:, 1:, None] - rows * direction[:, :1, None]
    image = (np.abs(across) < 4) & (along > -4) & (along < 14)
    return tf.constant(image[..., None], tf.float32), tf.constant(direction)


def test_learns_which_way_a_bar_points():
    tf.keras.utils.set_random_seed(0)
    layer = PalmDirection((16, 24))
    optimizer = tf.keras.optimizers.Adam(3e-3)

    @tf.function
    def step(images, directions):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(images) - directions) ** 2)
        variables = layer.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    layer(bars(1, 0)[0])
    optimizer.build(layer.trainable_variables)
    for seed in range(150):
        step(*bars(32, seed))
    images, directions = bars(64, 1000)
    found = layer(images).numpy()
    cosine = np.sum(found * directions, axis=-1) / np.linalg.norm(found, axis=-1)
    assert np.median(np.degrees(np.arccos(np.clip(cosine, -1, 1)))) < 10


def test_config_round_trip_and_unknown_batch_size():
    layer = PalmDirection((8, 8))
    images, _ = bars(3, 1)
    expected = layer(images)
    again = PalmDirection.from_config(json.loads(json.dumps(layer.get_config())))
    again(images)
    again.set_weights(layer.get_weights())
    traced = tf.function(again, input_signature=[tf.TensorSpec([None, 32, 32, 1])])
    assert expected.shape == (3, 2)
    np.testing.assert_allclose(traced(images), expected, atol=1e-5)
