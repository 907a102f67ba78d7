"""Predictions with a user's template: joints that hold, fitted to the depth pixels."""

import dataclasses

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.geometry import kinematics
from dgn_tf.hand_fit.seen_frames import FrameReader, MeshReader, SeenFrames, turned
from dgn_tf.hand_fit.shapes import is_shape_of, shapes_of
from dgn_tf.hand_fit.user_shape import ShapeFit, usable
from dgn_tf.template import HandTemplate

STEPS = 6


class UserHand:
    """Fits a user's hand to what a network saw of frames.

    Args:
        user: the user's template; the network's own fits a hand of the mean shape.
        parent: the network's template.
        steps: of the fit of each frame's pose.

    Raises:
        InputError: the user's template is not the network's with another shape.
    """

    def __init__(self, user: HandTemplate, parent: HandTemplate, steps: int = STEPS):
        if not is_shape_of(user, parent):
            raise InputError(
                f"template {user.name} ({user.hash[:12]}) is not shaped from the model's, "
                f"{parent.name} ({parent.hash[:12]}); make one with dgn_tf.calibrate for this "
                "model."
            )
        self.template, self._steps = user, steps
        self._fit = ShapeFit(user, shapes_of(user))
        self._mean = np.zeros(self._fit.hand.sizes[1])

    def __call__(self, seen: SeenFrames) -> dict[str, np.ndarray]:
        """transforms [N, P, 4, 4], vertices [N, V, 3], keypoints [N, J, 3], joint_angles
        [N, P, 3] of N usable frames; float32, mm and radians, camera frame."""
        user = self.template
        fitted = self._fit(seen, self._steps, self._mean)
        transforms, vertices = self._fit.posed(fitted.shape, fitted.poses)
        transforms = transforms.astype(np.float32)
        return {
            "transforms": transforms,
            "vertices": vertices.astype(np.float32),
            "keypoints": kinematics.skin(transforms, user.keypoints, user.keypoint_weights).numpy(),
            "joint_angles": kinematics.joint_angles(
                transforms, user.bone_from_template, user.parents
            ).numpy(),
        }


class UserPredictions:
    """Predictions of a network with a user's template; called as
    `evaluation.predictions.NetworkPredictions` is.

    Frames without enough pixels near the estimate keep the network's.

    Args:
        network: built `DualGridNet`.
        user: its template with a user's shape; InputError where it is not.
        steps: of the fit of each frame's pose.
    """

    def __init__(self, network, user: HandTemplate, steps: int = STEPS):
        from dgn_tf.evaluation.predictions import NetworkPredictions

        self._hand = UserHand(user, network.template, steps)
        self.template = user
        self._network = NetworkPredictions(network)
        self._read = FrameReader(network)

    def __call__(self, batch) -> dict[str, np.ndarray]:
        outputs = dict(self._network(batch))
        frames = self._read(batch)
        rows = np.flatnonzero(usable(frames))
        if len(rows):
            fitted = self._hand(frames.rows(rows))
            for name in ("vertices", "keypoints"):
                outputs[name] = outputs[name].copy()
                outputs[name][rows] = fitted[name]
        return outputs


class UserMeshes:
    """A `FrameToMesh` whose meshes are a user's hand; called as it is.

    Args:
        predict: a `FrameToMesh` of the parent's model.
        user, parent: see `UserHand`.
    """

    def __init__(self, predict, user: HandTemplate, parent: HandTemplate):
        self._predict, self._hand = predict, UserHand(user, parent)
        self.template = user
        self._read = MeshReader(parent)

    def __call__(self, depth_mm, intrinsics, *arguments, **named):
        """A `HandMesh`: vertices, key points, transforms and angles are the fit's, all else is the
        network's."""
        mesh = self._predict(depth_mm, intrinsics, *arguments, **named)
        seen = self._read(mesh, depth_mm, intrinsics)
        if not usable(seen)[0]:
            return mesh
        fitted = {name: values[0] for name, values in self._hand(seen).items()}
        return dataclasses.replace(mesh, **(turned(fitted) if mesh.hand == "left" else fitted))
