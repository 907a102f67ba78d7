"""One hand out of the estimates of several synchronised views, in the rig's frame.

Fusion follows the multi-view term of Eq. 14, whose target is the views' per-vertex median, with two
changes. The median of a coordinate depends on how the rig's frame is turned and moves between two
views only by jumping; the point of least weighted distance does neither. And a view whose crop
missed the hand is told by the pixels: its mesh explains nobody's.
"""

import tensorflow as tf

from dgn_tf.losses import data_terms, multi_view
from dgn_tf.losses.multi_view import flat_views

# A pixel that no part of a mesh comes near says that the mesh is wrong, not by how much, mm.
FAR_MM = 20.0
# Views whose meshes explain all pixels this much worse than the best one's weigh 1/e, mm: what
# smooth L1 of the energy calls near (EnergyConfig.delta).
_EVIDENCE_MM = 5.0
# Distance from the others at which a vertex has lost three quarters of its weight, mm: about what
# a view alone is off.
_OUTLIER_MM = 20.0
# Views of less weight don't say what is not there: their crops may have missed the hand.
_WITNESS_WEIGHT = 0.6
# A vertex that no view sees still has a place; its views' guesses then weigh alike.
_LEAST_WEIGHT = 0.01
_MEDIAN_STEPS, _OUTLIER_STEPS = 12, 6


def fuse(points, weights):
    """The robust mean of each vertex over the views.

    Starts at the weighted geometric median (Weiszfeld), which one of three views can't move far,
    and lets what is still far away lose its weight (Geman and McClure).

    Args:
        points: [B, C, V, 3] mm, rig frame, finite.
        weights: [B, C, V] >= 0; 0 for views that take no part.

    Returns:
        [B, V, 3] mm; of one view its own points, of views that agree their weighted mean. 0 where
        all weights are 0. Turns and moves with the rig's frame.
    """
    middle = tf.reduce_mean(points, axis=[1, 2], keepdims=True)
    points = points - middle  # small numbers keep their digits
    fused = _weighted_mean(points, weights)
    for _ in range(_MEDIAN_STEPS):
        # 1 mm: a vertex that lies on a view's own point must not divide by 0.
        near = tf.sqrt(_square_distance(points, fused) + 1.0)
        fused = _weighted_mean(points, weights / near)
    for _ in range(_OUTLIER_STEPS):
        kept = (1 + _square_distance(points, fused) / _OUTLIER_MM**2) ** -2
        fused = _weighted_mean(points, weights * kept)
    seen = tf.reduce_sum(weights, axis=1) > 0
    return tf.where(seen[..., tf.newaxis], fused + middle[:, 0], tf.zeros_like(fused))


def view_weights(explained, usable):
    """How much a view counts, from how well its mesh explains the pixels of all views.

    Args:
        explained: [B, C] mm, mean capped distance of the pixels, see `explanation`.
        usable: [B, C] bool.

    Returns:
        [B, C]: 1 for the best usable view, e^-1 for one 5 mm worse, 0 for one not usable.
    """
    best = tf.reduce_min(tf.where(usable, explained, FAR_MM), axis=1, keepdims=True)
    weights = tf.exp((best - explained) / _EVIDENCE_MM)
    return tf.where(usable, tf.minimum(weights, 1.0), tf.zeros_like(weights))


def vertex_weights(of_view, confidence):
    """Weights [B, C, V] of `fuse`: [B, C] of the views times [B, C, V] of the network."""
    return of_view[..., tf.newaxis] * tf.maximum(confidence, _LEAST_WEIGHT)


def votes(in_rig, camera_from_rig, sights, weights, margin):
    """Which views' vertices count: those that no camera sees past.

    Two views that take a finger for another would outvote the third, which sees it.

    Args:
        in_rig: [B, C, V, 3] mm, the views' estimates.
        camera_from_rig: [B, C, 4, 4] mm.
        sights: `free_space.Sight` of [B, C, S, S] and [B, C, 4].
        weights: [B, C] of `view_weights`.
        margin: of `free_space.in_free_space`, mm.

    Returns:
        [B, C, V] bool. A vertex that no view places anywhere else keeps all its votes.
    """
    shape = tf.shape(in_rig)[:3]
    flat = tf.reshape(in_rig, [shape[0], -1, 3])
    free = tf.zeros(shape, tf.bool)
    for view in range(camera_from_rig.shape[1]):
        there = multi_view.moved(flat, camera_from_rig[:, view])
        sight = multi_view.Sight(*(values[:, view] for values in sights))
        past = tf.reshape(multi_view.in_free_space(there, sight, margin), shape)
        free |= past & (weights[:, view] > _WITNESS_WEIGHT)[:, tf.newaxis, tf.newaxis]
    left = tf.reduce_any(~free & (weights > 0)[..., tf.newaxis], axis=1, keepdims=True)
    return ~free | ~left


def explanation(vertices, normals, points, counted, camera_from_rig, usable):
    """How well each view's mesh explains the pixels of all usable views, its own included.

    Args:
        vertices: [B, C, V, 3] mm, each in its own camera's frame.
        normals: [B, C, V, 3] outward.
        points: [B, C, K, 3] mm, pixels of each view in its own camera's frame.
        counted: [B, C, K] bool.
        camera_from_rig: [B, C, 4, 4] mm.
        usable: [B, C] bool.

    Returns:
        [B, C] mm: distance of the pixels from the nearest vertex that faces their camera, at
        most `FAR_MM`, averaged over the pixels and then the views; `FAR_MM` without any.
    """
    cameras = vertices.shape[1]
    total, count = 0.0, 0.0
    for shift in range(cameras):
        source_from_other = multi_view.source_from_other(camera_from_rig, shift)
        moved = multi_view.moved(multi_view.other_view(points, shift), source_from_other)
        distance = pixel_distance(
            flat_views(vertices),
            flat_views(normals),
            flat_views(moved),
            flat_views(multi_view.other_view(counted, shift)),
            flat_views(source_from_other)[:, :3, 3],
        )
        other = multi_view.other_view(usable, shift)
        total += tf.where(other, tf.reshape(distance, [-1, cameras]), 0.0)
        count += tf.cast(other, tf.float32)
    return tf.where(count > 0, total / tf.maximum(count, 1.0), FAR_MM)


def pixel_distance(vertices, normals, points, counted, camera):
    """Mean distance of pixels from a mesh, each at most `FAR_MM`.

    Args:
        vertices, normals: [N, V, 3] mm and outward.
        points: [N, K, 3] mm, the same frame.
        counted: [N, K] bool.
        camera: [N, 3] mm, from where the pixels were seen.

    Returns:
        [N] mm; `FAR_MM` where no pixel counts.
    """
    allowed = data_terms.facing(vertices, normals, camera)
    index = data_terms.nearest_vertex(points, vertices, allowed)
    nearest = tf.gather(vertices, index, axis=1, batch_dims=1)
    distance = tf.minimum(tf.norm(points - nearest, axis=-1), FAR_MM)
    total = tf.reduce_sum(tf.where(counted, distance, 0.0), axis=1)
    count = tf.reduce_sum(tf.cast(counted, tf.float32), axis=1)
    return tf.where(count > 0, total / tf.maximum(count, 1.0), FAR_MM)


def median_distance(points, fused):
    """Median over the vertices of |points - fused|: [B, C, V, 3] and [B, V, 3] -> [B, C] mm."""
    ordered = tf.sort(tf.sqrt(_square_distance(points, fused)), axis=-1)
    return ordered[..., points.shape[2] // 2]


def frame_confidence(distance, residual, usable):
    """How far to trust a frame's fused hand, without any label. Uncalibrated: it ranks.

    exp(-(a + r) / 20 mm) n / (n + 1): a is the median over the n usable views of `distance`, how
    far their estimates lie from the result; r the mean of `residual`, how far the pixels do; and
    the last factor says that a view alone has nobody to contradict it. 20 mm is the error at
    which the field's success rates begin to count a frame as bad.

    Args:
        distance: [B, C] mm of `median_distance`.
        residual: [B, C] mm of `pixel_distance` to the result.
        usable: [B, C] bool.

    Returns:
        [B] in 0..1; 0 without a usable view.
    """
    views = tf.reduce_sum(tf.cast(usable, tf.float32), axis=1)
    mean = tf.reduce_sum(tf.where(usable, residual, 0.0), axis=1) / tf.maximum(views, 1.0)
    apart = multi_view.median_of_views(distance[..., tf.newaxis, tf.newaxis], usable)[:, 0, 0]
    return tf.exp(-(apart + mean) / 20.0) * views / (views + 1.0)


def _square_distance(points, fused):
    return tf.reduce_sum((points - fused[:, tf.newaxis]) ** 2, axis=-1)


def _weighted_mean(points, weights):
    total = tf.reduce_sum(weights[..., tf.newaxis] * points, axis=1)
    return total / tf.maximum(tf.reduce_sum(weights, axis=1), 1e-12)[..., tf.newaxis]
