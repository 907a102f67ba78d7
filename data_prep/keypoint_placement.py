"""Where NYU's 36 key points lie on a hand: at the places analogous to those on LibHand's mesh.

The table `makehuman_keypoints.json` holds each key point in coordinates of its part that mean the
same on every hand. Fingers: across in half widths and half thicknesses of the finger there, along
in bone lengths. Palm: 0 to 1 from its little finger's edge to its index finger's, 0 to 1 from palm
to back, and in palm lengths. `python -m data_prep.place_keypoints` derives it.
"""

import dataclasses
import pathlib

import numpy as np

from data_prep.bone_frames import flexion_axis, unit, usual_axis
from data_prep.hand_parts import FINGERS
from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json
from dgn_tf.template import nyu_keypoint_names

TABLE = pathlib.Path(__file__).parent / "makehuman_keypoints.json"
_SLICE_MM = 4.0  # Half the length of finger whose surface gives width and thickness.
_NEIGHBOURS = 40  # Vertices that carry a key point to other shapes.


@dataclasses.dataclass(frozen=True)
class PosedHand:
    """What placing needs of a hand at rest, mm.

    Attributes:
        vertices: [V, 3].
        weights: [V, P] skinning weights.
        frames: [P, 3, 3] rows: flexion axis (radial), dorsal, distal along the part's own bone.
        heads, tails: [P, 3] ends of each bone; the palm's are the wrist and the middle knuckle.
    """

    vertices: np.ndarray
    weights: np.ndarray
    frames: np.ndarray
    heads: np.ndarray
    tails: np.ndarray


def describe_hand(vertices, weights, joints, dorsal) -> PosedHand:
    """Finds the bones and their frames.

    Args:
        vertices: [V, 3] mm; weights: [V, 16]; joints: [16, 3] mm; of `hand_parts.PART_NAMES`.
        dorsal: [3] rough direction of the back of the palm.
    """
    count = len(joints)
    heads, tails = joints.copy(), np.zeros_like(joints)
    frames = np.zeros([count, 3, 3])
    tails[0] = joints[7]
    frames[0] = _frame(tails[0] - heads[0], dorsal)
    for finger, name in enumerate(FINGERS):
        first = 1 + 3 * finger
        last = first + 2
        own = vertices[weights[:, last] > 0.5]
        chain = joints[first : first + 3]
        reach = np.einsum("ni,i->n", own - chain[2], unit(chain[2] - chain[1])) + np.linalg.norm(
            own - chain[2], axis=1
        )
        tip = own[np.argsort(-reach, kind="stable")[:3]].mean(axis=0)
        tails[first : first + 3] = np.stack([chain[1], chain[2], tip])
        chain = np.concatenate([chain, tip[None]])
        bones = np.diff(chain, axis=0)
        axis = flexion_axis(chain, np.einsum("ji,j->i", frames[0], usual_axis(name)))
        for bone in range(3):
            frames[first + bone] = _frame(bones[bone], np.cross(bones[bone], axis))
    return PosedHand(vertices, weights, frames, heads, tails)


def normalise(hand: PosedHand, part: int, point) -> list[float]:
    """Returns [3] coordinates of a point that mean the same on another hand; `place` inverts it."""
    if part == 0:
        x, height, along = np.einsum("ij,j->i", hand.frames[0], point - hand.heads[0])
        along = along / np.linalg.norm(hand.tails[0] - hand.heads[0])
        ulnar, radial = _palm_edges(hand, along)
        low, high = _palm_surface(hand, point)
        return [
            float((x - ulnar) / (radial - ulnar)),
            float((height - low) / (high - low)),
            float(along),
        ]
    x, y, along = np.einsum("ij,j->i", hand.frames[part], point - hand.heads[part])
    length = np.linalg.norm(hand.tails[part] - hand.heads[part])
    centre, half = _section(hand, part, along)
    return [*((np.array([x, y]) - centre) / half).tolist(), float(along / length)]


def place(hand: PosedHand, part: int, coordinates) -> np.ndarray:
    """Returns [3] the point of a hand that `normalise` gave these coordinates on another."""
    first, second, third = coordinates
    frame, head = hand.frames[part], hand.heads[part]
    if part == 0:
        ulnar, radial = _palm_edges(hand, third)
        along = third * np.linalg.norm(hand.tails[0] - head)
        point = head + (ulnar + first * (radial - ulnar)) * frame[0] + along * frame[2]
        low, high = _palm_surface(hand, point)
        return point + frame[1] * (low + second * (high - low))
    along = third * np.linalg.norm(hand.tails[part] - head)
    centre, half = _section(hand, part, along)
    across = centre + half * [first, second]
    return head + np.einsum("i,ij->j", np.array([*across, along]), frame)


def load_table(path=TABLE) -> dict[str, tuple[str, list[float]]]:
    """Returns name to (part, coordinates) for NYU's 36, in their order."""
    try:
        rows = read_json(path)["keypoints"]
        return {
            name: (rows[name]["part"], [float(value) for value in rows[name]["coordinates"]])
            for name in nyu_keypoint_names()
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is no table of NYU's 36 key points ({error!r}); write it anew "
            "with data_prep.place_keypoints."
        ) from None


def carriers(hand: PosedHand, part: int, point) -> np.ndarray:
    """Returns [V] weights of the vertices near a point that sum to 1 and reproduce the point."""
    vertices = hand.vertices
    distance = np.linalg.norm(vertices - point, axis=1)
    distance = np.where(hand.weights[:, part] > 0.3, distance, np.inf)
    near = np.sort(np.argsort(distance, kind="stable")[:_NEIGHBOURS])
    # The weights of least norm (close vertices cheaper) under four conditions: sum and position.
    closeness = np.exp(-0.5 * (distance[near] / 12.0) ** 2) + 1e-3
    offset = np.concatenate([np.ones([len(near), 1]), (vertices[near] - point) / 10.0], axis=1)
    gram = np.einsum("n,ni,nj->ij", closeness, offset, offset)
    multiplier = np.linalg.solve(gram, np.array([1.0, 0.0, 0.0, 0.0]))
    result = np.zeros(len(vertices))
    result[near] = closeness * np.einsum("ni,i->n", offset, multiplier)
    return result


def _section(hand, part, along):
    """Centre and half extent [2], [2] of the finger across the bone, mm, at a height along it."""
    finger = slice(1 + 3 * ((part - 1) // 3), 4 + 3 * ((part - 1) // 3))
    own = hand.vertices[hand.weights[:, finger].sum(axis=1) > 0.5]
    local = np.einsum("ij,nj->ni", hand.frames[part], own - hand.heads[part])
    length = np.linalg.norm(hand.tails[part] - hand.heads[part])
    # Near the web and past the tip the finger has no full section: take the nearest that has.
    bone = (part - 1) % 3
    nearest, farthest = (0.6 if bone == 0 else 0.0), (0.8 if bone == 2 else 1.0)
    inside = np.clip(along, nearest * length, farthest * length)
    distance = np.abs(local[:, 2] - inside)
    reach = max(_SLICE_MM, np.sort(distance)[min(20, len(distance) - 1)])
    ring = local[distance <= reach, :2]
    low, high = ring.min(axis=0), ring.max(axis=0)
    return (low + high) / 2, (high - low) / 2


def _palm_edges(hand, along):
    """Radial mm of the palm's ulnar and radial edge; `along`: 0 at the wrist, 1 at the knuckles."""
    local = np.einsum("ij,nj->ni", hand.frames[0], hand.vertices - hand.heads[0])
    wrist = local[(np.abs(local[:, 2]) < 7.0) & (hand.weights[:, 0] > 0.5), 0]
    index, little = (
        np.dot(hand.frames[0, 0], hand.heads[part] - hand.heads[0]) for part in (4, 13)
    )
    return (
        wrist.min() + along * (little - wrist.min()),
        wrist.max() + along * (index - wrist.max()),
    )


def _palm_surface(hand, point):
    """Heights of palm and back over the plane at a point, mm: extremes of the vertices near it."""
    local = np.einsum("ij,nj->ni", hand.frames[0], hand.vertices - hand.heads[0])
    at = np.einsum("ij,j->i", hand.frames[0], point - hand.heads[0])
    own = hand.weights[:, 0] > 0.5
    distance = np.where(own, np.hypot(local[:, 0] - at[0], local[:, 2] - at[2]), np.inf)
    near = local[distance <= max(7.0, np.sort(distance)[8]), 1]
    return near.min(), near.max()


def _frame(distal, dorsal):
    z = unit(distal)
    x = unit(np.cross(dorsal, z))
    return np.stack([x, np.cross(z, x), z])
