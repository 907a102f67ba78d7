"""The paper's equations as they read, written without a thought for speed.

What `dgn_tf` computes by one-dimensional softmaxes, constant matrices, plain arithmetic and loops
over the pixels on the hand stands here as Sec. 3 says it: the reference that the fast forms are
held against (`tests/test_reference.py`, `experiments.plain_form`). `docs/paper_map.md` says where
the fast ones are. TensorFlow Graphics does the skinning; nothing that predicts imports this module.
"""

import numpy as np
import tensorflow as tf
from tensorflow_graphics.geometry.transformation import linear_blend_skinning


def window_weights(coords, grid_size: int, kernel: int, sigma: float):
    """The softmax of Eq. 2 over all cells of the mesh grid, [B, N, G*G] of [B, N, 2] (column, row).

    Cells outside the window floor(m) - K/2 + 1 .. floor(m) + K/2 weigh nothing; a coordinate whose
    window holds no cell belongs to the nearest window that does.
    """
    rows, columns = np.mgrid[:grid_size, :grid_size]
    cells = np.stack([columns, rows], axis=-1).reshape(-1, 2).astype(np.float32)
    half = kernel // 2
    coords = tf.clip_by_value(coords, -half, grid_size + half - 2)[:, :, tf.newaxis]
    first = tf.floor(coords) - (half - 1)  # [B, N, 1, 2]
    inside = tf.reduce_all((cells >= first) & (cells <= first + (kernel - 1)), axis=-1)
    logits = -sigma * tf.reduce_sum((cells - coords) ** 2, axis=-1)
    return tf.nn.softmax(tf.where(inside, logits, -np.inf))


def extend(coords, features, mask, grid_size: int, kernel: int, sigma: float):
    """Eq. 1, over every pixel and every cell.

    Args:
        coords: [B, N, 2] mesh coordinates of the pixels, column and row in cells.
        features: [B, N, F].
        mask: [B, N] 1 for pixels on the hand, else 0.
        grid_size: G; kernel: K; sigma: of the window.

    Returns:
        [B, G, G, F] sums of the features by the weights of Eq. 2, and [B, G, G, 1] of the weights.
    """
    weights = window_weights(coords, grid_size, kernel, sigma) * mask[..., tf.newaxis]
    sums = tf.einsum("bnc,bnf->bcf", weights, features)
    occupancy = tf.reduce_sum(weights, axis=1)
    side = [-1, grid_size, grid_size]
    return tf.reshape(sums, [*side, features.shape[-1]]), tf.reshape(occupancy, [*side, 1])


def sample(grid, coords, kernel: int, sigma: float):
    """Sampling by the weights of Eq. 2 (Sec. 3.3): [B, G, G, C] at [V, 2] -> [B, V, C]."""
    weights = window_weights(coords[np.newaxis], grid.shape[1], kernel, sigma)
    cells = tf.reshape(grid, [-1, grid.shape[1] * grid.shape[2], grid.shape[-1]])
    return tf.einsum("vc,bcf->bvf", weights[0], cells)


def fit_similarity(points, rest, weights):
    """Eq. 3, part by part by singular value decomposition; the scale after Umeyama (1991).

    Args:
        points: [B, V, 3] P_s, mm.
        rest: [V, 3] the template at rest, mm.
        weights: [V, P] skinning weights.

    Returns:
        [B, P, 4, 4] similarity of each part, camera_from_template.
    """
    rest, weights = np.asarray(rest, np.float32), np.asarray(weights, np.float64)
    weights = (weights / weights.sum(axis=0)).T.astype(np.float32)  # [P, V]
    mean, rest_mean = tf.einsum("pv,bvi->bpi", weights, points), weights @ rest
    away = points[:, tf.newaxis] - mean[:, :, tf.newaxis]  # [B, P, V, 3]
    rest_away = rest - rest_mean[:, np.newaxis]  # [P, V, 3]
    covariance = tf.einsum("pv,bpvi,pvj->bpij", weights, away, rest_away)
    _, u, v = tf.linalg.svd(covariance)
    sign = tf.sign(tf.linalg.det(u) * tf.linalg.det(v))
    ends = tf.stack([tf.ones_like(sign), tf.ones_like(sign), sign], axis=-1)
    rotation = tf.matmul(u * ends[..., tf.newaxis, :], v, transpose_b=True)
    spread = np.einsum("pv,pvj->p", weights, rest_away**2)
    scale = tf.einsum("bpij,bpij->bp", rotation, covariance) / spread
    linear = rotation * scale[..., tf.newaxis, tf.newaxis]
    moved = mean - tf.einsum("bpij,pj->bpi", linear, rest_mean)
    upper = tf.concat([linear, moved[..., tf.newaxis]], axis=-1)
    last = tf.broadcast_to([[0.0, 0.0, 0.0, 1.0]], tf.shape(upper[..., :1, :]))
    return tf.concat([upper, last], axis=-2)


def skin(transforms, rest, weights):
    """Linear blend skinning (Sec. 3.4): [B, P, 4, 4], [V, 3] mm, [V, P] -> [B, V, 3] mm."""
    rest, weights = np.asarray(rest, np.float32), np.asarray(weights, np.float32)
    linear, translation = transforms[..., :3, :3], transforms[..., :3, 3]
    return linear_blend_skinning.blend(rest, weights, linear, translation)
