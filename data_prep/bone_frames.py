"""Bone frames (Sec. 3.4, footnote 1) and joint limits of a five-fingered hand."""

import numpy as np

# Degrees from the straight finger: flexion (+ into the palm), abduction as the angle between the
# finger and the palm's z axis seen from the back (+ to the thumb), twist. After Kapandji, The
# Physiology of the Joints, vol. 1, and Lin, Wu and Huang, Modeling the Constraints of Human Hand
# Motion (2000).
_KNUCKLE_FLEXION = (-20, 90)
_KNUCKLE_DIRECTION = {"index": (-8, 22), "middle": (-14, 12), "ring": (-24, 8), "little": (-38, 4)}
_KNUCKLE_TWIST = (-5, 5)
_MIDDLE_FLEXION = (-3, 108)
_LAST_FLEXION = (-6, 78)
# The thumb's saddle joint, from its rest pose: flexion (across the palm), palmar abduction, twist.
_THUMB = {1: ((-15, 35), (-22, 25), (-10, 25)), 2: ((-10, 58), (-8, 8), (-3, 3)),
          3: ((-15, 80), (0, 0), (0, 0))}


def bone_frames(joints, tips, parents):
    """Returns [P, 4, 4] float64, bone_from_template; see `HandTemplate.bone_from_template`.

    Args:
        joints: [P, 3] mm, joint origins in the palm's frame (y dorsal, z distal).
        tips: [5, 3] mm, ends of the last bones.
        parents: [P].
    """
    frames = np.tile(np.eye(4), [len(joints), 1, 1])
    for part in range(1, len(joints)):
        finger = (part - 1) // 3
        chain = np.concatenate([joints[1 + 3 * finger : 4 + 3 * finger], tips[finger : finger + 1]])
        z = _unit(joints[part] - joints[parents[part]])
        x = flexion_axis(chain)
        x = _unit(x - z * np.dot(x, z))
        rotation = np.stack([x, np.cross(z, x), z])
        frames[part, :3, :3] = rotation
        frames[part, :3, 3] = -np.einsum("ij,j->i", rotation, joints[part])
    frames[0, :3, 3] = -joints[0]
    return frames


def flexion_axis(chain):
    """Returns the unit axis about which a finger at rest, joints and tip [4, 3], is curled."""
    first, second, third = np.diff(chain, axis=0)
    return _unit(np.cross(first, second) + np.cross(first, third) + np.cross(second, third))


def joint_limits(joints, tips, frames, part_names):
    """Returns [P, 3, 2] float64 rad, lowest and highest angle from the rest pose about x, y, z."""
    limits = np.zeros([len(joints), 3, 2])
    flexion = rest_flexion(joints, tips, frames)
    for part, name in enumerate(part_names):
        if name == "palm":
            continue
        finger, bone = name[:-1], int(name[-1])
        if finger == "thumb":
            limits[part] = _THUMB[bone]
            continue
        rest = np.degrees(flexion[part])
        if bone == 1:
            seen = joints[part + 1] - joints[part]
            spread = np.degrees(np.arctan2(seen[0], seen[2]))
            limits[part] = (np.array(_KNUCKLE_FLEXION) - rest,
                            np.array(_KNUCKLE_DIRECTION[finger]) - spread, _KNUCKLE_TWIST)
        else:
            limits[part, 0] = np.array(_MIDDLE_FLEXION if bone == 2 else _LAST_FLEXION) - rest
    return np.radians(limits)


def rest_flexion(joints, tips, frames):
    """Returns [P] rad, the angle about the flexion axis from parent to bone at rest."""
    result = np.zeros(len(joints))
    for part in range(1, len(joints)):
        finger, bone = divmod(part - 1, 3)
        end = tips[finger] if bone == 2 else joints[part + 1]
        direction = np.einsum("ij,j->i", frames[part, :3, :3], end - joints[part])
        result[part] = np.arctan2(-direction[1], direction[2])
    return result


def _unit(vector):
    return vector / np.linalg.norm(vector)
