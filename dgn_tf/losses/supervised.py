"""Supervised terms (Eq. 4 and the better default's): one value per example, unweighted."""

import tensorflow as tf


def correspondence_loss(mesh_coords, true_coords, mask, kind="huber", delta=0.5):
    """First term of Eq. 4: I_m against the rendered mesh coordinates.

    Args:
        mesh_coords: [B, S, S, 2] predicted, in cells.
        true_coords: [B, S, S, 2] true, in cells.
        mask: [B, S, S] bool, pixels that count: on the hand, measured, off the seams.
        kind: `huber` (mean over pixels, cells) or `mse` (the paper's, squared cells).
        delta: of the Huber loss, cells.

    Returns:
        [B]; 0 for an example without a pixel that counts.
    """
    counted = tf.cast(mask, tf.float32)
    square = tf.reduce_sum((mesh_coords - true_coords) ** 2, axis=-1)
    if kind == "huber":
        # The offset keeps the gradient of sqrt finite where the estimate is exact.
        distance = tf.sqrt(square + 1e-8)
        pixel = tf.where(distance < delta, square / (2 * delta), distance - delta / 2)
    elif kind == "mse":
        pixel = square
    else:
        raise ValueError(f"kind of correspondence loss is huber or mse, not {kind!r}.")
    return _masked_mean(pixel, counted)


def layer_loss(layer_logits, true_layer, mask):
    """Cross entropy of the layer (palm side or back) that a pixel lies on.

    `layer_logits` [B, S, S], `true_layer` [B, S, S] 0 or 1, `mask` [B, S, S] bool.
    Returns [B], nats.
    """
    labels = tf.cast(true_layer, tf.float32)
    pixel = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=layer_logits)
    return _masked_mean(pixel, tf.cast(mask, tf.float32))


def point_loss(points, true_points, kind="l1"):
    """Points against true points, [B, N, 3] mm both; the second term of Eq. 4 with `mse`.

    Returns:
        [B]: mean absolute coordinate difference in mm (`l1`), or mean squared
        distance in mm^2 (`mse`).
    """
    if kind == "l1":
        return tf.reduce_mean(tf.abs(points - true_points), axis=[1, 2])
    if kind == "mse":
        return tf.reduce_mean(tf.reduce_sum((points - true_points) ** 2, axis=-1), axis=1)
    raise ValueError(f"kind of point loss is l1 or mse, not {kind!r}.")


def _masked_mean(values, mask):
    total = tf.reduce_sum(mask, axis=[1, 2])
    return tf.reduce_sum(values * mask, axis=[1, 2]) / tf.maximum(total, 1.0)
