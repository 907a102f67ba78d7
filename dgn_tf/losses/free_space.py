"""Free space: no vertex lies where a camera looks past the hand. Not in the paper.

Eq. 7 and 8 ask that every pixel has a place on the mesh, not that every vertex has one in the
frame: a finger taken for another may stand in the air at no cost. This term brings vertices back.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.compiled import kernel
from dgn_tf.geometry import camera
from dgn_tf.losses import data_terms

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
