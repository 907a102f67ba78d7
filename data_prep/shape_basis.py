"""Hand shapes of MakeHuman's hand: its targets and `plain_shapes`, one standard deviation each."""

import numpy as np

from data_prep.makehuman import Body
from data_prep.makehuman_hand import Hand, part_joints
from data_prep.plain_shapes import FINGER_LENGTH, HAND_SIZE, THICKNESS, fingers_and_palm
from data_prep.rest_hand import Shapes

WRIST = 0.05  # Of the radius.
DISTANCE_SHARE = 0.6  # Of the way from MakeHuman's average to its extremes.
BODY_SHARE = 0.8  # The same for weight and muscle.


def shape_basis(body: Body, hand: Hand) -> Shapes:
    """Returns the shapes of the neutral hand.

    Args:
        body: the body that `hand` was cut from.
        hand: the neutral hand.
    """
    names, offsets, joints = [], [], []

    def add(name, vertex_offsets, joint_offsets):
        names.append(name)
        offsets.append(vertex_offsets)
        joints.append(joint_offsets)

    def target(name, difference, measure, wanted, keep_size=True):
        vertex_offsets, joint_offsets = _on_hand(body, hand, difference, keep_size)
        scale = wanted if measure is None else wanted / measure(vertex_offsets, joint_offsets)
        add(name, vertex_offsets * scale, joint_offsets * scale)

    def half(plus, minus):
        return (body.target(plus) - body.target(minus)) / 2

    def hand_target(kind):
        return half(f"hands/r-hand-{kind}-incr", f"hands/r-hand-{kind}-decr")

    lengths = _Measures(hand)
    add("hand_size", hand.vertices * HAND_SIZE, hand.joints * HAND_SIZE)
    target("finger_length", hand_target("fingers-length"), lengths.fingers, FINGER_LENGTH)
    target("finger_thickness", hand_target("fingers-diameter"), lengths.thickness, THICKNESS)
    target("finger_distance", hand_target("fingers-distance"), None, DISTANCE_SHARE)
    target(
        "wrist",
        half("hands/measure-wrist-circ-incr", "hands/measure-wrist-circ-decr"),
        lengths.wrist,
        WRIST,
    )
    # What tells man from woman, old from young and child from adult in these targets is the size of
    # the hand and under 0.1 mm beside it, so sex and age have no shape of their own.
    for name, kind in (("weight", "averagemuscle-{}weight"), ("muscle", "{}muscle-averageweight")):
        plus, minus = (
            _macro(body, "young", *kind.format(extreme).split("-")) for extreme in ("max", "min")
        )
        target(name, (plus - minus) / 2, None, BODY_SHARE, keep_size=False)
    for shape in fingers_and_palm(hand):
        add(*shape)
    return Shapes(tuple(names), np.stack(offsets), np.stack(joints))


def _macro(body, age, muscle, weight):
    """Returns [N, 3] the mean of woman and man of an age, a musculature and a weight."""
    return np.mean(
        [
            body.target(f"macrodetails/universal-{sex}-{age}-{muscle}-{weight}")
            for sex in ("female", "male")
        ],
        axis=0,
    )


def _on_hand(body, hand, difference, keep_size):
    """Takes offsets [N, 3] of the body to the hand; the palm neither moves nor turns by them.

    With keep_size False the palm does not grow either: size has a shape of its own.
    """
    offsets = np.einsum("ij,nj->ni", hand.template_from_body, difference)
    vertex_offsets = offsets[hand.body_index]
    joint_offsets = np.einsum("ij,pj->pi", hand.template_from_body, part_joints(body, difference))
    palm = (hand.weights[:, 0] > 0.9) & (hand.vertices[:, 2] > 0)
    source = hand.vertices[palm] + vertex_offsets[palm]
    aligned_from_moved = _fit_motion(source, hand.vertices[palm], with_scale=not keep_size)
    if keep_size:  # Scale and motion of the palm; the wrist joint stays the origin.
        aligned_from_moved[:3, 3] = -np.einsum(
            "ij,j->i", aligned_from_moved[:3, :3], hand.joints[0] + joint_offsets[0]
        )
    moved = _apply(aligned_from_moved, hand.vertices + vertex_offsets)
    joints = _apply(aligned_from_moved, hand.joints + joint_offsets)
    return moved - hand.vertices, joints - hand.joints


def _fit_motion(source, target, with_scale):
    """Returns [4, 4]: the rigid (or similarity) transform that takes source to target best."""
    p, q = source - source.mean(axis=0), target - target.mean(axis=0)
    u, s, vt = np.linalg.svd(np.einsum("ni,nj->ij", q, p))
    signs = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = np.einsum("ij,j,jk->ik", u, signs, vt)
    scale = (s * signs).sum() / (p**2).sum() if with_scale else 1.0
    transform = np.eye(4)
    transform[:3, :3] = scale * rotation
    transform[:3, 3] = target.mean(axis=0) - np.einsum(
        "ij,j->i", transform[:3, :3], source.mean(axis=0)
    )
    return transform


def _apply(transform, points):
    return np.einsum("ij,nj->ni", transform[:3, :3], points) + transform[:3, 3]


class _Measures:
    """How much offsets change a measure of the hand; all linear in the offsets."""

    def __init__(self, hand):
        self._hand = hand
        chains = [hand.joints[1 + 3 * finger : 4 + 3 * finger] for finger in range(5)]
        self._bones = np.concatenate([np.diff(chain, axis=0) for chain in chains])

    def fingers(self, _, joint_offsets):
        """Relative change of the mean length of the bones between finger joints."""
        chains = [joint_offsets[1 + 3 * finger : 4 + 3 * finger] for finger in range(5)]
        change = np.concatenate([np.diff(chain, axis=0) for chain in chains])
        length = np.linalg.norm(self._bones, axis=1)
        return np.einsum("bi,bi->", change, self._bones / length[:, None]) / length.sum()

    def thickness(self, vertex_offsets, _):
        """Relative change of the mean distance of finger vertices from their bone's axis."""
        hand, change, total = self._hand, 0.0, 0.0
        for finger in range(5):
            for bone in (1, 2):
                part = 1 + 3 * finger + bone
                own = hand.weights[:, part] > 0.8
                end = hand.tips[finger] if bone == 2 else hand.joints[part + 1]
                axis = end - hand.joints[part]
                axis = axis / np.linalg.norm(axis)
                offset = hand.vertices[own] - hand.vertices[own].mean(axis=0)
                offset = offset - np.einsum("ni,i->n", offset, axis)[:, None] * axis
                radius = np.linalg.norm(offset, axis=1)
                change += np.einsum("ni,ni->", vertex_offsets[own], offset / radius[:, None])
                total += radius.sum()
        return change / total

    def wrist(self, vertex_offsets, _):
        """Relative change of the mean radius at the wrist joint."""
        hand = self._hand
        own = np.abs(hand.vertices[:, 2]) < 8
        offset = hand.vertices[own] - hand.vertices[own].mean(axis=0)
        offset[:, 2] = 0
        radius = np.linalg.norm(offset, axis=1)
        return np.einsum("ni,ni->", vertex_offsets[own], offset / radius[:, None]) / radius.sum()
