"""Bone frames (Sec. 3.4, footnote 1) and joint limits of a five-fingered hand."""

import numpy as np

from data_prep import hand_parts

# Degrees from the straight finger: flexion (+ into the palm), abduction as the angle between the
# finger and the palm's z axis seen from the back (+ to the thumb), twist. After Kapandji, The
# Physiology of the Joints, vol. 1, and Lin, Wu and Huang, Modeling the Constraints of Human Hand
# Motion (2000).
_KNUCKLE_FLEXION = (-20, 90)
_KNUCKLE_DIRECTION = {"index": (-8, 22), "middle": (-14, 12), "ring": (-24, 8), "little": (-38, 4)}
_KNUCKLE_TWIST = (-5, 5)
_MIDDLE_FLEXION = (-3, 108)
_LAST_FLEXION = (-6, 78)
# The thumb's saddle joint, from MakeHuman's rest pose: flexion (across the palm), palmar abduction,
# twist.
_THUMB = {
    1: ((-15, 35), (-22, 25), (-10, 25)),
    2: ((-10, 58), (-8, 8), (-3, 3)),
    3: ((-15, 80), (0, 0), (0, 0)),
}
# That rest pose: direction of the first bone and flexion axis in the palm's frame, and how far the
# other two joints are bent.
_THUMB_DIRECTION, _THUMB_AXIS = (0.640, -0.447, 0.625), (-0.078, -0.847, -0.526)
_THUMB_BEND = {2: 8.4, 3: 14.1}
# Metacarpals, where a hand has them apart: flexion to either side and abduction. Those of ring and
# little finger move against the carpals, the others hardly.
_METACARPAL = {"index": (2, 2), "middle": (2, 2), "ring": (6, 3), "little": (10, 4)}

# A finger bent by less has no flexion axis of its own.
_STRAIGHT_SINE = 0.02
# About what it curls then, in the palm's frame; the thumb's is that of the hand that ships.
_USUAL_AXIS = {"thumb": (-0.04, -0.83, -0.56)}


def bone_frames(joints, tips, part_names):
    """Returns [P, 4, 4] float64, bone_from_template; see `HandTemplate.bone_from_template`.

    Args:
        joints: [P, 3] mm, joint origins in the palm's frame (x radial, y dorsal, z distal).
        tips: [5, 3] mm, ends of the last bones.
        part_names: P canonical names, see `hand_parts`.
    """
    frames = np.tile(np.eye(4), [len(joints), 1, 1])
    parents = hand_parts.parents(part_names)
    for part, name in enumerate(part_names):
        if name == "palm":
            continue
        # LibHand's metacarpals all begin in the middle of the palm: the way from there to a knuckle
        # runs across the hand. Knuckles count their angles from the way from the wrist.
        behind = 0 if name.endswith("1") else parents[part]
        z = unit(joints[part] - joints[behind])
        x = np.array([1.0, 0.0, 0.0])
        if not name.endswith("0"):
            x = flexion_axis(
                finger_chain(joints, tips, part_names, name[:-1]), usual_axis(name[:-1])
            )
        x = unit(x - z * np.dot(x, z))
        rotation = np.stack([x, np.cross(z, x), z])
        frames[part, :3, :3] = rotation
        frames[part, :3, 3] = -np.einsum("ij,j->i", rotation, joints[part])
    frames[0, :3, 3] = -joints[0]
    return frames


def finger_chain(joints, tips, part_names, finger):
    """Returns [4, 3] mm, the joints of a finger and its tip."""
    number = hand_parts.FINGERS.index(finger)
    return np.concatenate([joints[hand_parts.chain(part_names, finger)], tips[number : number + 1]])


def usual_axis(finger) -> np.ndarray:
    """Returns [3] the axis about which a straight finger curls, in the palm's frame."""
    return np.array(_USUAL_AXIS.get(finger, (1.0, 0.0, 0.0)))


def flexion_axis(chain, usual):
    """Returns the unit axis about which a finger at rest, joints and tip [4, 3], is curled.

    It is the usual one [3] for a finger at rest straight, or bent backwards.
    """
    first, second, third = np.diff(chain, axis=0)
    axis = np.cross(first, second) + np.cross(first, third) + np.cross(second, third)
    lengths = np.linalg.norm([first, second, third], axis=1)
    straight = np.linalg.norm(axis) < _STRAIGHT_SINE * 3 * lengths.max() * lengths.min()
    return unit(usual if straight or np.dot(axis, usual) < 0 else axis)


def joint_limits(joints, tips, frames, part_names, thumb_offset=0.0):
    """Returns [P, 3, 2] float64 rad, lowest and highest angle from the rest pose about x, y, z.

    Args:
        joints, tips, part_names: as for `bone_frames`.
        frames: [P, 4, 4] what it returned.
        thumb_offset: [3, 3] degrees, see `thumb_offset`; 0 for MakeHuman's hand itself.
    """
    offset = np.broadcast_to(thumb_offset, [3, 3])
    limits = np.zeros([len(joints), 3, 2])
    flexion = rest_flexion(joints, tips, frames, part_names)
    for part, name in enumerate(part_names):
        if name == "palm":
            continue
        finger, bone = name[:-1], int(name[-1])
        if finger == "thumb":
            limits[part] = np.array(_THUMB[bone]) + offset[bone - 1, :, None]
            continue
        rest = np.degrees(flexion[part])
        if bone == 0:
            limits[part, :2] = np.multiply.outer(_METACARPAL[finger], (-1, 1))
        elif bone == 1:
            seen = joints[part + 1] - joints[part]
            spread = np.degrees(np.arctan2(seen[0], seen[2]))
            limits[part] = (
                np.array(_KNUCKLE_FLEXION) - rest,
                np.array(_KNUCKLE_DIRECTION[finger]) - spread,
                _KNUCKLE_TWIST,
            )
        else:
            limits[part, 0] = np.array(_MIDDLE_FLEXION if bone == 2 else _LAST_FLEXION) - rest
    # The rest pose is within reach, also of a hand that rests with fingers bent backwards.
    return np.radians(
        np.stack([np.minimum(limits[..., 0], 0), np.maximum(limits[..., 1], 0)], axis=-1)
    )


def thumb_offset(joints, tips, frames, part_names) -> np.ndarray:
    """Returns [3, 3] degrees, the angles of its joints that bring a thumb into MakeHuman's rest
    pose, from which its limits are counted; see `joint_limits`."""
    points = finger_chain(joints, tips, part_names, "thumb")
    now = axes(points[1] - points[0], flexion_axis(points, usual_axis("thumb")))
    turn = np.einsum("ki,kj->ij", axes(_THUMB_DIRECTION, _THUMB_AXIS), now)
    flexion = np.degrees(rest_flexion(joints, tips, frames, part_names))
    first, second, third = hand_parts.chain(part_names, "thumb")
    frame = frames[first, :3, :3]
    offset = np.zeros([3, 3])
    offset[0] = np.degrees(angles_of(np.einsum("ij,jk,lk->il", frame, turn, frame)))
    offset[1, 0] = _THUMB_BEND[2] - flexion[second]
    offset[2, 0] = _THUMB_BEND[3] - flexion[third]
    return offset


def rest_flexion(joints, tips, frames, part_names):
    """Returns [P] rad, the angle about the flexion axis from parent to bone at rest."""
    result = np.zeros(len(joints))
    for part, name in enumerate(part_names):
        if name == "palm" or name.endswith("0"):
            continue
        finger = hand_parts.FINGERS.index(name[:-1])
        end = tips[finger] if name.endswith("3") else joints[part + 1]
        direction = np.einsum("ij,j->i", frames[part, :3, :3], end - joints[part])
        result[part] = np.arctan2(-direction[1], direction[2])
    return result


def unit(vector):
    """Returns the vector at length 1."""
    return vector / np.linalg.norm(vector)


def axes(direction, axis) -> np.ndarray:
    """Returns [3, 3] rows: an orthonormal frame with z along a direction, x nearest to an axis."""
    z = unit(np.asarray(direction, np.float64))
    x = unit(axis - z * np.dot(axis, z))
    return np.stack([x, np.cross(z, x), z])


def angles_of(rotation) -> np.ndarray:
    """Returns [3] rad with Rx Ry Rz = rotation [3, 3]; inverts `posing.rotation_from_angles`."""
    return np.array(
        [
            np.arctan2(-rotation[1, 2], rotation[2, 2]),
            np.arcsin(np.clip(rotation[0, 2], -1.0, 1.0)),
            np.arctan2(-rotation[0, 1], rotation[0, 0]),
        ]
    )
