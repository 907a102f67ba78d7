"""Fits hands that share a shape to many frames at once: Gauss-Newton, the poses eliminated."""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import kinematics
from dgn_tf.hand_fit import skeleton
from dgn_tf.hand_fit.residuals import FitWeights, SeenFrame, all_equations, room_for_rows
from dgn_tf.hand_fit.seen_frames import SeenFrames
from dgn_tf.hand_fit.shapes import Shapes
from dgn_tf.hand_fit.skeleton import ROOT

_DAMPING = 0.15  # per rad^2; of lengths the same share of a finger bone's square
_BONE_MM = 30.0
_LARGEST = 0.35  # rad (bones) that a step may change
_SHAPE_PRIOR = 0.003  # of the coefficients' squares, mm, against the mean over the frames


class Poses(NamedTuple):
    """N posed hands; float64.

    rotation: [N, 3, 3] of the root, camera_from_template.
    place: [N, 3] mm of the root's joint, camera frame.
    angles: [N, P, 3] radians about the bone frames' axes; the root's are 0.
    """

    rotation: np.ndarray
    place: np.ndarray
    angles: np.ndarray


@dataclasses.dataclass(frozen=True)
class JointFit:
    """N frames of one hand, fitted.

    Attributes:
        shape: [K] coefficients.
        poses: of the frames.
        energy: [N, 2] mm, of each frame where it began and the least that it came to.
    """

    shape: np.ndarray
    poses: Poses
    energy: np.ndarray


class JointFitter:
    """Lowers the frames' energy over their poses, and over the shape they share where wanted.

    Args:
        template: HandTemplate.
        shapes: K linear shapes of it.
        weights: of the energy's terms.
    """

    def __init__(self, template, shapes: Shapes, weights: FitWeights | None = None):
        self._template = template
        self._weights = weights or FitWeights()
        self.hand = skeleton.fit_hand(template, shapes)

    def __call__(
        self,
        seen: SeenFrames,
        steps: int,
        shape: np.ndarray | None = None,
        fit_shape: bool = True,
        poses: Poses | None = None,
    ) -> JointFit:
        """Fits frames.

        Args:
            seen: N frames; those with an estimate that is not finite are no use here.
            steps: of Gauss-Newton.
            shape: [K] where to begin; None: the mean shape.
            fit_shape: find the shape, too; else it stays as given.
            poses: where to begin; None: at the network's.
        """
        shapes = self.hand.shape_joints.shape[-1]
        shape = np.zeros(shapes) if shape is None else np.asarray(shape, np.float64)
        poses = self.start(seen) if poses is None else poses
        frames = SeenFrame(
            *(np.ascontiguousarray(getattr(seen, name)) for name in SeenFrame._fields)
        )
        square, right, energy = self._equations(shape, poses, frames)
        begun, least, kept = energy, energy.copy(), poses
        for _ in range(steps):
            change, moved = _solved(
                square, right, shape, _trust(energy, seen.confidence), fit_shape
            )
            shape = shape + moved
            poses = _moved(poses, change)
            square, right, energy = self._equations(shape, poses, frames)
            # A pose with less energy for a former shape is no better one.
            better = np.isfinite(energy) if fit_shape else energy < least
            kept = _where(better, poses, kept)
            least = np.where(better, energy, least)
            poses = kept if fit_shape else poses
        return JointFit(shape, kept, np.stack([begun, least], axis=1))

    def posed(self, shape: np.ndarray, poses: Poses) -> tuple[np.ndarray, np.ndarray]:
        """[N, P, 4, 4] rigid camera_from_template of the shaped hand, and [N, V, 3] mm."""
        return skeleton.posed_hands(self.hand, shape, *poses, skeleton.empty_pose(self.hand))

    def start(self, seen: SeenFrames) -> Poses:
        """The poses to begin at: the network's, with angles within the limits."""
        transforms = tf.constant(seen.transforms)
        scale = kinematics.scales(transforms[:, :1]).numpy()
        rotation = (seen.transforms[:, 0, :3, :3] / scale[..., np.newaxis]).astype(np.float64)
        template, limits = self._template, self.hand.limits
        angles = kinematics.joint_angles(
            transforms, template.bone_from_template, template.parents
        ).numpy()
        angles = np.clip(angles.astype(np.float64), limits[..., 0], limits[..., 1])
        angles[:, 0] = 0
        poses = Poses(rotation, np.zeros([len(rotation), 3]), angles)
        shape = np.zeros(self.hand.shape_joints.shape[-1])
        middle = self.posed(shape, poses)[1].mean(axis=1)
        return poses._replace(place=seen.sampled.mean(axis=1, dtype=np.float64) - middle)

    def _equations(self, shape, poses, frames):
        parameters = 3 + 3 * len(self.hand.joints) + len(shape)
        square = np.empty([len(poses.angles), parameters, parameters])
        right = np.empty(square.shape[:2])
        energy = np.empty(len(square))
        rows = room_for_rows(len(self.hand.vertices), frames.points.shape[1], parameters)
        all_equations(
            self.hand,
            self._weights,
            shape,
            *poses,
            frames,
            skeleton.empty_pose(self.hand),
            rows,
            square,
            right,
            energy,
        )
        return square, right, energy


def _solved(square, right, shape, trust, fit_shape):
    """The poses' changes [N, 3 + 3 P] and the shape's [K]: the poses' equations are eliminated."""
    pose = right.shape[1] - len(shape)
    damping = np.full(pose, _DAMPING)
    damping[3:ROOT] /= _BONE_MM**2
    own = square[:, :pose, :pose] + np.diag(damping)
    mixed = square[:, :pose, pose:]
    both = np.concatenate([mixed, right[:, :pose, np.newaxis]], axis=-1)
    solved = np.linalg.solve(own, both)
    by_shape, alone = solved[..., :-1], solved[..., -1]
    if not fit_shape:
        return alone, np.zeros_like(shape)
    share = trust / trust.sum()
    left = square[:, pose:, pose:] - np.swapaxes(mixed, 1, 2) @ by_shape
    left = np.einsum("n,nij->ij", share, left) + _SHAPE_PRIOR * np.eye(len(shape))
    wanted = right[:, pose:] - np.einsum("npk,np->nk", mixed, alone)
    wanted = share @ wanted - _SHAPE_PRIOR * shape
    moved = np.linalg.solve(left, wanted)
    return alone - by_shape @ moved, moved


def _moved(poses: Poses, change) -> Poses:
    """The poses after a step: turns in radians, moves in mm."""
    change = change.copy()
    change[:, 3:ROOT] /= _BONE_MM
    change = np.clip(change, -_LARGEST, _LARGEST)
    turn = kinematics.rotation_from_angles(tf.constant(change[:, :3])).numpy()
    angles = poses.angles.copy()
    angles[:, 1:] += change[:, ROOT:].reshape(len(angles), -1, 3)
    return Poses(turn @ poses.rotation, poses.place + _BONE_MM * change[:, 3:ROOT], angles)


def _where(chosen, poses, others) -> Poses:
    """Of each frame the first of two poses, or the second."""
    return Poses(
        *(
            np.where(chosen.reshape([-1] + [1] * (a.ndim - 1)), a, b)
            for a, b in zip(poses, others, strict=True)
        )
    )


def _trust(energy, confidence):
    """[N] say of a frame in the shape: none where the network is lost.

    Near the squared confidence up to the frames' median energy, near 0 from twice as much on.
    """
    return confidence**2 / (1 + (energy / (1.3 * np.median(energy))) ** 6)
