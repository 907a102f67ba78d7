"""A hand's pose as parameters: what its transforms say of each joint and bone."""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from dgn_tf.errors import InputError

_MIRROR = np.diag([-1.0, 1.0, 1.0, 1.0])


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

    def to_json(self) -> dict:
        """JSON-able: names -> values, of each part by its name."""
        by_part = ("local", "axis_angle", "quaternion", "scale", "bone_lengths_mm")
        return {
            "hand": self.hand,
            "global_rotation": self.global_rotation.round(6).tolist(),
            "translation_mm": self.translation_mm.round(3).tolist(),
            **{
                name: dict(zip(self.part_names, getattr(self, name).round(6).tolist(), strict=True))
                for name in by_part
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
    bone = np.asarray(template.bone_from_template, np.float64)
    if hand.hand == "left":
        bone = _MIRROR @ bone @ _MIRROR
    transforms = np.asarray(hand.transforms, np.float64)
    parents = np.asarray(template.parents)
    above = transforms[parents]
    above[0] = np.eye(4)
    local = bone @ np.linalg.inv(above) @ transforms @ np.linalg.inv(bone)
    scale = np.linalg.norm(local[:, :3, 0], axis=1)
    rotation = Rotation.from_matrix(local[:, :3, :3] / scale[:, None, None])
    joints = (transforms @ np.linalg.inv(bone))[:, :3, 3]
    whole = np.linalg.norm(transforms[0, :3, 0])
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
    )


def transforms_of(parameters: HandParameters, template) -> np.ndarray:
    """[P, 4, 4] camera_from_template by Eq. (12): the inverse of `hand_parameters`."""
    bone = np.asarray(template.bone_from_template, np.float64)
    if parameters.hand == "left":
        bone = _MIRROR @ bone @ _MIRROR
    transforms = np.linalg.inv(bone) @ parameters.local @ bone
    for part, parent in enumerate(template.parents):
        if part:  # a parent stands before its children
            transforms[part] = transforms[parent] @ transforms[part]
    return transforms
