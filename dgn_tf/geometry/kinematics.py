"""Forward and inverse kinematics of Eq. (12): T = T_p B^-1 L B.

T is camera_from_template of a part (a similarity: scale, rotation, translation), T_p its
parent's, B = bone_from_template a constant rigid transform, and L = [s R | t] the motion of the
bone in its own frame: the identity at rest, t = 0 (in template mm) for a pure rotation of the
joint, s the bone's scale relative to its parent. The root has no parent: L = B T B^-1.

Parts are ordered so that parents precede children; the root (part 0) is its own parent.
"""

import numpy as np
import tensorflow as tf


def rigid_inverse(transforms: np.ndarray) -> np.ndarray:
    """Inverts constant rigid transforms [..., 4, 4]."""
    transforms = np.asarray(transforms)
    inverse = np.zeros_like(transforms)
    rotation = np.swapaxes(transforms[..., :3, :3], -1, -2)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, transforms[..., :3, 3])
    inverse[..., 3, 3] = 1
    return inverse


def similarity_inverse(transforms: tf.Tensor) -> tf.Tensor:
    """Inverts similarities [..., 4, 4]; a scale below 1e-3 is taken as 1e-3 (never NaN)."""
    linear, translation = transforms[..., :3, :3], transforms[..., :3, 3:]
    inverse = tf.linalg.matrix_transpose(linear) / _squared_scale(linear)
    return affine(inverse, -(inverse @ translation))


def local_from_global(
    transforms: tf.Tensor, bone_from_template: np.ndarray, parents: np.ndarray
) -> tf.Tensor:
    """Recovers the local motions L of Eq. (12) from the global transforms T.

    Args:
        transforms: [B, P, 4, 4] camera_from_template, similarities, mm.
        bone_from_template: [P, 4, 4] constant rigid transforms B, mm.
        parents: [P] constant; the root is its own parent.

    Returns:
        [B, P, 4, 4] L = B T_p^-1 T B^-1; for the root B T B^-1.
    """
    parents, bone, bone_inverse = _constants(bone_from_template, parents, transforms.dtype)
    linear, translation = transforms[..., :3, :3], transforms[..., :3, 3:]
    children = np.arange(1, len(parents))
    parent_linear = tf.gather(linear, parents[children], axis=1)  # [B, P-1, 3, 3]
    to_parent = tf.linalg.matrix_transpose(parent_linear) / _squared_scale(parent_linear)
    # T_p^-1 T from the difference of the translations: the hand is half a metre away, and its
    # bones a few centimetres long.
    offset = translation[:, 1:] - tf.gather(translation, parents[children], axis=1)
    relative = affine(to_parent @ linear[:, 1:], to_parent @ offset)
    relative = tf.concat([affine(linear[:, :1], translation[:, :1]), relative], axis=1)
    return bone @ relative @ bone_inverse


def global_from_local(
    local: tf.Tensor, bone_from_template: np.ndarray, parents: np.ndarray
) -> tf.Tensor:
    """Poses the hand: the transforms T of Eq. (12) from the local motions L.

    Args, Returns: as `local_from_global`, the other way round.
    """
    parents, bone, bone_inverse = _constants(bone_from_template, parents, local.dtype)
    relative = bone_inverse @ local @ bone  # template_from_template, [B, P, 4, 4]
    levels = _levels(parents)
    place = {0: 0}
    posed = relative[:, :1]
    for level in levels[1:]:  # all the parts at one depth of the tree at once
        above = tf.gather(posed, [place[parents[part]] for part in level], axis=1)
        for part in level:
            place[part] = len(place)
        posed = tf.concat([posed, above @ tf.gather(relative, level, axis=1)], axis=1)
    return tf.gather(posed, [place[part] for part in range(len(parents))], axis=1)


def rotation_from_angles(angles: tf.Tensor) -> tf.Tensor:
    """Turns intrinsic angles [..., 3] (x, y, z; radians) into R = Rx Ry Rz, [..., 3, 3]."""
    (sx, sy, sz) = tf.unstack(tf.sin(angles), axis=-1)
    (cx, cy, cz) = tf.unstack(tf.cos(angles), axis=-1)
    rows = [
        [cy * cz, -cy * sz, sy],
        [cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy],
        [sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy],
    ]
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def angles_from_rotation(rotation: tf.Tensor) -> tf.Tensor:
    """Finds the angles of R = Rx Ry Rz; the inverse of `rotation_from_angles`.

    Args:
        rotation: [..., 3, 3] proper rotations.

    Returns:
        [..., 3] x and z in (-pi, pi], y in [-pi/2, pi/2], radians. Within about 0.06 degrees of
        y = +-pi/2 (gimbal lock) only x +- z is defined: z is 0 there. Gradients are finite
        everywhere.
    """
    r = rotation
    cos_y_squared = r[..., 0, 0] ** 2 + r[..., 0, 1] ** 2
    locked = cos_y_squared < 1e-6
    one, zero = tf.ones_like(cos_y_squared), tf.zeros_like(cos_y_squared)
    cos_y = tf.where(locked, zero, tf.sqrt(tf.where(locked, one, cos_y_squared)))
    y = _angle(r[..., 0, 2], cos_y)
    x = _angle(
        tf.where(locked, r[..., 2, 1], -r[..., 1, 2]), tf.where(locked, r[..., 1, 1], r[..., 2, 2])
    )
    z = _angle(tf.where(locked, zero, -r[..., 0, 1]), tf.where(locked, one, r[..., 0, 0]))
    return tf.stack([x, y, z], axis=-1)


def _angle(sine, cosine):
    """atan2, with 0 and a zero gradient at (0, 0): the arguments, not the results, are chosen."""
    nowhere = sine**2 + cosine**2 < 1e-12
    return tf.atan2(
        tf.where(nowhere, tf.zeros_like(sine), sine),
        tf.where(nowhere, tf.ones_like(cosine), cosine),
    )


def joint_angles(
    transforms: tf.Tensor, bone_from_template: np.ndarray, parents: np.ndarray
) -> tf.Tensor:
    """Finds the angles of every joint, and of the wrist, in its bone's frame.

    Args:
        transforms: [B, P, 4, 4] camera_from_template, similarities, mm.
        bone_from_template: [P, 4, 4] constant.
        parents: [P] constant.

    Returns:
        [B, P, 3] radians, see `angles_from_rotation`; for the root the rotation of the hand.
    """
    linear = local_from_global(transforms, bone_from_template, parents)[..., :3, :3]
    return angles_from_rotation(linear * tf.math.rsqrt(_squared_scale(linear)))


def scales(transforms: tf.Tensor) -> tf.Tensor:
    """Returns the scale [..., ] of similarities [..., 4, 4], at least 1e-3."""
    return tf.sqrt(_squared_scale(transforms[..., :3, :3])[..., 0, 0])


def affine(linear: tf.Tensor, translation: tf.Tensor) -> tf.Tensor:
    """Joins [..., 3, 3] and [..., 3, 1] to transforms [..., 4, 4]."""
    upper = tf.concat([linear, translation], axis=-1)  # [..., 3, 4]
    last = tf.constant([[0, 0, 0, 1]], upper.dtype)
    return tf.concat([upper, tf.zeros_like(upper[..., :1, :]) + last], axis=-2)


def _squared_scale(linear):
    """s^2 [..., 1, 1] of [..., 3, 3] = s R."""
    squared = tf.reduce_sum(linear**2, axis=[-2, -1], keepdims=True) / 3
    return tf.maximum(squared, 1e-6)


def _constants(bone_from_template, parents, dtype):
    parents = np.asarray(parents)
    if parents[0] != 0 or np.any(parents[1:] >= np.arange(1, len(parents))):
        raise ValueError(
            "Parents must precede their children and the root be its own parent, "
            f"got {parents.tolist()}."
        )
    bone = np.asarray(bone_from_template, np.float64)
    return parents, tf.constant(bone, dtype), tf.constant(rigid_inverse(bone), dtype)


def _levels(parents):
    """Parts by their depth in the tree."""
    depth = [0]
    for part in range(1, len(parents)):
        depth.append(depth[parents[part]] + 1)
    return [
        [part for part, at in enumerate(depth) if at == level] for level in range(max(depth) + 1)
    ]


# Linear blend skinning (Sec. 3.4).


def skinning_basis(rest: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Folds rest points and weights into one matrix, so that skinning is one matrix product.

    Args:
        rest: [V, 3] rest points, template frame, mm.
        weights: [V, P], rows sum to 1.

    Returns:
        [P*4, V] float32.
    """
    rest = np.pad(np.asarray(rest, np.float64), [(0, 0), (0, 1)], constant_values=1)  # [V, 4]
    weighted = np.asarray(weights, np.float64)[:, :, None] * rest[:, None]  # [V, P, 4]
    return weighted.reshape(len(rest), -1).T.astype(np.float32)


def skin(transforms: tf.Tensor, rest: np.ndarray, weights: np.ndarray) -> tf.Tensor:
    """Poses rest points by the blended transforms of the parts.

    Args:
        transforms: [B, P, 4, 4] camera_from_template of each part, mm.
        rest: [V, 3] constant rest points, template frame, mm.
        weights: [V, P] constant, rows sum to 1.

    Returns:
        [B, V, 3] posed points, camera frame, mm.
    """
    return skin_by_basis(transforms, tf.constant(skinning_basis(rest, weights)))


def skin_by_basis(transforms: tf.Tensor, basis: tf.Tensor) -> tf.Tensor:
    """`skin` with the `basis` [P*4, V] of `skinning_basis`."""
    basis = tf.cast(basis, transforms.dtype)
    # The hand is far from the camera and small: relative to its own place, float32 keeps
    # another two digits (and reduced-precision products of a GPU keep theirs).
    origin = transforms[:, :1, :3, 3]  # [B, 1, 3]
    columns = tf.concat(
        [transforms[:, :, :3, :3], (transforms[:, :, :3, 3] - origin)[..., tf.newaxis]], axis=-1
    )
    rows = tf.transpose(columns, [0, 2, 1, 3])  # [B, 3, P, 4]
    rows = tf.reshape(rows, [-1, basis.shape[0]])  # [B*3, P*4]
    posed = tf.reshape(rows @ basis, [-1, 3, basis.shape[1]])  # [B, 3, V]
    return tf.linalg.matrix_transpose(posed) + origin  # [B, V, 3]
