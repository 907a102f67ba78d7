"""One hand over the frames of a recording, and its skeleton in the frame of animation programs."""

from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from dgn_tf.errors import InputError
from dgn_tf.geometry import mirror
from dgn_tf.parameter_file import Recorded
from dgn_tf.parameters import bones_of, posed_by
from dgn_tf.template import HandTemplate

USUAL_FPS = 30.0
# Animation programs have y up and look along -z: a turn about x by half a circle.
_UP_FROM_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])


class HandSequence(NamedTuple):
    """A hand of P parts over N frames. A lost frame holds the pose before it.

    Attributes:
        template: `HandTemplate`.
        hand: "right" or "left".
        frame_names: N.
        valid: [N] bool; False: lost, its pose is that of the nearest frame before, at the
            beginning of the first frame that has one.
        times: [N] s from the first frame on, rising.
        transforms: [N, P, 4, 4] float64 camera_from_template, mm; for a left hand the template is
            mirrored, x negated.
    """

    template: HandTemplate
    hand: str
    frame_names: tuple[str, ...]
    valid: np.ndarray
    times: np.ndarray
    transforms: np.ndarray

    @property
    def lost(self) -> list[str]:
        """Names of the frames without a pose of their own."""
        return [name for name, there in zip(self.frame_names, self.valid, strict=True) if not there]

    @property
    def fps(self) -> float:
        """Frames a second, on the average."""
        return (len(self.times) - 1) / self.times[-1] if len(self.times) > 1 else USUAL_FPS


class Skeleton(NamedTuple):
    """The hand's joints: y up, metres or another unit.

    Attributes:
        bind: [P, 4, 4] joint_from_mesh, rigid; `mesh` is the template's frame, in that unit.
        world: [N, P, 4, 4] world_from_joint, similarities.
        local: [N, P, 4, 4] the same against the parent's joint.
    """

    bind: np.ndarray
    world: np.ndarray
    local: np.ndarray


def hand_sequence(
    recorded: Recorded, template, hand: str = "auto", fps: float | None = None
) -> HandSequence:
    """The poses of one hand of a recording.

    Args:
        recorded: of `read_parameters`.
        template: `HandTemplate`, the recording's.
        hand: "right", "left", or "auto": the only one that is there.
        fps: frames a second; None: the time stamps where all frames have them, else `USUAL_FPS`.

    Raises:
        InputError: the template is another one, both hands are there or none, or a frame has two
            of them.
    """
    file = f"--input={recorded.file}"
    if template.hash != recorded.template_hash or template.part_names != recorded.part_names:
        raise InputError(
            f"{file} moves the template {recorded.template_name} "
            f"({recorded.template_hash[:12]}), not {template.name} ({template.hash[:12]}); name "
            "the model or user's template that predicted it by --saved_model or --template."
        )
    hand = _side(recorded, hand, file)
    rows: dict[str, int | None] = dict.fromkeys(recorded.frame_names)
    for row in np.flatnonzero(recorded.valid):
        if recorded.hands[row] != hand:
            continue
        name = recorded.frame_names[row]
        if rows[name] is not None:
            raise InputError(
                f"{file}: {name} holds two {hand} hands, which nothing tells apart over time; "
                "predict with --max_hands=1 or --hand=auto."
            )
        rows[name] = int(row)
    names = tuple(rows)
    valid = np.array([row is not None for row in rows.values()])
    first = int(np.argmax(valid))
    held = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), first))
    chosen = [row for row in rows.values() if row is not None]
    local = recorded.local[np.array(chosen)[np.cumsum(valid)[held] - 1]]
    return HandSequence(
        template=template,
        hand=hand,
        frame_names=names,
        valid=valid,
        times=_times(recorded, names, fps),
        transforms=posed_by(local, bones_of(template, hand), template.parents),
    )


def _side(recorded, hand, file) -> str:
    counts = {
        side: sum(
            there and side == own for there, own in zip(recorded.valid, recorded.hands, strict=True)
        )
        for side in ("right", "left")
    }
    there = [side for side, count in counts.items() if count]
    if not there:
        raise InputError(f"{file} holds no frame in which a hand was found.")
    if hand == "auto" and len(there) == 2:
        raise InputError(
            f"{file} holds a right hand ({counts['right']} frames) and a left one "
            f"({counts['left']} frames); pick one by --hand=right or --hand=left."
        )
    if hand != "auto" and hand not in there:
        raise InputError(f"--hand={hand}: {file} holds a {there[0]} hand alone.")
    return there[0] if hand == "auto" else hand


def _times(recorded, names, fps) -> np.ndarray:
    if fps is not None:
        return np.arange(len(names)) / fps
    stamps = dict(zip(recorded.frame_names, recorded.times, strict=True))
    times = np.array([stamps[name] for name in names])
    if np.isfinite(times).all() and (np.diff(times) > 0).all():
        return times - times[0]
    return np.arange(len(names)) / USUAL_FPS


def skeleton(sequence: HandSequence, unit_mm: float, aligned: bool = False) -> Skeleton:
    """The sequence's joints.

    Args:
        sequence: N frames of P parts.
        unit_mm: the unit that is wanted, such as 1000 for metres.
        aligned: joints have the template's axes at rest; else those of their bones: z along the
            bone before, x the axis about which a finger bends.
    """
    template = sequence.template
    bind = bones_of(template, sequence.hand)
    if aligned:
        joints = np.linalg.inv(bind)[:, :3, 3]
        bind = np.tile(np.eye(4), [len(bind), 1, 1])
        bind[:, :3, 3] = -joints
    world = _UP_FROM_CAMERA @ sequence.transforms @ np.linalg.inv(bind)
    bind[:, :3, 3] /= unit_mm
    world[..., :3, 3] /= unit_mm
    above = world[:, template.parents]
    above[:, 0] = np.eye(4)
    return Skeleton(bind, world, np.linalg.inv(above) @ world)


def taken_apart(transforms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Translations [N, P, 3], quaternions [N, P, 4] and scales [N, P] of similarities.

    Quaternions are x, y, z, w; each is of the sign that is nearer to the frame's before, so that
    what lies between two frames is the short way.
    """
    linear = transforms[..., :3, :3]
    scale = np.cbrt(np.linalg.det(linear))
    rotation = linear / scale[..., None, None]
    quaternion = Rotation.from_matrix(rotation.reshape(-1, 3, 3)).as_quat()
    quaternion = quaternion.reshape(*scale.shape, 4)
    along = np.sign((quaternion[1:] * quaternion[:-1]).sum(axis=-1))
    along[along == 0] = 1
    quaternion[1:] *= np.cumprod(along, axis=0)[..., None]
    return transforms[..., :3, 3], quaternion, scale


def rest_mesh(sequence: HandSequence, unit_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] of the template at rest, a left hand's mirrored, and faces [F, 3]."""
    vertices, faces = sequence.template.vertices, sequence.template.faces
    if sequence.hand == "left":
        vertices, faces = mirror.mirror_points(vertices), mirror.mirror_faces(faces)
    return vertices.astype(np.float64) / unit_mm, np.asarray(faces)
