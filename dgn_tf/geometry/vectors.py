"""Small vector algebra from elementary arithmetic, which every runtime knows.

TensorRT has no converter for `Cross`, `OneHot` and `MatrixDiagPart`, LiteRT no kernel for the first
and the last; on the few numbers at hand plain arithmetic is as fast.
"""

import numpy as np
import tensorflow as tf


def cross(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The cross product of [..., 3] and [..., 3], of one shape."""
    ax, ay, az = tf.unstack(a, axis=-1)
    bx, by, bz = tf.unstack(b, axis=-1)
    return tf.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def trace(matrix: tf.Tensor) -> tf.Tensor:
    """The traces [...] of finite square matrices [..., n, n] of known size."""
    eye = np.eye(matrix.shape[-1], dtype=np.float32)
    return tf.reduce_sum(matrix * eye, axis=[-2, -1])


def determinant(matrix: tf.Tensor) -> tf.Tensor:
    """The determinants [...] of [..., 3, 3]."""
    first, second, third = tf.unstack(matrix, axis=-2)
    return tf.reduce_sum(first * cross(second, third), axis=-1)


def one_hot(index: tf.Tensor, depth: int) -> tf.Tensor:
    """float32 [..., depth] with 1 at `index` [...] int32, else 0."""
    return tf.cast(tf.equal(index[..., tf.newaxis], np.arange(depth, dtype=np.int32)), tf.float32)
