"""What a fit to key points needs of a template, and how its parameters pose the key points."""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.geometry.kinematics import affine, global_from_local, rotation_from_angles, scales

# Where a finger's own scale begins. Metacarpals, the thumb's among them, keep the palm's: NYU's
# labels are those of a hand that is scaled so.
SCALED_PARTS = ("thumb2", "index1", "middle1", "ring1", "little1")


class Pose(NamedTuple):
    """Parameters of N hands; float64.

    root: [N, 4, 4] camera_from_template of the root, a similarity, mm.
    angles: [N, P, 3] joint angles in the bones' frames, rad; the root's are 0.
    log_scales: [N, S] logarithm of each scaled part's scale, relative to its parent's.
    """

    root: tf.Tensor
    angles: tf.Tensor
    log_scales: tf.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class KeypointRig:
    """A template's skeleton and key points; constants, float64.

    Attributes:
        part_names: P names; parents: [P], they precede their children.
        bone_from_template: [P, 4, 4] rigid, mm.
        joint_limits: [P, 3, 2] rad.
        keypoints: [J, 3] mm at rest; weights: [J, P] of the parts, rows sum to 1.
        scaled: [S] parts that have a scale of their own.
    """

    part_names: tuple[str, ...]
    parents: np.ndarray
    bone_from_template: np.ndarray
    joint_limits: np.ndarray
    keypoints: np.ndarray
    weights: np.ndarray
    scaled: np.ndarray

    @classmethod
    @functools.lru_cache(maxsize=8)
    def of(
        cls, template, keypoint_names: tuple[str, ...] = (), finger_scales: bool = True
    ) -> "KeypointRig":
        """The rig of a HandTemplate and of its key points that are named, in that order, or all."""
        names = list(template.keypoint_names)
        chosen = [names.index(name) for name in keypoint_names or names]
        weights = template.keypoint_weights[chosen].astype(np.float64)
        wanted = SCALED_PARTS if finger_scales else ()
        return cls(
            template.part_names,
            np.asarray(template.parents),
            template.bone_from_template.astype(np.float64),
            template.joint_limits.astype(np.float64),
            template.keypoints[chosen].astype(np.float64),
            weights / weights.sum(axis=1, keepdims=True),
            np.array([p for p, name in enumerate(template.part_names) if name in wanted], np.int32),
        )

    @property
    def joints(self) -> np.ndarray:
        """[P, 3] mm, joint origins at rest."""
        linear, offset = self.bone_from_template[:, :3, :3], self.bone_from_template[:, :3, 3]
        return -np.einsum("pji,pj->pi", linear, offset)

    @property
    def below(self) -> np.ndarray:
        """[P, P] float64: 1 where the first part moves the second, itself included."""
        moves = np.eye(len(self.parents))
        for part in range(1, len(self.parents)):
            moves[:, part] += moves[:, self.parents[part]]
        return np.minimum(moves, 1)

    @property
    def palm_keypoints(self) -> np.ndarray:
        """Indices of the key points that the root alone carries."""
        return np.flatnonzero(self.weights[:, 0] > 0.99)

    def own_keypoints(self, part: int) -> np.ndarray:
        """Indices of the key points that `part` carries."""
        return np.flatnonzero(self.weights[:, part] > 0.5)

    def finger_of_scale(self) -> list[np.ndarray]:
        """For each scaled part, the parts that have its scale."""
        return [np.flatnonzero(self.below[part]) for part in self.scaled]

    def transforms(self, pose: Pose) -> tf.Tensor:
        """[N, P, 4, 4] camera_from_template of all parts, mm (Eq. 12)."""
        rotation = rotation_from_angles(pose.angles)  # [N, P, 3, 3]
        spread = np.zeros([len(self.scaled), len(self.parents)])
        spread[np.arange(len(self.scaled)), self.scaled] = 1
        factor = tf.exp(pose.log_scales @ tf.constant(spread))  # [N, P]
        linear = rotation * factor[..., tf.newaxis, tf.newaxis]
        local = affine(linear, tf.zeros_like(linear[..., :1]))
        bone = self.bone_from_template[0]
        root = tf.constant(bone) @ pose.root @ tf.constant(np.linalg.inv(bone))
        local = tf.concat([root[:, tf.newaxis], local[:, 1:]], axis=1)
        return global_from_local(local, self.bone_from_template, self.parents)

    def posed_by_part(self, transforms: tf.Tensor) -> tf.Tensor:
        """[N, P, J, 3] mm: where each part would carry each key point."""
        rotated = tf.einsum("npik,jk->npji", transforms[..., :3, :3], tf.constant(self.keypoints))
        return rotated + transforms[:, :, tf.newaxis, :3, 3]

    def posed_keypoints(self, transforms: tf.Tensor) -> tf.Tensor:
        """[N, J, 3] mm: key points as `transforms` [N, P, 4, 4] carry them."""
        return tf.einsum("npji,jp->nji", self.posed_by_part(transforms), tf.constant(self.weights))

    def axes(self, transforms: tf.Tensor, angles: tf.Tensor) -> tf.Tensor:
        """[N, P, 3, 3]: rows are the camera-frame axes about which x, y, z of R = Rx Ry Rz turn."""
        linear = transforms[..., :3, :3] / scales(transforms)[..., tf.newaxis, tf.newaxis]
        above = tf.gather(linear, self.parents, axis=1)
        frame = above @ tf.constant(np.swapaxes(self.bone_from_template[:, :3, :3], -1, -2))
        zero = tf.zeros_like(angles[..., 0])
        about_x = rotation_from_angles(tf.stack([angles[..., 0], zero, zero], axis=-1))
        about_xy = rotation_from_angles(tf.stack([angles[..., 0], angles[..., 1], zero], axis=-1))
        columns = [frame[..., 0], (frame @ about_x)[..., 1], (frame @ about_xy)[..., 2]]
        return tf.stack(columns, axis=-2)
