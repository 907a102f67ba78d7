"""Linear blend skinning (Sec. 3.4)."""

import numpy as np
import tensorflow as tf


def skinning_basis(rest: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Folds rest points and weights into one matrix, so that skinning is one matrix product.

    Args:
        rest: [V, 3] rest points, template frame, mm.
        weights: [V, P], rows sum to 1.

    Returns:
        [P*4, V] float32.
    """
    rest = np.pad(np.asarray(rest, np.float64), [(0, 0), (0, 1)], constant_values=1)  # [V, 4]
    weighted = np.asarray(weights, np.float64)[:, :, None] * rest[:, None]  # [V, P, 4]
    return weighted.reshape(len(rest), -1).T.astype(np.float32)


def skin(transforms: tf.Tensor, rest: np.ndarray, weights: np.ndarray) -> tf.Tensor:
    """Poses rest points by the blended transforms of the parts.

    Args:
        transforms: [B, P, 4, 4] camera_from_template of each part, mm.
        rest: [V, 3] constant rest points, template frame, mm.
        weights: [V, P] constant, rows sum to 1.

    Returns:
        [B, V, 3] posed points, camera frame, mm.
    """
    return skin_by_basis(transforms, tf.constant(skinning_basis(rest, weights)))


def skin_by_basis(transforms: tf.Tensor, basis: tf.Tensor) -> tf.Tensor:
    """`skin` with the `basis` [P*4, V] of `skinning_basis`."""
    basis = tf.cast(basis, transforms.dtype)
    # The hand is far from the camera and small: relative to its own place, float32 keeps
    # another two digits (and reduced-precision products of a GPU keep theirs).
    origin = transforms[:, :1, :3, 3]  # [B, 1, 3]
    columns = tf.concat(
        [transforms[:, :, :3, :3], (transforms[:, :, :3, 3] - origin)[..., tf.newaxis]], axis=-1
    )
    rows = tf.transpose(columns, [0, 2, 1, 3])  # [B, 3, P, 4]
    rows = tf.reshape(rows, [-1, basis.shape[0]])  # [B*3, P*4]
    posed = tf.reshape(rows @ basis, [-1, 3, basis.shape[1]])  # [B, 3, V]
    return tf.linalg.matrix_transpose(posed) + origin  # [B, V, 3]
