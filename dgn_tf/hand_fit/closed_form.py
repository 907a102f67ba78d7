"""A first pose in closed form: the palm by Eq. (3), then the fingers' bones down the chains."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry.kinematics import angles_from_rotation, similarity_inverse
from dgn_tf.geometry.similarity import fit_similarity, polar_rotation
from dgn_tf.hand_fit.rig import KeypointRig, Pose

# Of a bone's moment, added to its diagonal: two points of a bone don't tell how it is turned about
# their line, and of all rotations that map the line this prefers the smallest.
_SMALLEST = 0.03
MIN_PALM_KEYPOINTS = 3


def fit_palm(rig: KeypointRig, keypoints: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Fits the palm's key points by a similarity, Eq. (3).

    Args:
        rig: skeleton and key points.
        keypoints: [N, J, 3] mm, camera frame; anything where not valid.
        valid: [N, J] bool.

    Returns:
        [N, 4, 4] float64 camera_from_template, mm; the identity for frames with fewer than
        `MIN_PALM_KEYPOINTS` of the palm.
    """
    palm = rig.palm_keypoints
    result = np.tile(np.eye(4), [len(keypoints), 1, 1])
    # The template's side of a fit is constant: frames that lack the same points go together.
    patterns, group = np.unique(valid[:, palm], axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if pattern.sum() < MIN_PALM_KEYPOINTS:
            continue
        rows, which = np.flatnonzero(group.reshape(-1) == number), palm[pattern]
        fitted = fit_similarity(
            keypoints[rows][:, which], rig.keypoints[which], np.ones([len(which), 1])
        )
        result[rows] = fitted[:, 0].numpy()
    return result


def fit_chains(
    rig: KeypointRig,
    root: np.ndarray,
    keypoints: np.ndarray,
    valid: np.ndarray,
    log_scales: np.ndarray | None = None,
) -> Pose:
    """Turns each bone to its own key points, parents first, and scales the fingers.

    Args:
        rig: skeleton and key points.
        root: [N, 4, 4] of `fit_palm`.
        keypoints, valid: see `fit_palm`.
        log_scales: [N, S] known scales; None to find them from distances between the points of
            each bone.

    Returns:
        The poses; a bone without valid points stays as it is at rest.
    """
    count = len(keypoints)
    if log_scales is None:
        log_scales = bone_scales(rig, root, keypoints, valid)
    angles = np.zeros([count, len(rig.parents), 3])
    points = tf.constant(np.where(valid[..., None], keypoints, 0.0))
    for part in range(1, len(rig.parents)):
        own = rig.own_keypoints(part)
        if not len(own):
            continue
        pose = Pose(tf.constant(root), tf.constant(angles), tf.constant(log_scales))
        at_rest = rig.transforms(pose)[:, part]  # of the bone while its own angles are 0
        back = similarity_inverse(at_rest)
        local = tf.einsum("nik,njk->nji", back[:, :3, :3], tf.gather(points, own, axis=1))
        local += back[:, tf.newaxis, :3, 3]  # [N, K, 3] template frame
        frame = rig.bone_from_template[part, :3, :3]
        there = tf.einsum("ik,njk->nji", frame, local - rig.joints[part])
        here = (rig.keypoints[own] - rig.joints[part]) @ frame.T
        moment = tf.einsum("nji,jk,nj->nik", there, here, valid[:, own].astype(np.float64))
        size = tf.norm(moment, axis=[-2, -1], keepdims=True)
        moment += (_SMALLEST * size + 1e-6) * tf.eye(3, dtype=tf.float64)
        rotation = polar_rotation(tf.cast(moment, tf.float32))
        angles[:, part] = angles_from_rotation(rotation).numpy()
    return Pose(tf.constant(root), tf.constant(angles), tf.constant(log_scales))


def bone_scales(
    rig: KeypointRig, root: np.ndarray, keypoints: np.ndarray, valid: np.ndarray
) -> np.ndarray:
    """Logarithm of each finger's scale relative to the palm's, from points of the same bone.

    Args, shapes: as `fit_chains`.

    Returns:
        [N, S]; 0 where no bone of the finger has two valid points.
    """
    palm = np.cbrt(np.maximum(np.linalg.det(root[:, :3, :3]), 1e-9))
    result = np.zeros([len(keypoints), len(rig.scaled)])
    for number, parts in enumerate(rig.finger_of_scale()):
        product, square = np.zeros(len(keypoints)), np.zeros(len(keypoints))
        for part in parts:
            own = rig.own_keypoints(part)
            for first, second in zip(own[:-1], own[1:], strict=True):
                both = valid[:, first] & valid[:, second]
                rest = np.linalg.norm(rig.keypoints[first] - rig.keypoints[second])
                seen = np.linalg.norm(keypoints[:, first] - keypoints[:, second], axis=-1)
                product += np.where(both, rest * seen, 0.0)
                square += np.where(both, rest**2, 0.0)
        ratio = product / np.where(square > 0, square * palm, 1.0)
        result[:, number] = np.log(np.clip(np.where(square > 0, ratio, 1.0), 0.5, 2.0))
    return result
