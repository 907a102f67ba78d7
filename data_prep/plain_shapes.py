"""Shapes that any hand has: size, finger lengths and thickness, palm; one standard deviation each.

Sizes follow hand anthropometry (Greiner 1991, U.S. Army hands; Tilley 1993): within one sex the
length of the hand varies by about 5 %, over both by 6 %, a finger against its neighbours by 3 to 4.
"""

import numpy as np

from data_prep.bone_frames import finger_chain, unit
from data_prep.hand_parts import FINGERS
from data_prep.rest_hand import RestHand, Shapes

HAND_SIZE, FINGER_LENGTH, ONE_FINGER, PALM_WIDTH = 0.055, 0.05, 0.035, 0.04  # Of the length.
THICKNESS, PALM_THICKNESS = 0.08, 0.06  # Of the radius.


def plain_shapes(hand: RestHand) -> Shapes:
    """Returns the shapes of a hand that brings none of its own."""
    lengths = [_stretch_finger(hand, finger, FINGER_LENGTH) for finger in FINGERS]
    shapes = [
        ("hand_size", hand.vertices * HAND_SIZE, hand.joints * HAND_SIZE),
        ("finger_length", *(sum(parts) for parts in zip(*lengths, strict=True))),
        ("finger_thickness", _thicken_fingers(hand, THICKNESS), np.zeros_like(hand.joints)),
        *fingers_and_palm(hand),
    ]
    names, vertices, joints = zip(*shapes, strict=True)
    return Shapes(names, np.stack(vertices), np.stack(joints))


def fingers_and_palm(hand: RestHand) -> list:
    """Returns (name, vertex offsets [V, 3], joint offsets [P, 3]): each finger's length, the palm's
    width and thickness."""
    shapes = [
        (f"{finger}_length", *_stretch_finger(hand, finger, ONE_FINGER)) for finger in FINGERS
    ]
    return [
        *shapes,
        ("palm_width", *_widen_palm(hand, PALM_WIDTH, axis=0)),
        ("palm_thickness", *_widen_palm(hand, PALM_THICKNESS, axis=1)),
    ]


def _stretch_finger(hand, finger, amount):
    """Lengthens the bones of one finger by a share `amount`; skinning carries the skin along."""
    first = hand.part_names.index(f"{finger}1")
    chain = finger_chain(hand.joints, hand.tips, hand.part_names, finger)
    vertex_offsets, joint_offsets = np.zeros_like(hand.vertices), np.zeros_like(hand.joints)
    shift = np.zeros(3)
    for bone in range(3):
        if finger == "thumb" and bone == 0:
            continue  # The metacarpal belongs to the palm.
        part, axis = first + bone, chain[bone + 1] - chain[bone]
        joint_offsets[part] = shift
        along = np.einsum("ni,i->n", hand.vertices - chain[bone], axis) / (axis**2).sum()
        stretch = shift + amount * along[:, None] * axis
        vertex_offsets += hand.weights[:, part, None] * stretch
        shift = shift + amount * axis
    return vertex_offsets, joint_offsets


def _thicken_fingers(hand, amount):
    """Moves the skin of the fingers away from their bones' axes by a share `amount`."""
    offsets = np.zeros_like(hand.vertices)
    for finger in FINGERS:
        points = finger_chain(hand.joints, hand.tips, hand.part_names, finger)
        for bone in range(3):
            part = hand.part_names.index(f"{finger}{bone + 1}")
            axis = unit(points[bone + 1] - points[bone])
            offset = hand.vertices - points[bone]
            offset = offset - np.einsum("ni,i->n", offset, axis)[:, None] * axis
            offsets += hand.weights[:, part, None] * amount * offset
    return offsets


def _widen_palm(hand, amount, axis):
    """Stretches the palm along one axis by a share `amount`; fingers move along with their root."""
    across = np.eye(3)[axis]
    joint_offsets = np.zeros_like(hand.joints)
    palm = [part for part, name in enumerate(hand.part_names) if name[-1] in "m0"]
    joint_offsets[palm] = amount * hand.joints[palm] * across  # The wrist is the origin: 0.
    vertex_offsets = hand.weights[:, palm].sum(axis=1)[:, None] * amount * hand.vertices * across
    for finger in FINGERS:
        first = hand.part_names.index(f"{finger}1")
        shift = amount * hand.joints[first] * across
        joint_offsets[first : first + 3] = shift
        vertex_offsets += hand.weights[:, first : first + 3].sum(axis=1)[:, None] * shift
    return vertex_offsets, joint_offsets
