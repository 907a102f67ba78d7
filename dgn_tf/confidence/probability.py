"""Confidence that means something: the probability that a point lies within 10 mm of the truth.

A logistic regression on what the networks know of a vertex: how much of the depth map reached its
cells, how far the refit moved it, whether the camera sees it and how near the measured surface
lies, how sure of palm and back and of the palm's direction the frame is, how rough and how blurred
its depth; and one offset a vertex, as finger tips are harder than palms.
`dgn_tf.calibrate_confidence` fits it on synthetic frames.
"""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.npz_file import read_fields, write_fields

WITHIN_MM = 10.0
FEATURES = (
    "occupancy",
    "agreement",
    "disparity",
    "measured",
    "before",
    "behind",
    "palm_direction",
    "layer",
    "pixels",
    "mean_disparity",
    "mean_residual",
    "scale_spread",
    "slopes",
    "roughness",
)
_SLOPE_MM = (6.0, 25.0)  # steps between pixels that blurred edges have, surfaces and edges seldom
_ROUGH_MM = 8.0  # second differences up to it are noise or curvature, beyond it edges
_NEIGHBOURS = 12  # vertices around a key point that speak for it
_RAW_SCALE_MM = 10.0  # |P_s - P_r| at which the uncalibrated confidence falls to 1/e


def features(outputs: dict, inputs: dict, occupancy) -> tf.Tensor:
    """What the confidence of each vertex follows from.

    Args:
        outputs: of the network: vertices, vertices_sampled, transforms, valid; palm_direction and
            layer_logits where it has them.
        inputs: of the network.
        occupancy: [B, V] of the vertices' cells.

    Returns:
        [B, V, 14], in the order of `FEATURES`.
    """
    depth = tf.cast(inputs["depth"], tf.float32)
    vertices, valid = outputs["vertices"], tf.cast(outputs["valid"], tf.float32)
    disparity = tf.norm(outputs["vertices_sampled"] - vertices, axis=-1)
    measured, behind = _against_depth(vertices, depth, valid, inputs["intrinsics"])
    pixels = tf.reduce_sum(valid, axis=[1, 2])
    size = float(depth.shape[1] * depth.shape[2])
    layer = tf.zeros_like(pixels)
    if "layer_logits" in outputs:
        layer = tf.reduce_sum(tf.abs(outputs["layer_logits"]) * valid, axis=[1, 2])
    direction = tf.zeros_like(pixels)
    if "palm_direction" in outputs:
        direction = tf.norm(outputs["palm_direction"], axis=-1)
    scales = tf.norm(outputs["transforms"][..., :3, 0], axis=-1)  # [B, P]
    frame = [
        direction,
        layer / tf.maximum(pixels, 1.0),
        pixels / size,
        tf.reduce_mean(disparity, axis=1) / 10.0,
        tf.reduce_mean(tf.abs(behind), axis=1) / 10.0,
        tf.math.reduce_std(scales, axis=1),
        *_texture(depth, valid),
    ]
    vertex = [
        tf.clip_by_value(occupancy, 0.0, 1.0),
        tf.exp(-disparity / _RAW_SCALE_MM),
        tf.minimum(disparity, 40.0) / 10.0,
        measured,
        tf.nn.relu(-behind) / 10.0,
        tf.nn.relu(behind) / 10.0,
    ]
    spread = [tf.tile(value[:, tf.newaxis], [1, vertices.shape[1]]) for value in frame]
    # Stacked row by row and turned: many times faster than number by number.
    return tf.linalg.matrix_transpose(tf.stack([*vertex, *spread], axis=1))


def _against_depth(vertices, depth, valid, intrinsics):
    """Whether the pixel on which a vertex falls was measured [B, V], and how far behind the
    measurement the vertex lies, -30 to 60 mm, 0 where there is none."""
    size = depth.shape[1]
    z = tf.maximum(vertices[..., 2:], 1.0)
    intrinsics = intrinsics[:, tf.newaxis]
    place = vertices[..., :2] / z * intrinsics[..., :2] + intrinsics[..., 2:]
    place = tf.cast(tf.clip_by_value(tf.round(place), 0.0, size - 1.0), tf.int32)
    index = place[..., 1] * size + place[..., 0]
    flat = [-1, size * size]
    measured = tf.gather(tf.reshape(valid, flat), index, batch_dims=1)
    away = vertices[..., 2] - tf.gather(tf.reshape(depth * valid, flat), index, batch_dims=1)
    return measured, tf.clip_by_value(away, -30.0, 60.0) * measured


def _texture(depth, valid):
    """Of the frame, [B] each: the share of the steps beside measured pixels that are as small as
    those of a blurred edge, which tells of stereo's windows, and the logarithm of the mean second
    difference, which tells of noise. Along rows; columns tell the same."""
    known = tf.cast(depth > 0, tf.float32)
    pairs = known[:, :, 1:] * known[:, :, :-1] * tf.maximum(valid[:, :, 1:], valid[:, :, :-1])
    first = tf.abs(depth[:, :, 1:] - depth[:, :, :-1])
    edges = pairs * tf.cast(first > _SLOPE_MM[0], tf.float32)
    slopes = edges * tf.cast(first < _SLOPE_MM[1], tf.float32)
    second = tf.abs(depth[:, :, 2:] - 2 * depth[:, :, 1:-1] + depth[:, :, :-2])
    threes = pairs[:, :, 1:] * pairs[:, :, :-1] * tf.cast(second < _ROUGH_MM, tf.float32)

    def share(part, whole):
        return tf.reduce_sum(part, axis=[1, 2]) / (tf.reduce_sum(whole, axis=[1, 2]) + 1.0)

    rough = share(tf.minimum(second, _ROUGH_MM) * threes, threes)
    return share(slopes, edges), tf.math.log(rough + 0.05)


def raw_confidence(outputs: dict, occupancy) -> tf.Tensor:
    """[B, V] 0 to 1, uncalibrated: the cells' occupancy times exp(-|P_s - P_r| / 10 mm)."""
    disparity = tf.norm(outputs["vertices_sampled"] - outputs["vertices"], axis=-1)
    return tf.clip_by_value(occupancy, 0.0, 1.0) * tf.exp(-disparity / _RAW_SCALE_MM)


def keypoint_neighbours(template) -> np.ndarray:
    """[J, V] float32, rows sum to 1: the vertices that speak for each key point, at rest."""
    away = np.linalg.norm(
        np.asarray(template.keypoints)[:, np.newaxis] - np.asarray(template.vertices), axis=-1
    )
    count = min(_NEIGHBOURS, away.shape[1])
    nearest = np.argpartition(away, count - 1, axis=1)[:, :count]
    matrix = np.zeros(away.shape, np.float32)
    np.put_along_axis(matrix, nearest, 1.0 / count, axis=1)
    return matrix


@dataclasses.dataclass(frozen=True, eq=False)
class ConfidenceModel:
    """From features to probabilities.

    Attributes:
        weights: [14] of `FEATURES`.
        bias: [V].
        keypoint_weight: of the mean logit of a key point's vertices.
        keypoint_bias: [J].
        weights_sha256: hex, of the network's weights.h5 that it was fitted to.
    """

    weights: np.ndarray
    bias: np.ndarray
    keypoint_weight: float
    keypoint_bias: np.ndarray
    weights_sha256: str

    def __call__(self, seen, neighbours) -> dict[str, tf.Tensor]:
        """confidence [B, V] and keypoint_confidence [B, J] of features [B, V, 14]."""
        logits = tf.reduce_sum(seen * self.weights.astype(np.float32), axis=-1)
        logits += self.bias.astype(np.float32)
        near = tf.matmul(logits, neighbours, transpose_b=True)
        keypoints = self.keypoint_weight * near + self.keypoint_bias.astype(np.float32)
        return {"confidence": tf.sigmoid(logits), "keypoint_confidence": tf.sigmoid(keypoints)}

    def save(self, file: str | os.PathLike) -> None:
        """Writes an .npz, beside, then renamed."""
        write_fields(self, file)

    @classmethod
    def load(cls, file, weights_sha256: str, vertices: int, keypoints: int) -> "ConfidenceModel":
        """Reads it for a network of that hash and those numbers.

        Raises:
            InputError: damaged, of other sizes, or of other weights.
        """
        values: dict = read_fields(cls, file, _REMEDY)
        # Files from before the last two features were there say nothing of them.
        missing = len(FEATURES) - len(np.atleast_1d(values["weights"]))
        if values["weights"].ndim == 1 and missing == 2:
            values["weights"] = np.pad(values["weights"], (0, missing))
        shapes = {"weights": (len(FEATURES),), "bias": (vertices,), "keypoint_bias": (keypoints,)}
        if any(values[name].shape != shape for name, shape in shapes.items()):
            raise InputError(f"{file} is of another hand or version: {_REMEDY}.")
        values["keypoint_weight"] = float(values["keypoint_weight"])
        values["weights_sha256"] = str(values["weights_sha256"])
        if values["weights_sha256"] != weights_sha256:
            raise InputError(f"{file} was fitted to other weights: {_REMEDY}.")
        return cls(**values)


_REMEDY = "python -m dgn_tf.calibrate_confidence makes it anew; without the file it is uncalibrated"
