"""Consistency of synchronised views (Sec. 4.3, Eq. 14): one value per view, unweighted.

Views are [B, C]: time steps and the cameras of a rig. camera_from_rig is rigid, mm. Products with
it are written as sums: a GPU may round `tf.matmul` to TF32, whose three digits are mm here.
"""

import tensorflow as tf

from dgn_tf.losses.data_terms import smooth_l1


def moved(points, transforms):
    """Moves points [..., N, 3] by rigid transforms [..., 4, 4]."""
    linear, translation = transforms[..., :3, :3], transforms[..., :3, 3]
    turned = tf.reduce_sum(points[..., tf.newaxis, :] * linear[..., tf.newaxis, :, :], axis=-1)
    return turned + translation[..., tf.newaxis, :]


def rigid_inverse(transforms):
    """Inverts rigid transforms [..., 4, 4]."""
    back = tf.linalg.matrix_transpose(transforms[..., :3, :3])
    translation = -tf.reduce_sum(back * transforms[..., tf.newaxis, :3, 3], axis=-1)
    upper = tf.concat([back, translation[..., tf.newaxis]], axis=-1)
    return tf.concat([upper, transforms[..., 3:, :]], axis=-2)


def other_view(values, shift):
    """For each view c the values [B, C, ...] of view (c + shift) mod C."""
    return tf.roll(values, -shift, axis=1)


def source_from_other(camera_from_rig, shift):
    """From the camera of view (c + shift) mod C to that of view c.

    `camera_from_rig` [B, C, 4, 4]. Returns [B, C, 4, 4]; its translation is the other camera's
    place in view c's frame.
    """
    rig_from_other = rigid_inverse(other_view(camera_from_rig, shift))
    columns = tf.linalg.matrix_transpose(rig_from_other)[..., tf.newaxis, :, :]  # [.., 1, 4, 4]
    return tf.reduce_sum(camera_from_rig[..., :, tf.newaxis, :] * columns, axis=-1)


def median_of_views(points, valid):
    """Per-coordinate median over the views that are valid.

    Args:
        points: [B, C, N, 3] mm, rig frame, finite also where a view is not valid.
        valid: [B, C] bool, or [B, C, N], by point.

    Returns:
        [B, N, 3] without a gradient: of an even number of views the mean of the middle two;
        of none, any finite value.
    """
    points, valid = tf.stop_gradient(points), tf.convert_to_tensor(valid)
    valid = valid if valid.shape.rank == 3 else valid[..., tf.newaxis]
    away = tf.fill(tf.shape(points), tf.constant(points.dtype.max, points.dtype))
    ordered = tf.sort(tf.where(valid[..., tf.newaxis], points, away), axis=1)
    count = tf.reduce_sum(tf.cast(valid, tf.int32), axis=1)  # [B, N] or [B, 1]
    places = tf.range(tf.shape(points)[1])[:, tf.newaxis]

    def at(place):
        chosen = (places == place[:, tf.newaxis])[..., tf.newaxis]  # [B, C, N, 1]
        return tf.reduce_sum(tf.where(chosen, ordered, tf.zeros_like(ordered)), axis=1)

    median = at(tf.maximum(count - 1, 0) // 2) / 2 + at(count // 2) / 2
    return tf.where(count[..., tf.newaxis] > 0, median, tf.zeros_like(median))


def vertex_loss(vertices, camera_from_rig, valid, delta, votes=None):
    """Vertex term of Eq. 14: each view's mesh against the median of the views.

    Args:
        vertices: [B, C, V, 3] P_r, mm, each in its own camera's frame.
        camera_from_rig: [B, C, 4, 4] mm.
        valid: [B, C] bool: the views that take part.
        delta: of `smooth_l1`, mm.
        votes: [B, C, V] bool, vertices that count for the median (not in the paper); None: all.

    Returns:
        [B, C] mm, mean over the vertices, those for which no view votes at 0; 0 where a view is
        not valid or the only one. The median has no gradient.
    """
    in_rig = moved(vertices, rigid_inverse(camera_from_rig))
    voting = valid[..., tf.newaxis] if votes is None else votes & valid[..., tf.newaxis]
    median = median_of_views(in_rig, voting)
    square = tf.reduce_sum((in_rig - median[:, tf.newaxis]) ** 2, axis=-1)
    pull = smooth_l1(square, delta)
    known = tf.reduce_any(voting, axis=1, keepdims=True)
    loss = tf.reduce_mean(tf.where(known, pull, tf.zeros_like(pull)), axis=-1)
    return tf.where(valid, loss, tf.zeros_like(loss))


def mean_over_others(terms, valid):
    """Means of terms against other views.

    Args:
        terms: list of C - 1 tensors [B, C]: of view c against view (c + shift) mod C, for shift
            1 .. C - 1; finite.
        valid: [B, C] bool.

    Returns:
        [B, C]: over the other views that are valid; 0 where there is none or c itself is not.
    """
    total, count = tf.zeros_like(terms[0]), tf.zeros_like(terms[0])
    for shift, term in enumerate(terms, start=1):
        both = valid & other_view(valid, shift)
        total += tf.where(both, term, tf.zeros_like(term))
        count += tf.cast(both, term.dtype)
    return total / tf.maximum(count, 1)


def flat_views(values):
    """Views one by one: [B, C, ...] -> [B * C, ...], time step by time step."""
    return tf.reshape(values, [-1, *values.shape[2:]])
