"""A hand's poses as parameters of MANO (Romero, Tzionas, Black, 2017), by the user's own file.

Nothing of MANO ships here: its licence forbids that. Rotations are in closed form: MANO's bones
take the directions of the template's, whose rest pose may be another. The ten shape coefficients
are one ridge regression on the bones' vectors over all frames, since a recording shows one hand.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from data_prep import bone_frames, hand_parts, mano, source_hand
from dgn_tf.animation.sequence import HandSequence
from dgn_tf.errors import InputError
from dgn_tf.parameters import MIRROR, bones_of

_SIGMA_MM = 0.3  # of the bones' mean vectors, against coefficients of deviation 1
_MM_PER_METRE = 1000.0


class ManoParameters(NamedTuple):
    """Of N frames, in MANO's own conventions; metres and radians, camera frame.

    Attributes:
        global_orient: [N, 3] axis-angle of the wrist.
        hand_pose: [N, 45] axis-angle of MANO's 15 joints in its order, `hands_mean` taken off
            unless `flat_hand_mean`.
        betas: [10] of the recording.
        transl: [N, 3] m, what is added to all vertices.
        error_mm: [N, 16] how far MANO's joints so posed are from the hand's, in MANO's order.
    """

    global_orient: np.ndarray
    hand_pose: np.ndarray
    betas: np.ndarray
    transl: np.ndarray
    error_mm: np.ndarray


class _Mano(NamedTuple):
    """MANO's hand in its own frame, mm, parts in its order.

    joints: [16, 3]; shapes: [K, 16, 3]; template_from_mano: [3, 3], a reflection for a left hand;
    bones: [16, 3, 3] bone_from_template, rotations.
    """

    joints: np.ndarray
    shapes: np.ndarray
    template_from_mano: np.ndarray
    bones: np.ndarray


def mano_parameters(sequence: HandSequence, path, flat_hand_mean: bool = True) -> ManoParameters:
    """MANO's parameters of a sequence.

    Args:
        sequence: N frames of a template with the parts of `hand_parts.PART_NAMES` at least.
        path: MANO_RIGHT or MANO_LEFT, .pkl or .npz; read without running anything in it.
        flat_hand_mean: `hand_pose` are the joints' rotations; else less the file's `hands_mean`,
            for code that adds it.

    Raises:
        InputError: the file is no MANO model or of the other hand, or the template has other parts.
    """
    model = _read(path, sequence.hand)
    mean = np.zeros(45) if flat_hand_mean else mano.read_hands_mean(path)
    turns, joints = _posed(sequence, model)
    above = turns[:, _PARENTS]
    above[:, 0] = np.eye(3)
    local = np.swapaxes(above, -1, -2) @ turns
    pose = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(len(turns), -1)
    betas = _shape(turns[sequence.valid], joints[sequence.valid], model)
    own = _joints(turns, model.joints + np.tensordot(betas, model.shapes, 1))
    moved = (joints - own).mean(axis=1)
    return ManoParameters(
        global_orient=pose[:, :3],
        hand_pose=pose[:, 3:] - mean,
        betas=np.pad(betas, (0, mano.SHAPES - len(betas))),
        transl=moved / _MM_PER_METRE,
        error_mm=np.linalg.norm(own + moved[:, None] - joints, axis=-1),
    )


_PARENTS = np.array(
    [0 if part[-1] in "m1" else mano.PARTS.index(part) - 1 for part in mano.PARTS]  # palm, index1
)
_ORDER = [hand_parts.PART_NAMES.index(part) for part in mano.PARTS]


def _read(path, hand: str) -> _Mano:
    source, place = source_hand.placed(mano.read_mano(path))
    if source.left != (hand == "left"):
        side = "left" if source.left else "right"
        raise InputError(
            f"--mano={path} is a {side} hand, the recording shows a {hand} one; give "
            f"MANO_{hand.upper()}."
        )
    frames = bone_frames.bone_frames(place.hand.joints, place.hand.tips, place.hand.part_names)
    assert source.shapes is not None  # of every file that `read_mano` takes
    return _Mano(
        joints=source.joints[_ORDER],
        shapes=source.shapes.joints[:, _ORDER],
        template_from_mano=place.linear,
        bones=frames[_ORDER, :3, :3],
    )


def _posed(sequence, model) -> tuple[np.ndarray, np.ndarray]:
    """camera_from_mano rotations [N, 16, 3, 3] of MANO's joints, and their places [N, 16, 3] mm."""
    template = sequence.template
    missing = set(hand_parts.PART_NAMES) - set(template.part_names)
    if missing:
        raise InputError(
            f"--mano: the template {template.name} has no {', '.join(sorted(missing))}; MANO's "
            "joints are wanted."
        )
    parts = [template.part_names.index(part) for part in mano.PARTS]
    transforms, bones = sequence.transforms[:, parts], bones_of(template, "right")[parts]
    mirrored = np.eye(3)
    if sequence.hand == "left":
        transforms, mirrored = MIRROR @ transforms @ MIRROR, MIRROR[:3, :3]
    from_bone = transforms @ np.linalg.inv(bones)
    scale = np.cbrt(np.linalg.det(from_bone[..., :3, :3]))[..., None, None]
    turns = from_bone[..., :3, :3] / scale @ model.bones
    return mirrored @ turns @ model.template_from_mano, from_bone[..., :3, 3] @ mirrored


def _shape(turns, joints, model) -> np.ndarray:
    """[K] the coefficients whose bones are nearest to those of all frames together."""
    apart = joints - joints[:, _PARENTS]
    seen = np.einsum("npij,npi->pj", turns[:, _PARENTS], apart) / len(turns)  # in MANO's frame
    residual = (seen - (model.joints - model.joints[_PARENTS]))[1:].reshape(-1)
    basis = (model.shapes - model.shapes[:, _PARENTS])[:, 1:].reshape(len(model.shapes), 45).T
    normal = basis.T @ basis + _SIGMA_MM**2 * np.eye(basis.shape[1])
    return np.linalg.solve(normal, basis.T @ residual)


def _joints(turns, rest) -> np.ndarray:
    """[N, 16, 3] mm, MANO's joints of rest places [16, 3] before `transl`."""
    placed = np.tile(rest[0], [len(turns), len(rest), 1])
    for part, parent in enumerate(_PARENTS):
        if part:
            bone = turns[:, parent] @ (rest[part] - rest[parent])
            placed[:, part] = placed[:, parent] + bone
    return placed
