"""Dual Grid Net: a depth crop in, every output of the paper out (Sec. 3, Fig. 2)."""

import dataclasses
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from dgn_tf.confidence import probability
from dgn_tf.geometry import camera as crop_geometry
from dgn_tf.geometry import kinematics, mesh_grid, upright
from dgn_tf.geometry.camera import pixel_normals
from dgn_tf.layers import (
    DepthToSpace,
    Extension,
    Hourglass,
    PalmDirection,
    Sampling,
    SimilarityFit,
    Skinning,
    SpaceToDepth,
)
from dgn_tf.network_config import NetworkConfig
from dgn_tf.template import HandTemplate

# Outputs of order one are multiplied by these, cells and cube units. Adam moves every weight of
# a head by the learning rate: larger factors turn each step into a jump of many mm.
COORDS_SCALE, POINTS_SCALE = 2.0, 0.3


@keras.utils.register_keras_serializable("dgn_tf")
class DualGridNet(keras.Model):
    """Depth crop to correspondences, vertices, part transforms and key points.

    Call arguments (one dict):
        depth: [B, S, S] mm, 0 where nothing was measured; S is `config.image_size`.
        intrinsics: [B, 4] (fx, fy, cx, cy) of the crop, in its pixels.
        centre: [B, 3] centre of the cube, mm, camera frame.
        cube: [B] side of the cube, mm.

    Returns a dict, everything in mm in the camera frame and float32:
        mesh_coords: [B, S, S, 2] I_m: column and row in cells of the mesh grid.
        mesh_layer: [B, S, S] probability of layer 1 (templates with two layers alone).
        layer_logits: [B, S, S] its logit, for the loss.
        valid: [B, S, S] bool, measured and inside the cube.
        coordinate_map: [B, G, G, 3 L] J_o, mm relative to `centre`.
        vertices_sampled: [B, V, 3] P_s.
        transforms: [B, P, 4, 4] T of Eq. 3, camera_from_template.
        vertices: [B, V, 3] P_r.
        keypoints: [B, J, 3].
        joint_angles: [B, P, 3] rad, about the bone frame's x, y, z (R = Rx Ry Rz).
        occupancy: [B, V] how much of the depth map reached a vertex's cells.
        confidence: [B, V] in 0..1: probability of lying within 10 mm of the truth where
            `confidence_model` is set, else uncalibrated (`dgn_tf.confidence`).
        keypoint_confidence: [B, J] likewise.
        palm_direction: [B, 2] x and y of the palm's axis, seen along the ray through the
            centre, see `PalmDirection` (with `config.upright` alone).
    """

    def __init__(
        self, template: HandTemplate | dict, config: NetworkConfig | dict | None = None, **kwargs
    ):
        # Its own arithmetic is geometry in mm: float32, whatever its networks' convolutions have.
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.template = HandTemplate.from_config(template)
        config = config or NetworkConfig()
        self.config = NetworkConfig(**config) if isinstance(config, dict) else config
        config = self.config
        layers = self.template.num_layers
        self._correspondence_channels = 2 + (layers - 1)
        grid = self.template.grid_size

        self.palm_direction = (
            PalmDirection(activation=config.activation) if config.upright else None
        )
        self.image_shuffle = SpaceToDepth(config.shuffle)
        self.image_hourglass = Hourglass(
            config.image_channels, config.blocks, config.block, config.norm, config.activation
        )
        pixels = config.shuffle**2
        self.correspondence_head = _head(self._correspondence_channels * pixels)
        # With stride 2 the features stay on the shuffled grid: one vector a 2x2 block.
        per_cell = pixels if config.extension_stride == 1 else 1
        self.feature_head = keras.layers.Conv2D(config.features * per_cell, 1)
        self.image_unshuffle = DepthToSpace(config.shuffle)
        self.extension = Extension(
            grid, config.kernel, config.sigma, normalise=config.normalise_extension
        )
        self.mesh_shuffle = SpaceToDepth(config.shuffle)
        self.mesh_hourglass = Hourglass(
            config.mesh_channels, config.blocks, config.block, config.mesh_norm, config.activation
        )
        self.coordinate_head = _head(3 * layers * config.shuffle**2)
        self.mesh_unshuffle = DepthToSpace(config.shuffle)
        self.sampling = Sampling(self.template, config.kernel, config.sigma)
        self.similarity_fit = SimilarityFit(self.template, scale=config.scale)
        self.skinning = Skinning(self.template)
        # Set by whoever loads a calibrated model; it has no part in training.
        self.confidence_model: probability.ConfidenceModel | None = None
        self._neighbours = probability.keypoint_neighbours(self.template)
        self._rest_map = (
            rest_coordinate_map(self.template, config.kernel, config.sigma)
            if config.rest_map
            else None
        )

    @tf.autograph.experimental.do_not_convert  # no control flow of Python: traced in half the time
    def call(self, inputs, training=None):
        mask, seen, view_from_camera = self.pixel_inputs(inputs)
        seen, view = self.canonicalise(seen, view_from_camera, training)
        correspondences, features = self.image_network(seen, training)
        extended = self.extend(correspondences, features, seen)
        coordinate_map = self.mesh_network(extended, training)
        return self.decode(inputs, mask, correspondences, extended[..., -1], coordinate_map, view)

    def decode(self, inputs, mask, correspondences, occupancy, coordinate_map, view):
        """All outputs of `call` from what the networks say: sampling, Eq. 3, skinning.

        Args:
            inputs: of `call`.
            mask: [B, S, S] of the pixels.
            correspondences: [B, S, S, 2 + L - 1] of `image_network`.
            occupancy: [B, G, G] of `extend`.
            coordinate_map: [B, G, G, 3 L] of `mesh_network`.
            view: `View` or None.
        """
        centre = tf.cast(inputs["centre"], tf.float32)
        half_cube = tf.cast(inputs["cube"], tf.float32)[:, tf.newaxis, tf.newaxis] / 2
        outputs = {"valid": mask > 0.5}
        sampled = self.sampling(coordinate_map)
        if view is not None:
            outputs["palm_direction"] = view.palm_direction
            correspondences = _turned(correspondences, view.crop_from_turned)
            coordinate_map = _rotate_map(coordinate_map, view.camera_from_view)
            sampled = upright.rotate(sampled, view.camera_from_view)
        outputs["mesh_coords"] = correspondences[..., :2]
        if self._correspondence_channels == 3:
            outputs["layer_logits"] = correspondences[..., 2]
            outputs["mesh_layer"] = tf.sigmoid(correspondences[..., 2])
        sampled = sampled * half_cube + centre[:, tf.newaxis]
        outputs |= self.refine(sampled)
        outputs["coordinate_map"] = coordinate_map * half_cube[..., tf.newaxis]
        outputs["occupancy"] = self.sampling.occupancy(occupancy)
        return outputs | self.confidence(outputs, inputs)

    def confidence(self, outputs, inputs):
        """confidence [B, V] and keypoint_confidence [B, J] of the other outputs."""
        if self.confidence_model is not None:
            return self.confidence_model(
                self.confidence_features(outputs, inputs), self._neighbours
            )
        raw = probability.raw_confidence(outputs, outputs["occupancy"])
        keypoints = tf.matmul(raw, self._neighbours, transpose_b=True)
        return {"confidence": raw, "keypoint_confidence": keypoints}

    def confidence_features(self, outputs, inputs):
        """[B, V, 14] what `confidence_model` is given, see `probability.features`."""
        return probability.features(outputs, inputs, outputs["occupancy"])

    def canonical_pixels(self, pixels, centre, training=None):
        """What the image network gets: points, mask and normals, upright where that is wanted.

        Args:
            pixels: [B, S, S, 4] x, y, z in cube units, mask.
            centre: [B, 3] centre of the cube, mm, camera frame.

        Returns:
            [B, S, S, 4] or, with normals, [B, S, S, 7]; and the `View` in which it is seen, None
            without `config.upright`.
        """
        planes = tf.transpose(pixels * pixels[..., 3:], [0, 3, 1, 2])
        seen, view_from_camera = self._straight(planes, centre)
        return self.canonicalise(seen, view_from_camera, training)

    def pixel_inputs(self, inputs):
        """What is known of the pixels before any network.

        Returns:
            [B, S, S] mask; [B, S, S, 4] x, y, z in cube units and mask, with normals where these
            are wanted [B, S, S, 7], seen straight on; and the rotation that did that, [B, 3, 3],
            or None.
        """
        centre = tf.cast(inputs["centre"], tf.float32)
        planes = crop_geometry.crop_planes(
            inputs["depth"], inputs["intrinsics"], centre, inputs["cube"]
        )
        return planes[:, 3], *self._straight(planes, centre)

    def _straight(self, planes, centre):
        """From [B, 4, S, S] of `crop_planes` to what `pixel_inputs` returns."""
        parts = [planes, pixel_normals(planes)] if self.config.normals else [planes]
        parts.append(1 - planes[:, 3:])  # background
        channels, size = 7 if self.config.normals else 4, planes.shape[2]
        view_from_camera, matrix = None, tf.eye(channels)
        if self.palm_direction is not None:
            view_from_camera = upright.view_from_camera(centre)
            matrix = upright.pixel_rotation(view_from_camera, channels)
        # A last row: background lies at z = 1, however the hand is seen.
        last = np.eye(channels, dtype=np.float32)[2] * np.eye(channels + 1, dtype=np.float32)[-1:].T
        matrix = tf.pad(matrix, [*[[0, 0]] * (len(matrix.shape) - 2), [0, 1], [0, 0]]) + last
        flat = tf.reshape(tf.concat(parts, axis=1), [-1, channels + 1, size * size])
        seen = tf.matmul(flat, matrix, transpose_a=True)  # [B, S * S, channels]
        return tf.reshape(seen, [-1, size, size, channels]), view_from_camera

    def canonicalise(self, seen, view_from_camera, training=None):
        """Turns `pixel_inputs` so that the palm points up; nothing without `config.upright`."""
        if self.palm_direction is None:
            return seen, None
        return self.canonical_view(
            seen, self.palm_direction(seen, training=training), view_from_camera
        )

    def canonical_view(self, seen, direction, view_from_camera):
        """`seen` of `pixel_inputs` turned by the palm's direction [B, 2], and the `View`."""
        # The lookup has no gradient, so the direction learns by its own loss alone.
        turned_from_crop = upright.rotation_to_upright(tf.stop_gradient(direction))
        size, channels = self.config.image_size, seen.shape[-1]
        index, inside = upright.turned_lookup(turned_from_crop, size)
        turn = upright.about_view(turned_from_crop)
        # Background stays what it is when it is turned about z.
        seen = upright.look_up(seen, index, inside, _background(channels))
        seen = tf.matmul(
            tf.reshape(seen, [-1, size * size, channels]), upright.pixel_rotation(turn, channels)
        )
        return tf.reshape(seen, [-1, size, size, channels]), View(
            direction,
            tf.linalg.matrix_transpose(turned_from_crop),
            tf.matmul(view_from_camera, turn, transpose_a=True, transpose_b=True),
        )

    def image_network(self, seen, training=None):
        """I_m and I_f from the pixels of `canonical_pixels` (Sec. 3.2).

        Returns:
            [B, S, S, 2 + L - 1] mesh coordinates in cells and the layer's logit, and the
            features, [B, S, S, F] or with stride 2 [B, S/2, S/2, F].
        """
        if not self.config.points:
            seen = tf.concat([seen[..., 2:3], seen[..., 4:]], axis=-1)
        hidden = self.image_hourglass(self.image_shuffle(seen), training=training)
        correspondences = self.correspondence_head(hidden)
        # Before the shuffle, where a cell has enough channels to go fast.
        middle, layers = (self.template.grid_size - 1) / 2, self._correspondence_channels - 2
        scale = np.array([COORDS_SCALE] * 2 + [1] * layers, np.float32)
        offset = np.array([middle] * 2 + [0] * layers, np.float32)
        pixels = self.config.shuffle**2
        correspondences = correspondences * np.tile(scale, pixels) + np.tile(offset, pixels)
        correspondences = self.image_unshuffle(correspondences)
        features = self.feature_head(hidden)
        if self.config.extension_stride == 1:
            features = self.image_unshuffle(features)
        return correspondences, tf.cast(features, tf.float32)

    def extend(self, coords, features, pixels):
        """Extension (Eq. 1, 2): [B, G, G, F + 1], the occupancy last.

        Of `coords` [B, S, S, 2 or more] the first two channels count.
        """
        if self.config.extension_stride == 2:
            index = _nearest_of_blocks(pixels)
            half = self.config.image_size // 2
            coords, pixels = (
                tf.reshape(
                    tf.gather(
                        tf.reshape(values, [-1, 4 * half * half, values.shape[-1]]),
                        index,
                        batch_dims=1,
                    ),
                    [-1, half, half, values.shape[-1]],
                )
                for values in (coords, pixels)
            )
        if self.config.points:
            features = tf.concat([features, pixels[..., :3]], axis=-1)
        return self.extension(coords[..., :2], features, pixels[..., 3])

    def mesh_network(self, extended, training=None):
        """J_o in cube units, [B, G, G, 3 L], from the extended features (Sec. 3.3)."""
        if self._rest_map is not None:
            rest = tf.tile(self._rest_map[np.newaxis], [tf.shape(extended)[0], 1, 1, 1])
            extended = tf.concat([extended, rest], axis=-1)
        hidden = self.mesh_hourglass(self.mesh_shuffle(extended), training=training)
        return self.mesh_unshuffle(self.coordinate_head(hidden)) * POINTS_SCALE

    def refine(self, sampled):
        """Eq. 3 and skinning (Sec. 3.4): what follows from P_s, `sampled` [B, V, 3] mm."""
        transforms = self.similarity_fit(sampled)
        return {
            "vertices_sampled": sampled,
            "transforms": transforms,
            "vertices": self.skinning(transforms),
            "keypoints": self.skinning.keypoints(transforms),
            "joint_angles": kinematics.joint_angles(
                transforms, self.template.bone_from_template, self.template.parents
            ),
        }

    def example_inputs(self, batch_size: int = 1) -> dict[str, tf.Tensor]:
        """A batch of empty crops: builds the weights and traces signatures."""
        size = self.config.image_size
        middle = (size - 1) / 2
        return {
            "depth": tf.zeros([batch_size, size, size]),
            "intrinsics": tf.tile([[128.0, 128.0, middle, middle]], [batch_size, 1]),
            "centre": tf.tile([[0.0, 0.0, 600.0]], [batch_size, 1]),
            "cube": tf.fill([batch_size], 300.0),
        }

    def get_config(self):
        return {
            **super().get_config(),
            "template": self.template.to_config(),
            "config": dataclasses.asdict(self.config),
        }


def _head(channels):
    """A linear output that begins near zero: at the grid's and the cube's middle."""
    start = keras.initializers.TruncatedNormal(stddev=0.01)
    return keras.layers.Conv2D(channels, 1, kernel_initializer=start, dtype="float32")


class View(NamedTuple):
    """How the networks see a crop (`geometry.upright`)."""

    palm_direction: tf.Tensor  # [B, 2]
    crop_from_turned: tf.Tensor  # [B, 2, 2] of the pixels
    camera_from_view: tf.Tensor  # [B, 3, 3] of points and normals


def _background(channels):
    """A pixel without a measurement, [4 or 7]."""
    return tf.constant([0.0, 0.0, 1.0] + [0.0] * (channels - 3))


def _turned(pixels, rotation):
    """Turns [B, S, S, C] about the middle; what comes from beyond the border is the border's."""
    index, _ = upright.turned_lookup(rotation, pixels.shape[1])
    return upright.look_up(pixels, index)


def _rotate_map(coordinate_map, rotation):
    """Rotates every point of J_o, [B, G, G, 3 L]."""
    points = tf.reshape(coordinate_map, [tf.shape(coordinate_map)[0], -1, 3])
    return tf.reshape(upright.rotate(points, rotation), tf.shape(coordinate_map))


def _nearest_of_blocks(pixels):
    """Of each 2x2 block, the measured pixel nearest to the camera.

    The nearest is a hand pixel wherever the block has one; averages would mix fingers.

    Args:
        pixels: [B, S, S, 4 or 7] x, y, z in cube units, mask, ...

    Returns:
        [B, S/2 * S/2] int32 index of it among the S * S pixels.
    """
    size = pixels.shape[1]
    away = pixels[..., 2] - 4 * pixels[..., 3]  # background behind all that was measured
    blocks = tf.transpose(tf.reshape(away, [-1, size // 2, 2, size // 2, 2]), [0, 1, 3, 2, 4])
    blocks = tf.reshape(blocks, [-1, size // 2, size // 2, 4])
    nearest = tf.argmin(blocks, axis=-1, output_type=tf.int32)
    corners = np.arange(size * size, dtype=np.int32).reshape(size, size)[::2, ::2]
    index = corners + tf.gather(np.array([0, 1, size, size + 1], np.int32), nearest)
    return tf.reshape(index, [-1, (size // 2) ** 2])


def rest_coordinate_map(template: HandTemplate, kernel: int, sigma: float) -> np.ndarray:
    """The coordinate map J_o that samples to the template at rest, [G, G, 3 L].

    Ridge regression through the sampling weights; in units of the template's largest
    half extent, about the middle of its bounding box.
    """
    grid, layers = template.grid_size, template.num_layers
    matrix = mesh_grid.sampling_matrix(template.mesh_coords, grid, kernel, sigma)  # [V, G*G]
    low, high = template.vertices.min(axis=0), template.vertices.max(axis=0)
    rest = (template.vertices - (low + high) / 2) / ((high - low).max() / 2)
    maps = []
    for layer in range(layers):
        here = template.vertex_layer == layer
        rows = np.asarray(matrix)[here].astype(np.float64)
        gram = rows.T @ rows + 1e-3 * np.eye(grid * grid)
        maps.append(np.linalg.solve(gram, rows.T @ rest[here]))
    # Rounded, so that the map does not depend on the machine's linear algebra.
    stacked = np.concatenate(maps, axis=-1).reshape(grid, grid, 3 * layers)
    return np.round(stacked, 4).astype(np.float32)
