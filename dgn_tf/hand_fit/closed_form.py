"""A first pose in closed form: the palm by Eq. (3), then the fingers' bones down the chains."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry.kinematics import angles_from_rotation
from dgn_tf.geometry.similarity import fit_similarity, polar_rotation
from dgn_tf.hand_fit.skeleton import Poses, Skeleton, posed_hands, room, skeleton

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
