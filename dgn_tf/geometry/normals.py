"""Surface normals of a depth crop."""

import tensorflow as tf

from dgn_tf.geometry import vectors


def pixel_normals(points: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Unit normals of the surface that an organised point map samples.

    Cross products of central differences along rows and columns: palm and back, and the
    creases between fingers, differ by some mm in depth but plainly in their normals.

    Args:
        points: [B, S, S, 3] point of every pixel, any unit, x right, y down, z forward.
        valid: [B, S, S] 1 where the pixel was measured, else 0.

    Returns:
        [B, S, S, 3] towards the camera (z < 0 where the surface faces it); 0 for a pixel that
        lacks, or whose neighbours left, right, above or below lack, a measurement.
    """
    across = _neighbours(points, 2)
    down = _neighbours(points, 1)
    known = valid * _both(valid, 2) * _both(valid, 1)
    normal = vectors.cross(down, across)
    # The offset keeps the gradient finite where a crop has no points; squared units of `points`.
    length = tf.sqrt(tf.reduce_sum(normal**2, axis=-1, keepdims=True) + 1e-18)
    return normal / length * known[..., tf.newaxis]


def _neighbours(values, axis):
    """Next minus previous along `axis`; beyond the border lies the border itself."""
    return _shift(values, axis, 1) - _shift(values, axis, -1)


def _both(valid, axis):
    return _shift(valid, axis, 1) * _shift(valid, axis, -1)


def _shift(values, axis, step):
    size = values.shape[axis]
    index = tf.clip_by_value(tf.range(size) + step, 0, size - 1)
    return tf.gather(values, index, axis=axis)
