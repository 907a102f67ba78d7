"""Consistency of synchronised views (Sec. 4.3, Eq. 14): one value per view, unweighted.

Views are [B, C]: time steps and the cameras of a rig. camera_from_rig is rigid, mm. Products with
it are written as sums: a GPU may round `tf.matmul` to TF32, whose three digits are mm here.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.compiled import kernel
from dgn_tf.geometry import camera
from dgn_tf.losses import data_terms
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


# Free space: no vertex lies where a camera looks past the hand. Not in the paper.
#
# Eq. 7 and 8 ask that every pixel has a place on the mesh, not that every vertex has one in the
# frame: a finger taken for another may stand in the air at no cost. This term brings vertices back.


# Pixels of the crop next to a measured one may show the surface, too: edges of depth maps fray.
_NEAR = 3  # side of the window, pixels
_BEHIND_MM = 15.0  # a measurement so far behind a vertex is of something else


class Sight(NamedTuple):
    """What lies in the way of each ray of a crop; of `sight`."""

    surface: tf.Tensor  # [N, S, S] mm: depth of the nearest thing in a window; infinite: none
    intrinsics: tf.Tensor  # [N, 4]


def sight(depth, valid, centre, intrinsics) -> Sight:
    """How far the rays of crops go freely.

    Args:
        depth: [N, S, S] mm, 0 or not finite where nothing was measured.
        valid: [N, S, S] bool, measured and inside the cube.
        centre: [N, 3] of the cube, mm: what lies before it may hide the hand, what lies behind
            the cube does not.
        intrinsics: [N, 4] of the crops, pixels.

    Returns:
        `Sight`, without gradients. A pixel without a measurement is free where its neighbours
        have none either: sensors lose edges, seldom fingers.
    """
    depth = tf.where(tf.math.is_finite(depth), depth, tf.zeros_like(depth))
    blocked = valid | ((depth > 0) & (depth < centre[:, tf.newaxis, tf.newaxis, 2]))
    # The nearest in a window by pooling nearness, which is 0 at infinity.
    nearness = tf.where(blocked, 1 / tf.where(blocked, depth, tf.ones_like(depth)), 0.0)
    pooled = tf.nn.max_pool2d(nearness[..., tf.newaxis], _NEAR, 1, "SAME")[..., 0]
    return Sight(tf.stop_gradient(1 / pooled), intrinsics)


def in_free_space(points, seen: Sight, margin):
    """Which points a camera proves not to be there.

    Args:
        points: [N, M, 3] mm, in the camera's frame.
        seen: of that camera.
        margin: mm that a point may lie before what is measured.

    Returns:
        [N, M] bool: on a ray that nothing blocks, or before what blocks it. Points beyond the
        crop or behind the camera are not known.
    """
    size = seen.surface.shape[-1]
    points = tf.stop_gradient(points)
    before = points[..., 2] > 1.0
    ahead = tf.where(before[..., tf.newaxis], points, tf.ones_like(points))
    pixel = tf.round(camera.project(ahead, seen.intrinsics)[..., :2])
    inside = before & tf.reduce_all((pixel >= 0) & (pixel < size), axis=-1)
    # A pixel far outside does not fit an integer.
    place = tf.cast(tf.clip_by_value(pixel, 0, size - 1), tf.int32)
    surface = tf.reshape(seen.surface, [-1, size * size])
    reached = tf.gather(surface, place[..., 1] * size + place[..., 0], axis=1, batch_dims=1)
    return inside & (points[..., 2] < reached - margin)


def free_space_loss(vertices, free, points, counted, delta):
    """Vertices in free space against the nearest measured point of the hand.

    Args:
        vertices: [N, V, 3] mm, P_r.
        free: [N, V] bool of `in_free_space`.
        points: [N, K, 3] mm, the camera's pixels, in the frame of `vertices`.
        counted: [N, K] bool, the pixels that count; the others are finite, too.
        delta: of `smooth_l1`, mm.

    Returns:
        [N] mm, mean over all vertices, those that are not in free space at 0; 0 for an example
        without a pixel. Gradients reach `vertices`, with the choice of the nearest held.
    """
    free &= tf.reduce_any(counted, axis=1, keepdims=True)
    return pull(vertices, free, nearest_measured(vertices, points, counted), delta)


def nearest_measured(vertices, points, counted):
    """[N, V, 3] mm: the pixel that counts nearest to each vertex, see `free_space_loss`."""
    index = data_terms.nearest_vertex(vertices, points, counted)
    return tf.gather(tf.stop_gradient(points), index, axis=1, batch_dims=1)


def pull(vertices, free, nearest, delta):
    """`free_space_loss` with places `nearest` [N, V, 3] that are known already."""
    distance = data_terms.smooth_l1(tf.reduce_sum((vertices - nearest) ** 2, axis=-1), delta)
    return tf.reduce_mean(tf.where(free, distance, tf.zeros_like(distance)), axis=1)


@kernel
def looked_through(depth_mm, intrinsics, vertex):
    """Whether a camera measured nothing, or what is far behind, where one vertex [3] is.

    The compiled, harsher form of `in_free_space` for a crop [S, S] mm that holds the hand alone,
    0 where nothing was measured: there, too, it is looked through.
    """
    size = len(depth_mm)
    depth = max(vertex[2], 1.0)
    column = np.round(vertex[0] / depth * intrinsics[0] + intrinsics[2])
    row = np.round(vertex[1] / depth * intrinsics[1] + intrinsics[3])
    if not (0.0 <= column < size and 0.0 <= row < size):
        return False
    there = depth_mm[int(row), int(column)]
    return there <= 0.0 or there > depth + _BEHIND_MM
