"""Kinematic priors (Sec. 4.2): what no hand does; one value per example, unweighted."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import kinematics


def collision_loss(joints_mm, threshold=5.0):
    """Collision term, Eq. 10: no two joints come nearer than `threshold`.

    Args:
        joints_mm: [B, J, 3].
        threshold: t, mm.

    Returns:
        [B] mm, sum over the pairs i < j of what they lack of the threshold. The gradient of two
        joints in the very same place is 0: nothing says which way they are to part.
    """
    first, second = np.triu_indices(joints_mm.shape[1], 1)
    between = tf.gather(joints_mm, first, axis=1) - tf.gather(joints_mm, second, axis=1)
    # The offset keeps the gradient of sqrt finite at 0.
    distance = tf.sqrt(tf.reduce_sum(between**2, axis=-1) + 1e-12)
    return tf.reduce_sum(tf.maximum(threshold - distance, 0), axis=1)


def arap_loss(vertices, vertices_sampled):
    """As rigid as possible, Eq. 11: P_s against P_r, whose parts are rigid.

    `vertices` P_r and `vertices_sampled` P_s, [B, V, 3] mm. Returns [B] mm^2, the mean over the
    vertices (the paper sums them up); gradients reach both.
    """
    return tf.reduce_mean(tf.reduce_sum((vertices - vertices_sampled) ** 2, axis=-1), axis=1)


def offset_loss(transforms, bone_from_template, parents):
    """Offset term, Eq. 12 and 13: bones turn about their joints and don't leave them.

    Args:
        transforms: [B, P, 4, 4] T, camera_from_template, similarities, mm.
        bone_from_template: [P, 4, 4] constant B, mm.
        parents: [P] constant; the root is its own parent and comes first.

    Returns:
        [B] mm^2 of the rest template: sum over all parts but the root, which the wrist lets go
        anywhere, of the squared translation of L.
    """
    local = kinematics.local_from_global(transforms, bone_from_template, parents)
    return tf.reduce_sum(local[:, 1:, :3, 3] ** 2, axis=[1, 2])
