"""How a user's hand may differ from the template: linear shapes, and the template they give."""

import dataclasses
from typing import NamedTuple

import numpy as np

from dgn_tf.geometry.kinematics import rigid_inverse
from dgn_tf.template import HandTemplate

SIZE_SIGMA = 0.05  # of the whole hand, beyond the template's own shapes
STRETCH_SIGMA = 0.04  # of each finger bone's length, likewise
# What a personal template has of its own; all else is its parent's.
OF_THE_USER = (
    "name",
    "source",
    "embedding",
    "vertices",
    "bone_from_template",
    "keypoints",
    "stub_vertices",
)


class Shapes(NamedTuple):
    """K linear shapes; each for one standard deviation, template frame, mm, float64.

    names: K names.
    vertices: [K, V, 3]; joints: [K, P, 3]; keypoints: [K, J, 3]: offsets.
    """

    names: tuple[str, ...]
    vertices: np.ndarray
    joints: np.ndarray
    keypoints: np.ndarray


def joints_of(template) -> np.ndarray:
    """[P, 3] mm float64, joint origins at rest, template frame."""
    return rigid_inverse(np.asarray(template.bone_from_template, np.float64))[:, :3, 3]


def shapes_of(template) -> Shapes:
    """The template's shapes, the whole hand's size, and each finger bone's length.

    The last two are there for templates without shapes, and for users whom theirs don't fit.
    """
    joints = joints_of(template)
    parts = [
        Shapes(
            tuple(template.shape_names),
            np.asarray(template.shape_basis, np.float64),
            np.asarray(template.shape_joints, np.float64),
            np.asarray(template.shape_keypoints, np.float64),
        ),
        Shapes(
            ("size",),
            SIZE_SIGMA * np.asarray(template.vertices, np.float64)[None],
            SIZE_SIGMA * joints[None],
            SIZE_SIGMA * np.asarray(template.keypoints, np.float64)[None],
        ),
    ]
    parents = np.asarray(template.parents)
    for part in range(1, len(parents)):
        if parents[part] != 0:  # a bone that hangs on the palm is no finger's
            parts.append(_stretched(template, joints, part))
    names, *arrays = zip(*parts, strict=True)
    return Shapes(sum(names, ()), *(np.concatenate(values) for values in arrays))


def _stretched(template, joints, part) -> Shapes:
    """The bone from the parent's joint to that of `part` made longer: what hangs on it moves on.

    Points of the parent move in proportion to where they are along the bone.
    """
    parents = np.asarray(template.parents)
    above = parents[part]
    bone = joints[part] - joints[above]
    moves = np.arange(len(parents)) == part
    for child in range(part + 1, len(parents)):
        moves[child] = moves[parents[child]] and parents[child] != child

    def offsets(points, weights):
        points, weights = np.asarray(points, np.float64), np.asarray(weights, np.float64)
        along = np.clip((points - joints[above]) @ bone / (bone @ bone), 0, 1)
        share = weights[:, moves].sum(axis=1) + weights[:, above] * along
        return STRETCH_SIGMA * share[None, :, None] * bone

    return Shapes(
        (f"{template.part_names[above]} length",),
        offsets(template.vertices, template.skinning_weights),
        STRETCH_SIGMA * moves[None, :, None] * bone,
        offsets(template.keypoints, template.keypoint_weights),
    )


def bone_lengths(template) -> np.ndarray:
    """[P - 1] mm, from each part's joint to its parent's, of all parts but the root."""
    joints = joints_of(template)
    return np.linalg.norm(joints - joints[np.asarray(template.parents)], axis=1)[1:]


def personal_template(template, shapes: Shapes, coefficients, frames: int) -> HandTemplate:
    """The template with a user's shape in place of the mean one.

    Mesh, weights, limits and mesh coordinates stay: a network of the parent works with it.

    Args:
        template: HandTemplate, the parent.
        shapes: `shapes_of(template)`.
        coefficients: [K].
        frames: from how many they come, for the template's source.

    Raises:
        InputError: the shape makes no valid template.
    """
    coefficients = np.asarray(coefficients, np.float64)
    vertices = template.vertices + np.tensordot(coefficients, shapes.vertices, 1)
    joints = joints_of(template) + np.tensordot(coefficients, shapes.joints, 1)
    bones = np.array(template.bone_from_template, np.float64)
    bones[:, :3, 3] = -np.einsum("pij,pj->pi", bones[:, :3, :3], joints)
    loop = template.wrist_loop
    # The forearm goes where the nearest vertex of the wrist goes.
    apart = np.linalg.norm(template.stub_vertices[:, None] - template.vertices[loop], axis=-1)
    near = loop[apart.argmin(axis=1)]
    personal = dataclasses.replace(
        template,
        name=f"{template.name}_user",
        source=f"{template.source}; shaped to a user by dgn_tf.calibrate from {frames} frames, "
        f"parent {template.hash}",
        vertices=np.round(vertices, 4),
        bone_from_template=np.round(bones, 6),
        keypoints=np.round(template.keypoints + np.tensordot(coefficients, shapes.keypoints, 1), 4),
        stub_vertices=np.round(
            template.stub_vertices + (vertices[near] - template.vertices[near]), 4
        ),
    )
    personal.validate("personal template")
    return personal


def is_shape_of(personal, parent) -> bool:
    """Whether a template differs from another by its user's shape alone."""
    borrowed = {field: getattr(parent, field) for field in OF_THE_USER}
    return dataclasses.replace(personal, **borrowed).hash == parent.hash
