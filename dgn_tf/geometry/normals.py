"""Surface normals of a depth crop."""

import tensorflow as tf


def pixel_normals(planes: tf.Tensor) -> tf.Tensor:
    """Unit normals of the surface that an organised point map samples.

    Cross products of central differences along rows and columns (beyond the border lies the
    border itself): palm and back, and the creases between fingers, differ by some mm in depth
    but plainly in their normals.

    Args:
        planes: [B, 4, S, S] x right, y down, z forward of every pixel's point, any unit, and 1
            where the pixel was measured, else 0.

    Returns:
        [B, 3, S, S] towards the camera (z < 0 where the surface faces it); 0 for a pixel that
        lacks, or whose neighbours left, right, above or below lack, a measurement.
    """
    right = tf.concat([planes[:, :, :, 1:], planes[:, :, :, -1:]], axis=3)
    left = tf.concat([planes[:, :, :, :1], planes[:, :, :, :-1]], axis=3)
    below = tf.concat([planes[:, :, 1:], planes[:, :, -1:]], axis=2)
    above = tf.concat([planes[:, :, :1], planes[:, :, :-1]], axis=2)
    valid = planes[:, 3] * left[:, 3] * right[:, 3] * above[:, 3] * below[:, 3]
    ax, ay, az = tf.unstack((below - above)[:, :3], axis=1)
    bx, by, bz = tf.unstack((right - left)[:, :3], axis=1)
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    # The offset keeps the gradient finite where a crop has no points; squared units of `points`.
    scale = valid * tf.math.rsqrt(x * x + y * y + z * z + 1e-18)
    return tf.stack([x * scale, y * scale, z * scale], axis=1)
