"""Poses a hand for projection onto its palm's plane: fingers straight and spread, thumb aside."""

import numpy as np

from data_prep import hand_parts, posing
from data_prep.bone_frames import (
    angles_of,
    axes,
    finger_chain,
    flexion_axis,
    rest_flexion,
    usual_axis,
)
from data_prep.rest_hand import RestHand

# From MakeHuman's rest pose. Chosen by the floor over sampled poses: a wide fan, the thumb beside
# the palm.
SPREAD_DEGREES = {"index": 14.0, "middle": 4.0, "ring": -7.0, "little": -14.0}
THUMB_ASIDE_DEGREES = (-12.0, -10.0, 25.0)
# Where that puts its fingers: degrees from the palm's z axis to the thumb's side; and its thumb:
# direction to the tip and flexion axis, in the palm's frame.
FAN_DEGREES = {"index": 25.3, "middle": -3.0, "ring": -20.7, "little": -38.7}
THUMB_DIRECTION, THUMB_AXIS = (0.765, -0.250, 0.594), (0.264, -0.717, -0.646)


def flatten(hand: RestHand, frames, angles) -> np.ndarray:
    """Returns [V, 3] mm, the hand posed by joint angles [P, 3] rad, its fingers straight besides.

    Args:
        hand: the hand at rest.
        frames: [P, 4, 4] bone_from_template.
        angles: what `makehuman_angles` or `fan_angles` returned.
    """
    angles = angles.copy()
    flexion = rest_flexion(hand.joints, hand.tips, frames, hand.part_names)
    for part, name in enumerate(hand.part_names):
        if name != "palm" and not name.startswith("thumb"):
            angles[part, 0] = -flexion[part]
    parents = hand_parts.parents(hand.part_names)
    transforms = posing.transforms_from_angles(angles[None], frames, parents)
    return posing.skin(transforms, np.round(hand.vertices, 4), hand.weights)[0]


def makehuman_angles(hand: RestHand) -> np.ndarray:
    """Returns [P, 3] rad that spread MakeHuman's fingers."""
    angles = np.zeros([len(hand.part_names), 3])
    for finger, degrees in SPREAD_DEGREES.items():
        angles[hand.part_names.index(f"{finger}1"), 1] = np.radians(degrees)
    angles[hand.part_names.index("thumb1")] = np.radians(THUMB_ASIDE_DEGREES)
    return angles


def fan_angles(hand: RestHand, frames) -> np.ndarray:
    """Returns [P, 3] rad that bring any hand's fingers to where MakeHuman's are spread."""
    angles = np.zeros([len(hand.part_names), 3])
    for finger, degrees in FAN_DEGREES.items():
        part = hand.part_names.index(f"{finger}1")
        bone = hand.joints[part + 1] - hand.joints[part]
        angles[part, 1] = np.radians(degrees) - np.arctan2(bone[0], bone[2])
    part = hand.part_names.index("thumb1")
    points = finger_chain(hand.joints, hand.tips, hand.part_names, "thumb")
    now = axes(points[3] - points[0], flexion_axis(points, usual_axis("thumb")))
    turn = np.einsum("ki,kj->ij", axes(THUMB_DIRECTION, THUMB_AXIS), now)
    frame = frames[part, :3, :3]
    angles[part] = angles_of(np.einsum("ij,jk,lk->il", frame, turn, frame))
    return angles
