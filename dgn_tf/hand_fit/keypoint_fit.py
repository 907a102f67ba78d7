"""Fits a template to key points of many frames: palm, fingers, then everything."""

from typing import NamedTuple

import numpy as np

from dgn_tf.geometry.kinematics import joint_angles, scales
from dgn_tf.hand_fit import residuals, solver
from dgn_tf.hand_fit.closed_form import MIN_PALM_KEYPOINTS, KeypointHand
from dgn_tf.hand_fit.skeleton import Poses, room

FINGER_SCALES = ("frame", "subject", "palm")
# Weights of two rounds of steps. The first has six times those of angles, so that no bone flips to
# where the second could not bring it back from. Of a turn about the bone's own axis (z) key points
# on the bone tell little.
_WEIGHTS = [
    residuals.KeypointWeights(
        limit=(times, times, 2 * times),
        far_limit=20.0,
        far=0.35,
        rest=0.05 * times,
        robust=1.0,
        scale=0.5,
    )
    for times in (6.0, 1.0)
]
_STEPS = 15  # of each round
_START_DAMPING = 1e-2


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
) -> Fit:
    """Fits the template to key points.

    Args:
        template: HandTemplate.
        keypoints: [N, J, 3] mm, camera frame; NaN where missing.
        names: J of the template's key points; None for all, in its order.
        finger_scales: "frame": each finger has a scale of its own in each frame; "subject": one
            for all frames of a subject, the median; "palm": the palm's.
        subjects: [N] numbers of the frames' subjects; None for one.

    Raises:
        ValueError: shapes that don't fit, or no such kind of scale.
    """
    hand = KeypointHand(template, names, finger_scales != "palm")
    keypoints = np.asarray(keypoints, np.float64)
    if keypoints.shape[1:] != hand.skeleton.points.shape or finger_scales not in FINGER_SCALES:
        raise ValueError(
            f"fit_keypoints wants key points [N, {len(hand.skeleton.points)}, 3] and one of "
            f"{FINGER_SCALES}, got {keypoints.shape} and {finger_scales!r}."
        )
    valid = np.isfinite(keypoints).all(axis=-1)
    fitted = valid[:, hand.palm].sum(axis=1) >= MIN_PALM_KEYPOINTS
    used = valid & fitted[:, None]
    keypoints = np.where(used[..., None], keypoints, 0.0)
    root = hand.fit_palm(keypoints, used)
    known = hand.bone_scales(root, keypoints, used)
    if finger_scales == "subject":
        subjects = np.zeros(len(known), np.int64) if subjects is None else subjects
        for subject in np.unique(subjects):
            own = (subjects == subject) & fitted
            if own.any():
                known[subjects == subject, 1:] = np.median(known[own, 1:], axis=0)
    poses = hand.fit_chains(root, keypoints, used, known)
    for weights in _WEIGHTS:
        poses = refine(hand, weights, poses, known, keypoints, used, finger_scales != "frame")
    transforms, posed = hand.posed(poses)
    carried = np.einsum("nik,jk->nji", root[:, :3, :3], hand.skeleton.points) + root[:, None, :3, 3]
    of_palm = used & np.isin(np.arange(used.shape[1]), hand.palm)
    bones, parents = template.bone_from_template, template.parents
    return Fit(
        transforms,
        joint_angles(transforms, bones, parents).numpy(),
        scales(transforms).numpy(),
        _distances(carried, keypoints, of_palm),
        _distances(posed, keypoints, used),
        fitted,
        _observed(hand, used),
    )


def refine(hand, weights, poses: Poses, wanted, keypoints, valid, fixed: bool) -> Poses:
    """One round of steps over all parameters of each frame.

    Args:
        hand: KeypointHand; weights: KeypointWeights.
        poses: where to begin.
        wanted: [N, S] log scales that the fingers' are drawn to; fixed: they are kept.
        keypoints: [N, J, 3] mm; valid: [N, J] bool.
    """
    bones = hand.skeleton
    parameters = bones.sizes[0]
    rows = residuals.Rows(
        np.empty([keypoints.shape[1] * 3, parameters]), np.empty(keypoints[0].size)
    )

    def equations(_, poses):
        out = solver.equations_of(len(keypoints), parameters)
        residuals.keypoint_equations(
            bones, weights, fixed, wanted, *poses, keypoints, valid, room(bones), rows, out
        )
        return out

    # A parameter that nothing tells about has a zero row: the constant keeps it solvable.
    damping = solver.Damping(np.full(parameters, 1e-9), _START_DAMPING)
    return solver.minimise(equations, poses, np.zeros(0), _STEPS, damping).poses


def _distances(posed, keypoints, used):
    return np.where(used, np.linalg.norm(posed - keypoints, axis=-1), np.nan)


def _observed(hand, used):
    """[N, P]: a part is told by its own key points, one without any by those of its children."""
    parents = hand.skeleton.parents
    observed = np.zeros([len(used), len(parents)], bool)
    for part in reversed(range(len(parents))):
        own = hand.own(part)
        children = np.flatnonzero((parents == part) & (np.arange(len(parents)) != part))
        observed[:, part] = (
            used[:, own].any(axis=1) if len(own) else observed[:, children].any(axis=1)
        )
    return observed
