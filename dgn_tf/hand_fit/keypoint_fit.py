"""Fits a template to key points of many frames: palm, fingers, then everything."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.geometry.kinematics import angles_from_rotation, joint_angles, scales
from dgn_tf.geometry.similarity import fit_similarity, polar_rotation
from dgn_tf.hand_fit import residuals, solver
from dgn_tf.hand_fit.skeleton import Poses, Skeleton, posed_hands, room, skeleton

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


# A first pose in closed form: the palm by Eq. (3), then the fingers' bones down the chains.


# Where a finger's own scale begins. Metacarpals, the thumb's among them, keep the palm's: NYU's
# labels are those of a hand that is scaled so.
SCALED_PARTS = ("thumb2", "index1", "middle1", "ring1", "little1")
# Of a bone's moment, added to its diagonal: two points of a bone don't tell how it is turned about
# their line, and of all rotations that map the line this prefers the smallest.
_SMALLEST = 0.03
MIN_PALM_KEYPOINTS = 3


class KeypointHand:
    """A template's skeleton with key points that are carried mostly by one part each.

    Args:
        template: HandTemplate.
        names: of its key points, in their order; None for all.
        finger_scales: fingers have scales of their own, beside the hand's.
    """

    def __init__(self, template, names=None, finger_scales: bool = True):
        every = list(template.keypoint_names)
        chosen = [every.index(name) for name in names or every]
        scaled = (template.part_names[0],) + (SCALED_PARTS if finger_scales else ())
        weights = template.keypoint_weights[chosen].astype(np.float64)
        self.weights = weights / weights.sum(axis=1, keepdims=True)
        self.skeleton: Skeleton = skeleton(
            template, template.keypoints[chosen], self.weights, scaled=scaled
        )
        self.palm = np.flatnonzero(self.weights[:, 0] > 0.99)  # what the root alone carries

    def own(self, part: int) -> np.ndarray:
        """Indices of the key points that a part carries."""
        return np.flatnonzero(self.weights[:, part] > 0.5)

    def posed(self, poses: Poses) -> tuple[np.ndarray, np.ndarray]:
        """[N, P, 4, 4] camera_from_template and [N, J, 3] key points, mm."""
        return posed_hands(self.skeleton, np.zeros(0), *poses, room(self.skeleton))

    def fit_palm(self, keypoints: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Fits the palm's key points by a similarity, Eq. (3).

        Args:
            keypoints: [N, J, 3] mm, camera frame; anything where not valid.
            valid: [N, J] bool.

        Returns:
            [N, 4, 4] float64 camera_from_template, mm; the identity for frames with fewer than
            `MIN_PALM_KEYPOINTS` of the palm.
        """
        result = np.tile(np.eye(4), [len(keypoints), 1, 1])
        # The template's side of a fit is constant: frames that lack the same points go together.
        patterns, group = np.unique(valid[:, self.palm], axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            if pattern.sum() < MIN_PALM_KEYPOINTS:
                continue
            rows, which = np.flatnonzero(group.reshape(-1) == number), self.palm[pattern]
            rest, even = self.skeleton.points[which], np.ones([len(which), 1])
            result[rows] = fit_similarity(keypoints[rows][:, which], rest, even)[:, 0].numpy()
        return result

    def bone_scales(self, palm, keypoints: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Logarithms of scales, the palm's and each finger's relative to it, from distances.

        Args:
            palm: [N, 4, 4] of `fit_palm`.
            keypoints, valid: as there.

        Returns:
            [N, S] as in `Poses`; 0 where no bone of the finger has two valid points.
        """
        size = np.cbrt(np.maximum(np.linalg.det(palm[:, :3, :3]), 1e-9))
        parents, numbers = self.skeleton.parents, self.skeleton.scaled.copy()
        result = np.zeros([len(keypoints), numbers.max() + 1])
        result[:, 0] = np.log(size)
        product, square = np.zeros_like(result), np.zeros_like(result)
        for part in range(1, len(parents)):
            own = self.own(part)
            number = numbers[part] = max(numbers[part], numbers[parents[part]])
            for first, second in zip(own[:-1], own[1:], strict=True):
                both = valid[:, first] & valid[:, second]
                rest = np.linalg.norm(self.skeleton.points[first] - self.skeleton.points[second])
                seen = np.linalg.norm(keypoints[:, first] - keypoints[:, second], axis=-1)
                product[:, number] += np.where(both, rest * seen, 0.0)
                square[:, number] += np.where(both, rest**2, 0.0)
        known = square[:, 1:] > 0
        ratio = product[:, 1:] / np.where(known, square[:, 1:] * size[:, np.newaxis], 1.0)
        result[:, 1:] = np.log(np.clip(np.where(known, ratio, 1.0), 0.5, 2.0))
        return result

    def fit_chains(self, palm, keypoints: np.ndarray, valid: np.ndarray, log_scales) -> Poses:
        """Turns each bone to its own key points, parents first; without any it stays at rest.

        Args:
            palm, keypoints, valid: as in `bone_scales`; log_scales: [N, S] of it.
        """
        hand = self.skeleton
        # Proper also where all points of the palm are in one place.
        turn = polar_rotation(tf.constant(palm[:, :3, :3])).numpy().astype(np.float64)
        place = palm[:, :3, :3] @ hand.joints[0] + palm[:, :3, 3]
        angles = np.zeros([len(palm), len(hand.parents), 3])
        poses = Poses(turn, place, angles, log_scales)
        for part in range(1, len(hand.parents)):
            own = self.own(part)
            if not len(own):
                continue
            at_rest = self.posed(poses)[0][:, part]  # of the bone while its own angles are 0
            frame, joint = hand.bone_rotation[part], hand.joints[part]
            back = np.linalg.inv(at_rest[:, :3, :3])
            local = np.einsum(
                "nik,njk->nji", back, keypoints[:, own] - at_rest[:, np.newaxis, :3, 3]
            )
            there, here = (local - joint) @ frame, (hand.points[own] - joint) @ frame
            moment = np.einsum("nji,jk,nj->nik", there, here, valid[:, own].astype(np.float64))
            about = np.linalg.norm(moment, axis=(1, 2), keepdims=True)
            moment += (_SMALLEST * about + 1e-6) * np.eye(3)
            angles[:, part] = angles_from_rotation(polar_rotation(tf.constant(moment))).numpy()
        return poses
