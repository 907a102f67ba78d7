"""Poses a hand by joint angles in numpy (Eq. 12), for building and judging the template."""

import numpy as np


def rotation_from_angles(angles) -> np.ndarray:
    """Returns [..., 3, 3], Rx Ry Rz of angles [..., 3] rad."""
    cos, sin = np.cos(angles), np.sin(angles)
    result = np.eye(3)
    for axis in range(3):
        turn = np.zeros([*angles.shape[:-1], 3, 3])
        turn[..., axis, axis] = 1
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[..., i, i] = turn[..., j, j] = cos[..., axis]
        turn[..., i, j], turn[..., j, i] = -sin[..., axis], sin[..., axis]
        result = result @ turn
    return result


def transforms_from_angles(angles, bone_from_template, parents) -> np.ndarray:
    """Returns [N, P, 4, 4], where the parts go for joint angles [N, P, 3] rad; rest is identity."""
    local = np.zeros([*angles.shape[:2], 4, 4])
    local[..., :3, :3] = rotation_from_angles(angles)
    local[..., 3, 3] = 1
    frames = np.asarray(bone_from_template, np.float64)
    result = np.linalg.inv(frames) @ local @ frames
    for part in range(1, len(frames)):
        result[:, part] = result[:, parents[part]] @ result[:, part]
    return result


def skin(transforms, vertices, weights) -> np.ndarray:
    """Linear blend skinning of vertices [V, 3] by transforms [N, P, 4, 4]; returns [N, V, 3]."""
    homogeneous = np.pad(np.asarray(vertices, np.float64), [(0, 0), (0, 1)], constant_values=1)
    basis = (np.asarray(weights, np.float64)[:, :, None] * homogeneous[:, None]).reshape(
        len(homogeneous), -1
    )  # [V, P*4]
    rows = transforms[:, :, :3].transpose(0, 2, 1, 3).reshape(len(transforms), 3, -1)
    return np.matmul(rows, basis.T).transpose(0, 2, 1)


def pose_template(template, angles) -> np.ndarray:
    """Returns [N, V, 3] mm, the template posed by joint angles [N, P, 3] rad."""
    transforms = transforms_from_angles(angles, template.bone_from_template, template.parents)
    return skin(transforms, template.vertices, template.skinning_weights)


def sample_poses(template, count: int, seed: int = 0) -> np.ndarray:
    """Returns [N, V, 3] mm, joints uniform within their limits, the neutral shape."""
    rng = np.random.default_rng(seed)
    low, high = template.joint_limits[..., 0], template.joint_limits[..., 1]
    return pose_template(template, rng.uniform(low, high, [count, *low.shape]))
