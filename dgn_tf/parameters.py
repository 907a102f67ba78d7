"""A hand's pose as parameters: what its transforms say of each joint and bone."""

import dataclasses
import functools

import numpy as np
from scipy.spatial.transform import Rotation

from dgn_tf.errors import InputError
from dgn_tf.geometry.kinematics import angles_from_rotation
from dgn_tf.joint_angles import freedoms

MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


@dataclasses.dataclass(frozen=True, eq=False)
class HandParameters:
    """The motions L of Eq. (12), T = T_p B^-1 L B, taken apart; P parts, the palm first.

    Bone frames are the template's: origin at the joint, z along the bone before it; those of a left
    hand are its mirrored template's. The palm's L is the motion of the whole hand.

    Attributes:
        part_names: P names.
        hand: "right" or "left".
        global_rotation: [3, 3] of the palm: camera_from_template without its scale.
        translation_mm: [3] where the camera sees the template's origin.
        local: [P, 4, 4] L, similarities; the identity at rest.
        axis_angle: [P, 3] rad, rotations of L; the first is the whole hand's.
        quaternion: [P, 4] (x, y, z, w), the same, w not negative.
        scale: [P] of each part against its parent; of the palm against the template.
        bone_lengths_mm: [P] from the parent's joint to the part's own; 0 for the palm.
        shape_names: K names of the template's own shapes; none where it has none.
        shape: [K] their coefficients in standard deviations, at most 2: least squares on the bones'
            vectors with a normal prior, as `hand_fit.legal_hands` has it.
        joint_names: Q names such as "index_mcp_flexion", see `joint_angles.freedoms`.
        joint_angles: [Q] rad from the template's rest pose, as estimated, also beyond the limits.
        joint_limits: [Q, 2] rad, the template's.
    """

    part_names: tuple[str, ...]
    hand: str
    global_rotation: np.ndarray
    translation_mm: np.ndarray
    local: np.ndarray
    axis_angle: np.ndarray
    quaternion: np.ndarray
    scale: np.ndarray
    bone_lengths_mm: np.ndarray
    shape_names: tuple[str, ...]
    shape: np.ndarray
    joint_names: tuple[str, ...]
    joint_angles: np.ndarray
    joint_limits: np.ndarray

    def to_json(self) -> dict:
        """JSON-able: names -> values, of each part by its name."""
        by_part = ("local", "axis_angle", "quaternion", "scale", "bone_lengths_mm")
        joints = zip(self.joint_angles.round(6), self.joint_limits.round(6), strict=True)
        return {
            "hand": self.hand,
            "global_rotation": self.global_rotation.round(6).tolist(),
            "translation_mm": self.translation_mm.round(3).tolist(),
            **{
                name: dict(zip(self.part_names, getattr(self, name).round(6).tolist(), strict=True))
                for name in by_part
            },
            "shape": dict(zip(self.shape_names, self.shape.round(4).tolist(), strict=True)),
            "joints": {
                name: {"angle_rad": float(angle), "limits_rad": limits.tolist()}
                for name, (angle, limits) in zip(self.joint_names, joints, strict=True)
            },
        }


def hand_parameters(hand, template) -> HandParameters:
    """The parameters of a predicted hand.

    Args:
        hand: `HandMesh`, of `HandMeshPredictor` or `HandMeshClient`.
        template: `HandTemplate` of the model, such as `HandMeshPredictor.template`.

    Raises:
        InputError: the template has other parts than the hand.
    """
    if tuple(hand.part_names) != tuple(template.part_names):
        raise InputError(
            f"the hand has {len(hand.part_names)} parts, the template {template.name} "
            f"{len(template.part_names)} or others; take the template of the model that found it."
        )
    bone = bones_of(template, hand.hand)
    transforms = np.asarray(hand.transforms, np.float64)
    parents = np.asarray(template.parents)
    above = transforms[parents]
    above[0] = np.eye(4)
    local = bone @ np.linalg.inv(above) @ transforms @ np.linalg.inv(bone)
    scale = np.linalg.norm(local[:, :3, 0], axis=1)
    rotation = Rotation.from_matrix(local[:, :3, :3] / scale[:, None, None])
    joints = (transforms @ np.linalg.inv(bone))[:, :3, 3]
    whole = np.linalg.norm(transforms[0, :3, 0])
    right = MIRROR @ transforms @ MIRROR if hand.hand == "left" else transforms
    moves = freedoms(template)
    # Angles are those of the template's own hand, the right one, so that their signs are too.
    turned = MIRROR[:3, :3] @ rotation.as_matrix() @ MIRROR[:3, :3]
    turned = turned if hand.hand == "left" else rotation.as_matrix()
    angles = np.array(angles_from_rotation(turned))
    return HandParameters(
        part_names=tuple(hand.part_names),
        hand=hand.hand,
        global_rotation=transforms[0, :3, :3] / whole,
        translation_mm=transforms[0, :3, 3],
        local=local,
        axis_angle=rotation.as_rotvec(),
        quaternion=rotation.as_quat(canonical=True),
        scale=scale,
        bone_lengths_mm=np.linalg.norm(joints - joints[parents], axis=1),
        shape_names=tuple(template.shape_names),
        shape=_shape_of(right, template),
        joint_names=tuple(move.name for move in moves),
        joint_angles=np.array([angles[move.part, move.axis] for move in moves]),
        joint_limits=np.reshape([move.limits for move in moves], [-1, 2]),
    )


def transforms_of(parameters: HandParameters, template) -> np.ndarray:
    """[P, 4, 4] camera_from_template by Eq. (12): the inverse of `hand_parameters`."""
    return posed_by(parameters.local, bones_of(template, parameters.hand), template.parents)


def posed_by(local: np.ndarray, bone: np.ndarray, parents) -> np.ndarray:
    """[..., P, 4, 4] camera_from_template of motions L [..., P, 4, 4], in float64.

    Args:
        local: L of Eq. (12).
        bone: [P, 4, 4] of `bones_of`.
        parents: [P], each before its children.
    """
    transforms = np.linalg.inv(bone) @ local @ bone
    for part, parent in enumerate(parents):
        if part:
            transforms[..., part, :, :] = (
                transforms[..., parent, :, :] @ transforms[..., part, :, :]
            )
    return transforms


def bones_of(template, hand: str) -> np.ndarray:
    """[P, 4, 4] float64 bone_from_template of a "right" or "left" hand."""
    bone = np.asarray(template.bone_from_template, np.float64)
    return MIRROR @ bone @ MIRROR if hand == "left" else bone


@functools.lru_cache(maxsize=2)
def _shape_fit(template):
    """A graph from transforms [1, P, 4, 4] of a right hand to [1, K]: op by op it takes 75 ms."""
    import tensorflow as tf

    from dgn_tf.hand_fit.legal_hands import LegalHands

    legal, parts = LegalHands(template), len(template.parents)
    spec = tf.TensorSpec([1, parts, 4, 4], tf.float64)
    return tf.function(lambda transforms: legal(transforms)[1], input_signature=[spec])


def _shape_of(transforms: np.ndarray, template) -> np.ndarray:
    """[K] of transforms [P, 4, 4] of a right hand."""
    if not template.shape_names:
        return np.zeros(0)
    return _shape_fit(template)(transforms[np.newaxis])[0].numpy()
