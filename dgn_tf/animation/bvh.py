"""A hand's skeleton over time as a BVH file: centimetres, y up, the joints by the parts' names.

BVH knows no scale. With six channels a joint each joint's place is exact all the same, since it is
written beside its rotation; with constant bones lengths are the recording's mean.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from dgn_tf.animation.sequence import HandSequence, skeleton

_MM_PER_CM = 10.0
_ROTATIONS = "Zrotation Xrotation Yrotation"
_PLACES = "Xposition Yposition Zposition"


def bvh(sequence: HandSequence, constant_bones: bool = False) -> str:
    """The text of the .bvh.

    Joints have the template's axes where all rotations are 0: x to the thumb of a right hand, y to
    the back of the hand, z to the fingers. A joint's position channels are its whole place against
    the parent, in place of OFFSET, as Blender and others read them.

    Args:
        sequence: N frames of P parts.
        constant_bones: all joints but the first rotate only; OFFSET are the bones.
    """
    places, turns = _motion(sequence)
    offsets = places[sequence.valid].mean(axis=0)  # [P, 3]
    offsets[0] = 0
    lines = ["HIERARCHY", *_joint(sequence, offsets, constant_bones, 0, 0), "MOTION"]
    lines += [f"Frames: {len(places)}", f"Frame Time: {1 / sequence.fps:.8f}"]
    order = _order(sequence.template.parents, 0)
    for place, turn in zip(places, turns, strict=True):
        row = []
        for part in order:
            moved = part == 0 or not constant_bones
            row += [*(place[part] if moved else ()), *turn[part]]
        lines.append(" ".join(f"{value:.6f}" for value in row))
    return "\n".join(lines) + "\n"


def bone_errors_mm(sequence: HandSequence) -> np.ndarray:
    """[N, P] by how much constant bones misplace each joint of each frame."""
    places, turns = _motion(sequence)
    offsets = places[sequence.valid].mean(axis=0)
    shown, frames = np.zeros_like(places), {}
    for part, parent in enumerate(sequence.template.parents):
        own = Rotation.from_euler("ZXY", turns[:, part], degrees=True)
        if part == 0:
            frames[part], shown[:, part] = own, places[:, 0]
            continue
        shown[:, part] = shown[:, parent] + frames[parent].apply(offsets[part])
        frames[part] = frames[parent] * own
    wanted = skeleton(sequence, _MM_PER_CM, aligned=True).world[..., :3, 3]
    return np.linalg.norm(shown - wanted, axis=-1) * _MM_PER_CM


def _motion(sequence):
    """Places [N, P, 3] cm against the parent, and angles [N, P, 3] degrees about z, x, y."""
    world = skeleton(sequence, _MM_PER_CM, aligned=True).world
    scale = np.cbrt(np.linalg.det(world[..., :3, :3]))[..., None, None]
    turned, parents = world[..., :3, :3] / scale, sequence.template.parents
    above = turned[:, parents]
    apart = world[..., :3, 3] - world[..., :3, 3][:, parents]
    places = np.einsum("npij,npi->npj", above, apart)
    local = np.swapaxes(above, -1, -2) @ turned
    places[:, 0], local[:, 0] = world[:, 0, :3, 3], turned[:, 0]
    turns = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_euler("ZXY", degrees=True)
    # Angles go on from frame to frame, also past half a circle.
    turns = turns.reshape(*local.shape[:2], 3)
    return places, np.unwrap(turns, period=360, axis=0)


def _order(parents, part) -> list[int]:
    """The parts as they stand in the file: each before what hangs on it."""
    return [part] + [
        below for child in _children(parents, part) for below in _order(parents, child)
    ]


def _children(parents, part):
    return [child for child in range(1, len(parents)) if parents[child] == part]


def _joint(sequence, offsets, constant_bones, part, depth) -> list[str]:
    template, pad = sequence.template, "\t" * depth
    channels = f"6 {_PLACES} {_ROTATIONS}"
    if constant_bones and part:
        channels = f"3 {_ROTATIONS}"
    lines = [
        f"{pad}{'JOINT' if part else 'ROOT'} {template.part_names[part]}",
        f"{pad}{{",
        f"{pad}\tOFFSET {_numbers(offsets[part])}",
        f"{pad}\tCHANNELS {channels}",
    ]
    children = _children(template.parents, part)
    for child in children:
        lines += _joint(sequence, offsets, constant_bones, child, depth + 1)
    if not children:
        end = _numbers(_tip(sequence, part))
        lines += [f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET {end}", f"{pad}\t}}"]
    return [*lines, f"{pad}}}"]


def _tip(sequence, part) -> np.ndarray:
    """[3] cm from the joint to the end of a last part: its farthest vertex at rest."""
    template = sequence.template
    joint = np.linalg.inv(np.asarray(template.bone_from_template, np.float64)[part])[:3, 3]
    own = template.vertices[template.skinning_weights.argmax(axis=1) == part] - joint
    if not len(own):
        return np.zeros(3)
    tip = own[np.linalg.norm(own, axis=1).argmax()] / _MM_PER_CM
    return tip * [-1, 1, 1] if sequence.hand == "left" else tip


def _numbers(values) -> str:
    return " ".join(f"{value:.6f}" for value in values)
