"""What a network and a camera say of each frame, as the fit wants it: of crops or of meshes."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.losses import data_terms
from dgn_tf.losses.energy import wrist_of
from dgn_tf.network_config import NETWORK_INPUTS

PIXELS = 160  # of a frame that are matched, at most
_WRIST_MARGIN_MM = 10.0  # pixels farther beyond the estimated wrist are the forearm's
_NEAR_MM = 30.0  # pixels farther from the estimated hand are the background's
_MIRROR = np.array([-1, 1, 1], np.float32)


class SeenFrames(NamedTuple):
    """N frames; float32 but where said, mm, camera frame.

    transforms: [N, P, 4, 4] T of the network.
    sampled: [N, V, 3] its P_s.
    points: [N, K, 3] pixels of the hand; counted: [N, K] bool, those that count.
    vertex: [N, K] int32 their correspondences, see `data_terms.corresponding_vertex`.
    depth: [N, S, S] of the crop, 0 where nothing was measured; intrinsics: [N, 4] of the crop.
    confidence: [N] mean of the network's.
    """

    transforms: np.ndarray
    sampled: np.ndarray
    points: np.ndarray
    counted: np.ndarray
    vertex: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    confidence: np.ndarray

    def rows(self, chosen) -> "SeenFrames":
        """The frames of a slice, of a mask or of indices."""
        return SeenFrames(*(values[chosen] for values in self))


class HandReader:
    """Keeps of a network's outputs what the fit wants.

    Args:
        template: HandTemplate of the network.
    """

    def __init__(self, template):
        self._template = template
        self._wrist = wrist_of(template)

    def __call__(self, outputs: dict, depth, intrinsics) -> SeenFrames:
        """Of B frames; tensors.

        Args:
            outputs: valid, transforms, vertices, vertices_sampled, mesh_coords, confidence and,
                with two layers, mesh_layer, as `DualGridNet` gives them.
            depth: [B, S, S] mm of the crops.
            intrinsics: [B, 4] of the crops.
        """

        def of_hand(points):
            root = outputs["transforms"][:, 0]
            mask = data_terms.before_wrist(points, root, *self._wrist, _WRIST_MARGIN_MM)
            return mask & _near(points, outputs["vertices"])

        pixels = data_terms.hand_pixels(outputs, depth, intrinsics, PIXELS, of_hand)
        return SeenFrames(
            outputs["transforms"],
            outputs["vertices_sampled"],
            pixels.points,
            pixels.counted,
            data_terms.corresponding_vertex(pixels.coords, pixels.layer, self._template),
            tf.where(outputs["valid"], depth, tf.zeros_like(depth)),
            intrinsics,
            tf.reduce_mean(outputs["confidence"], axis=1),
        )


class FrameReader:
    """Runs a network on crops and keeps what the fit wants of it.

    Args:
        network: built `DualGridNet`.
    """

    def __init__(self, network):
        read = HandReader(network.template)

        @tf.function(reduce_retracing=True)
        def run(inputs):
            outputs = network(inputs, training=False)
            return read(outputs, inputs["depth"], inputs["intrinsics"])

        self._run = run

    def __call__(self, batch) -> SeenFrames:
        """`batch` has at least the network's inputs, of B frames."""
        inputs = {name: tf.convert_to_tensor(batch[name]) for name in NETWORK_INPUTS}
        return SeenFrames(*(value.numpy() for value in self._run(inputs)))


def _near(points, vertices):
    """[B, N] bool: points within `_NEAR_MM` of every eighth vertex or so [B, V, 3]."""
    few = vertices[:, ::8]
    index = data_terms.nearest_vertex(points, few, tf.ones(tf.shape(few)[:2], tf.bool))
    nearest = tf.gather(few, index, axis=1, batch_dims=1)
    return tf.reduce_sum((points - nearest) ** 2, axis=-1) < _NEAR_MM**2


def joined(several: list[SeenFrames]) -> SeenFrames:
    """All frames of several batches, in order."""
    return SeenFrames(*(np.concatenate(values) for values in zip(*several, strict=True)))


class MeshReader:
    """From a predicted mesh and its frame to `SeenFrames` of one, a right hand's.

    Args:
        template: HandTemplate of the model.
    """

    def __init__(self, template):
        self._read = HandReader(template)

    def __call__(self, mesh, depth_mm, intrinsics) -> SeenFrames:
        """`mesh` is a HandMesh of a frame [H, W] mm with intrinsics [4]; left ones are mirrored."""
        outputs = {
            name: getattr(mesh, name)
            for name in (
                "transforms",
                "vertices",
                "vertices_sampled",
                "confidence",
                "valid",
                "mesh_coords",
            )
        }
        if mesh.num_layers > 1:
            outputs["mesh_layer"] = mesh.mesh_layer
        depth = crop_depth(mesh, depth_mm, intrinsics)
        camera = np.array(mesh.crop_intrinsics, np.float32)
        if mesh.hand == "left":
            outputs = turned(outputs)
            depth, camera[2] = depth[:, ::-1], depth.shape[1] - 1 - camera[2]
        outputs = {
            name: tf.constant(np.array(value)[np.newaxis]) for name, value in outputs.items()
        }
        seen = self._read(outputs, tf.constant(np.array(depth)[np.newaxis]), camera[np.newaxis])
        return SeenFrames(*(np.asarray(value) for value in seen))


def turned(values: dict) -> dict:
    """A hand in the mirror that the x axis goes through: fields of `HandMesh` by name.

    Points and transforms change sign, pictures of the crop their columns; angles and confidence
    are those of the hand in the mirror.
    """
    ends = np.array([-1, 1, 1, 1], np.float32)
    result = dict(values)
    for name, value in values.items():
        if name in ("vertices", "vertices_sampled", "keypoints"):
            result[name] = value * _MIRROR
        elif name == "transforms":
            result[name] = value * ends[:, np.newaxis] * ends
        elif name in ("valid", "mesh_coords", "mesh_layer"):
            result[name] = value[:, ::-1]
    return result


def crop_depth(mesh, depth_mm, intrinsics) -> np.ndarray:
    """[S, S] mm of the frame [H, W] at the crop's valid pixels, 0 elsewhere."""
    size = mesh.valid.shape[0]
    rows, columns = np.mgrid[:size, :size]
    fx, fy, cx, cy = mesh.crop_intrinsics
    height, width = depth_mm.shape
    u = np.rint((columns - cx) / fx * intrinsics[0] + intrinsics[2])
    v = np.rint((rows - cy) / fy * intrinsics[1] + intrinsics[3])
    inside = mesh.valid & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    u, v = np.where(inside, u, 0).astype(int), np.where(inside, v, 0).astype(int)
    return np.where(inside, depth_mm[v, u], 0).astype(np.float32)
