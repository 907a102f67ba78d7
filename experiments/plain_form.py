"""`DualGridNet` as the paper's formulas read, written without a thought for speed.

What `dgn_tf` computes by one-dimensional softmaxes, constant matrices, plain arithmetic and loops
over the pixels on the hand stands here as Eq. 1, 2 and 3 say it: the reference that the shipped
form is held against, in its values and in its time. Weights are the same and load into both.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import crop as crop_geometry
from dgn_tf.geometry import upright
from dgn_tf.network import DualGridNet, View
from dgn_tf.template import HandTemplate


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


class PlainExtension:
    """Eq. 1 over every pixel and every cell: one [N, G*G] matrix of weights a frame."""

    def __init__(self, grid_size, kernel, sigma, normalise):
        self.grid_size, self.kernel, self.sigma = grid_size, kernel, sigma
        self.normalise = normalise

    def __call__(self, coords, features, mask):
        pixels, count, size = coords.shape[1] * coords.shape[2], features.shape[-1], self.grid_size
        coords = tf.reshape(coords, [-1, pixels, 2])
        features = tf.reshape(features, [-1, pixels, count])
        weights = window_weights(coords, size, self.kernel, self.sigma)
        weights *= tf.reshape(mask, [-1, pixels, 1])
        sums = tf.reshape(tf.einsum("bnc,bnf->bcf", weights, features), [-1, size, size, count])
        occupancy = tf.reshape(tf.reduce_sum(weights, axis=1), [-1, size, size, 1])
        if self.normalise:
            sums, occupancy = sums / (occupancy + 1e-3), tf.math.log(1.0 + occupancy)
        return tf.concat([sums, occupancy], axis=-1)


class PlainSampling:
    """Eq. 2 at the template's mesh coordinates, computed each time; a vertex reads its layer."""

    def __init__(self, template: HandTemplate, kernel, sigma):
        self.coords = np.asarray(template.mesh_coords, np.float32)
        self.layer = np.asarray(template.vertex_layer)[:, np.newaxis]
        self.grid_size, self.kernel, self.sigma = template.grid_size, kernel, sigma

    def _read(self, grid):
        weights = window_weights(self.coords[np.newaxis], self.grid_size, self.kernel, self.sigma)
        cells = tf.reshape(grid, [-1, self.grid_size**2, grid.shape[-1]])
        return tf.einsum("vc,bcf->bvf", weights[0], cells)

    def __call__(self, coordinate_map):
        sampled = self._read(coordinate_map)  # [B, V, 3 L]
        if sampled.shape[-1] == 3:
            return sampled
        return tf.where(self.layer == 0, sampled[..., :3], sampled[..., 3:])

    def occupancy(self, occupancy):
        return self._read(occupancy[..., tf.newaxis])[..., 0]


class PlainSimilarityFit:
    """Eq. 3 part by part with `tf.linalg.svd`; scale after Umeyama. [B, V, 3] -> [B, P, 4, 4]."""

    def __init__(self, template: HandTemplate):
        self.rest = np.asarray(template.vertices, np.float32)
        weights = np.asarray(template.skinning_weights, np.float64)
        self.weights = (weights / weights.sum(axis=0)).T.astype(np.float32)  # [P, V]

    def __call__(self, points):
        weights, rest = self.weights, self.rest
        mean = tf.einsum("pv,bvi->bpi", weights, points)
        rest_mean = weights @ rest  # [P, 3]
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


class PlainSkinning:
    """Linear blend skinning: every part poses every vertex, then the weights blend."""

    def __init__(self, template: HandTemplate):
        self.vertices = (template.vertices, template.skinning_weights)
        self._keypoints = (template.keypoints, template.keypoint_weights)

    def __call__(self, transforms):
        return _skin(transforms, *self.vertices)

    def keypoints(self, transforms):
        return _skin(transforms, *self._keypoints)


def _skin(transforms, rest, weights):
    rest = np.pad(np.asarray(rest, np.float32), [(0, 0), (0, 1)], constant_values=1)
    posed = tf.einsum("bpij,vj->bpvi", transforms[:, :, :3], rest)
    return tf.einsum("vp,bpvi->bvi", np.asarray(weights, np.float32), posed)


class PlainNetwork(DualGridNet):
    """The networks' view pixel by pixel; `plain_form` puts the plain layers in."""

    def look(self, inputs):
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

    def turn(self, seen, direction, view_from_camera):
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
    plain.calibration = network.calibration
    return plain
