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
    return masked_mean(pixel, counted)


def layer_loss(layer_logits, true_layer, mask):
    """Cross entropy of the layer (palm side or back) that a pixel lies on.

    `layer_logits` [B, S, S], `true_layer` [B, S, S] 0 or 1, `mask` [B, S, S] bool.
    Returns [B], nats.
    """
    labels = tf.cast(true_layer, tf.float32)
    pixel = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=layer_logits)
    return masked_mean(pixel, tf.cast(mask, tf.float32))


def direction_loss(direction, true_direction):
    """Distance of [B, 2] directions in the image from the true ones, unit axes projected: [B].

    Not of their angles: how far a foreshortened axis is turned matters little.
    """
    square = tf.reduce_sum((direction - true_direction) ** 2, axis=-1)
    return tf.sqrt(square + 1e-8)  # the offset keeps the gradient finite at 0


def point_loss(points, true_points, kind="l1", valid=None):
    """Points against true points, [B, N, 3] mm both; the second term of Eq. 4 with `mse`.

    Args:
        points: predicted.
        true_points: finite everywhere, also where `valid` is 0.
        kind: see below.
        valid: [B, N] 0 or 1, the points that count; None: all do.

    Returns:
        [B]: mean absolute coordinate difference in mm (`l1`), or mean squared
        distance in mm^2 (`mse`), over the points that count; 0 where none does.
    """
    if kind == "l1":
        point = tf.reduce_mean(tf.abs(points - true_points), axis=-1)
    elif kind == "mse":
        point = tf.reduce_sum((points - true_points) ** 2, axis=-1)
    else:
        raise ValueError(f"kind of point loss is l1 or mse, not {kind!r}.")
    if valid is None:
        return tf.reduce_mean(point, axis=1)
    return masked_mean(point, valid)


def masked_mean(values, mask):
    """Means of each example's `values` [B, ...] where `mask`, likewise, is 1; 0 for an empty one.

    Values must be finite, also where they do not count.
    """
    axes = list(range(1, len(mask.shape)))
    mask = tf.cast(mask, values.dtype)
    total = tf.reduce_sum(mask, axis=axes)
    return tf.reduce_sum(values * mask, axis=axes) / tf.maximum(total, 1.0)


def weighted_sum(terms: dict[str, tf.Tensor], weights: dict[str, float]) -> tf.Tensor:
    """The one place that adds loss terms up: those that have a weight, of any one shape."""
    return tf.add_n([weights[name] * term for name, term in terms.items() if name in weights])
