"""Fits hands that share a shape to what a network and a camera said of many frames."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import kinematics
from dgn_tf.hand_fit import residuals, solver
from dgn_tf.hand_fit.seen_frames import SeenFrames
from dgn_tf.hand_fit.shapes import Shapes
from dgn_tf.hand_fit.skeleton import ROOT, Poses, posed_hands, room, skeleton

_DAMPING = 0.15  # per rad^2; of lengths the same share of a finger bone's square


class ShapeFit:
    """Lowers the frames' energy over their poses, and over the shape they share where wanted.

    Args:
        template: HandTemplate.
        shapes: K linear shapes of it.
        weights: of the energy's terms.
    """

    def __init__(
        self,
        template,
        shapes: Shapes,
        weights: residuals.FitWeights | None = None,
    ):
        self._template, self._weights = template, weights or residuals.FitWeights()
        self.hand = skeleton(
            template, template.vertices, template.skinning_weights, shapes.joints, shapes.vertices
        )
        self._faces = np.ascontiguousarray(template.faces, np.int32)
        self.damping = np.full(self.hand.sizes[0], _DAMPING)
        self.damping[3:ROOT] /= solver.BONE_MM**2

    def __call__(
        self, seen: SeenFrames, steps: int, shape: np.ndarray | None = None
    ) -> solver.Solution:
        """Fits frames; those with an estimate that is not finite are no use here.

        Args:
            seen: N frames.
            steps: of Gauss-Newton.
            shape: [K] that the hand has; None: find it, from the mean shape on.
        """
        frames = residuals.SeenFrame(
            *(np.ascontiguousarray(getattr(seen, name)) for name in residuals.SeenFrame._fields)
        )
        return solver.minimise(
            lambda shape, poses: self.equations(shape, poses, frames),
            self.start(seen),
            np.zeros(self.hand.sizes[1]) if shape is None else np.asarray(shape, np.float64),
            steps,
            solver.Damping(self.damping),
            (lambda energy: _trust(energy, seen.confidence)) if shape is None else None,
        )

    def posed(self, shape: np.ndarray, poses: Poses) -> tuple[np.ndarray, np.ndarray]:
        """[N, P, 4, 4] rigid camera_from_template of the shaped hand, and [N, V, 3] mm."""
        return posed_hands(self.hand, shape, *poses, room(self.hand))

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
        count = len(rotation)
        poses = Poses(rotation, np.zeros([count, 3]), angles, np.zeros([count, 0]))
        middle = self.posed(np.zeros(self.hand.sizes[1]), poses)[1].mean(axis=1)
        return poses._replace(place=seen.sampled.mean(axis=1, dtype=np.float64) - middle)

    def equations(self, shape, poses: Poses, frames: residuals.SeenFrame) -> solver.Equations:
        """The frames' normal equations."""
        out = solver.equations_of(len(poses.place), sum(self.hand.sizes))
        rows = residuals.frame_rows(
            len(self.hand.points), frames.points.shape[1], sum(self.hand.sizes)
        )
        residuals.frame_equations(
            self.hand, self._faces, self._weights, shape, *poses, frames, room(self.hand), rows, out
        )
        return out


def _trust(energy, confidence):
    """[N] say of a frame in the shape: none where the network is lost.

    Near the squared confidence up to the frames' median energy, near 0 from twice as much on.
    """
    return confidence**2 / (1 + (energy / (1.3 * np.median(energy))) ** 6)
