"""What the joint fit wants, of meshes that a SavedModel has predicted."""

import numpy as np
import tensorflow as tf

from dgn_tf.calibration.frames import HandReader, SeenFrames

_MIRROR = np.array([-1, 1, 1], np.float32)


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
