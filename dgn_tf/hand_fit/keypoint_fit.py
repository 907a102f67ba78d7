"""Fits a template to key points of many frames: palm, fingers, then everything."""

from typing import NamedTuple

import numpy as np

from dgn_tf.geometry.kinematics import joint_angles, scales
from dgn_tf.hand_fit.closed_form import MIN_PALM_KEYPOINTS, bone_scales, fit_chains, fit_palm
from dgn_tf.hand_fit.keypoint_refine import RefineConfig, refine
from dgn_tf.hand_fit.rig import KeypointRig

FINGER_SCALES = ("frame", "subject", "palm")


class Fit(NamedTuple):
    """N fitted frames of P parts and J key points.

    transforms: [N, P, 4, 4] float64 camera_from_template, mm.
    angles: [N, P, 3] rad, in the bones' frames; the root's are the hand's rotation.
    bone_scales: [N, P] scale of each part, mm a template mm.
    palm_residual_mm, residual_mm: [N, J] distances after the palm's closed form (NaN but for the
        palm's key points) and at the end; NaN for key points that are not valid.
    fitted: [N] bool; the others lack key points of the palm and stay at rest, at the origin.
    observed: [N, P] bool, key points that tell of the part's turn are valid.
    """

    transforms: np.ndarray
    angles: np.ndarray
    bone_scales: np.ndarray
    palm_residual_mm: np.ndarray
    residual_mm: np.ndarray
    fitted: np.ndarray
    observed: np.ndarray


def fit_keypoints(
    template,
    keypoints: np.ndarray,
    names=None,
    finger_scales: str = "frame",
    subjects: np.ndarray | None = None,
    config: RefineConfig | None = None,
) -> Fit:
    """Fits the template to key points.

    Args:
        template: HandTemplate.
        keypoints: [N, J, 3] mm, camera frame; NaN where missing.
        names: J of the template's key points; None for all, in its order.
        finger_scales: "frame": each finger has a scale of its own in each frame; "subject": one
            for all frames of a subject, the median; "palm": the palm's.
        subjects: [N] numbers of the frames' subjects; None for one.
        config: of the last step; None: the defaults.

    Raises:
        ValueError: shapes that don't fit, or no such kind of scale.
    """
    rig = KeypointRig.of(template, tuple(names or ()), finger_scales != "palm")
    keypoints = np.asarray(keypoints, np.float64)
    if keypoints.shape[1:] != rig.keypoints.shape or finger_scales not in FINGER_SCALES:
        raise ValueError(
            f"fit_keypoints wants key points [N, {len(rig.keypoints)}, 3] and one of "
            f"{FINGER_SCALES}, got {keypoints.shape} and {finger_scales!r}."
        )
    valid = np.isfinite(keypoints).all(axis=-1)
    fitted = valid[:, rig.palm_keypoints].sum(axis=1) >= MIN_PALM_KEYPOINTS
    used = valid & fitted[:, None]
    keypoints = np.where(used[..., None], keypoints, 0.0)
    root = fit_palm(rig, keypoints, used)
    known = bone_scales(rig, root, keypoints, used)
    if finger_scales == "subject":
        subjects = np.zeros(len(known), np.int64) if subjects is None else subjects
        for subject in np.unique(subjects):
            own = (subjects == subject) & fitted
            if own.any():
                known[subjects == subject] = np.median(known[own], axis=0)
    start = fit_chains(rig, root, keypoints, used, known)
    pose = refine(
        rig, start, keypoints, used, config or RefineConfig(), fixed_scales=finger_scales != "frame"
    )
    transforms = rig.transforms(pose)
    palm = np.full(valid.shape, np.nan)
    carried = np.einsum("nik,jk->nji", root[:, :3, :3], rig.keypoints) + root[:, None, :3, 3]
    own = rig.palm_keypoints
    palm[:, own] = _distances(carried, keypoints, used)[:, own]
    posed = rig.posed_keypoints(transforms).numpy()
    return Fit(
        transforms.numpy(),
        joint_angles(transforms, rig.bone_from_template, rig.parents).numpy(),
        scales(transforms).numpy(),
        palm,
        _distances(posed, keypoints, used),
        fitted,
        _observed(rig, used),
    )


def _distances(posed, keypoints, used):
    return np.where(used, np.linalg.norm(posed - keypoints, axis=-1), np.nan)


def _observed(rig, used):
    """[N, P]: a part is told by its own key points, one without any by those of its children."""
    observed = np.zeros([len(used), len(rig.parents)], bool)
    for part in reversed(range(len(rig.parents))):
        own = rig.own_keypoints(part)
        children = np.flatnonzero((rig.parents == part) & (np.arange(len(rig.parents)) != part))
        observed[:, part] = (
            used[:, own].any(axis=1) if len(own) else observed[:, children].any(axis=1)
        )
    return observed
