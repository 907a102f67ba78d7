"""`DualGridNet` as the paper's formulas read: layers of `dgn_tf.reference`, the same weights.

The reference that the shipped form is held against as a whole, in its values and in its time.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from dgn_tf import reference
from dgn_tf.geometry import camera as crop_geometry
from dgn_tf.geometry import upright
from dgn_tf.network import DualGridNet, View
from dgn_tf.template import HandTemplate


class PlainExtension:
    """Eq. 1 over every pixel and every cell: one [N, G*G] matrix of weights a frame."""

    def __init__(self, grid_size, kernel, sigma, normalise):
        self.window, self.normalise = (grid_size, kernel, sigma), normalise

    def __call__(self, coords, features, mask):
        pixels = coords.shape[1] * coords.shape[2]
        parts = (coords, 2), (features, features.shape[-1]), (mask[..., tf.newaxis], 1)
        coords, features, mask = (tf.reshape(v, [-1, pixels, size]) for v, size in parts)
        sums, occupancy = reference.extend(coords, features, mask[..., 0], *self.window)
        if self.normalise:
            sums, occupancy = sums / (occupancy + 1e-3), tf.math.log(1.0 + occupancy)
        return tf.concat([sums, occupancy], axis=-1)


class PlainSampling:
    """Eq. 2 at the template's mesh coordinates, computed each time; a vertex reads its layer."""

    def __init__(self, template: HandTemplate, kernel, sigma):
        self.coords = np.asarray(template.mesh_coords, np.float32)
        self.layer = np.asarray(template.vertex_layer)[:, np.newaxis]
        self.window = kernel, sigma

    def __call__(self, coordinate_map):
        sampled = reference.sample(coordinate_map, self.coords, *self.window)  # [B, V, 3 L]
        if sampled.shape[-1] == 3:
            return sampled
        return tf.where(self.layer == 0, sampled[..., :3], sampled[..., 3:])

    def occupancy(self, occupancy):
        return reference.sample(occupancy[..., tf.newaxis], self.coords, *self.window)[..., 0]


class PlainSimilarityFit:
    """Eq. 3 of [B, V, 3] -> [B, P, 4, 4]."""

    def __init__(self, template: HandTemplate):
        self.rest = template.vertices, template.skinning_weights

    def __call__(self, points):
        return reference.fit_similarity(points, *self.rest)


class PlainSkinning:
    """Linear blend skinning: every part poses every vertex, then the weights blend."""

    def __init__(self, template: HandTemplate):
        self.vertices = (template.vertices, template.skinning_weights)
        self._keypoints = (template.keypoints, template.keypoint_weights)

    def __call__(self, transforms):
        return reference.skin(transforms, *self.vertices)

    def keypoints(self, transforms):
        return reference.skin(transforms, *self._keypoints)


class PlainNetwork(DualGridNet):
    """The networks' view pixel by pixel; `plain_form` puts the plain layers in."""

    def pixel_inputs(self, inputs):
        centre = tf.cast(inputs["centre"], tf.float32)
        seen = pixels = crop_geometry.normalise_crop(
            inputs["depth"], inputs["intrinsics"], centre, inputs["cube"]
        )
        if self.config.normals:
            seen = tf.concat([pixels, _normals(pixels[..., :3], pixels[..., 3:])], axis=-1)
        if self.palm_direction is None:
            return pixels[..., 3], seen, None
        view = upright.view_from_camera(centre)
        turned = tf.where(pixels[..., 3:] > 0.5, _rotated(seen, view), _background(seen))
        return pixels[..., 3], turned, view

    def canonical_view(self, seen, direction, view_from_camera):
        turned_from_crop = upright.rotation_to_upright(direction)
        index, inside = upright.turned_lookup(turned_from_crop, self.config.image_size)
        turn = upright.about_view(turned_from_crop)
        turned = _rotated(upright.look_up(seen, index), turn)
        inside = tf.reshape(inside, [-1, *seen.shape[1:3], 1])
        camera_from_view = tf.matmul(view_from_camera, turn, transpose_a=True, transpose_b=True)
        view = View(direction, tf.linalg.matrix_transpose(turned_from_crop), camera_from_view)
        return tf.where(inside, turned, _background(seen)), view


def _background(seen):
    return tf.constant([0.0, 0.0, 1.0] + [0.0] * (seen.shape[-1] - 3))


def _rotated(seen, rotation):
    """Points, and normals where there are any, of [B, S, S, 4 or 7] rotated."""
    parts = [upright.rotate(seen[..., :3], rotation), seen[..., 3:4]]
    if seen.shape[-1] > 4:
        parts.append(upright.rotate(seen[..., 4:], rotation))
    return tf.concat(parts, axis=-1)


def _normals(points, valid):
    """Unit normals [B, S, S, 3] of points [B, S, S, 3] where valid [B, S, S, 1]."""
    places = np.arange(points.shape[1])
    before, behind = np.maximum(places - 1, 0), np.minimum(places + 1, places[-1])
    known, differences = valid, []
    for axis in (1, 2):
        first, second = (tf.gather(points, place, axis=axis) for place in (before, behind))
        differences.append(second - first)
        for place in (before, behind):
            known *= tf.gather(valid, place, axis=axis)
    normal = tf.linalg.cross(*differences)
    length = tf.sqrt(tf.reduce_sum(normal**2, axis=-1, keepdims=True) + 1e-18)
    return normal / length * known


def plain_form(network: DualGridNet) -> DualGridNet:
    """A network of the same weights and outputs, as the formulas read; batch norms stay apart.

    Raises:
        ValueError: its scale is not Umeyama's, the one form that stands here.
    """
    config, template = network.config, network.template
    if config.scale != "umeyama":
        raise ValueError(f"the plain form knows the scale umeyama, not {config.scale!r}.")
    plain: Any = PlainNetwork(template, config)  # of other layers; none of these has weights
    plain.extension = PlainExtension(
        template.grid_size, config.kernel, config.sigma, config.normalise_extension
    )
    plain.sampling = PlainSampling(template, config.kernel, config.sigma)
    plain.similarity_fit = PlainSimilarityFit(template)
    plain.skinning = PlainSkinning(template)
    plain(plain.example_inputs())
    plain.set_weights(network.get_weights())
    plain.confidence_model = network.confidence_model
    return plain
