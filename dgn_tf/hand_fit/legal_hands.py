"""Estimated transforms as the nearest hands with joints that hold, in closed form."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import kinematics, upright
from dgn_tf.hand_fit.skeleton import posed_joints

_SLACK = 0.1  # of a limit's range: real hands pass the sampler's limits a little
_JOINT_SIGMA_MM = 4.0  # of an estimate's joints, against shape coefficients of deviation 1
_SHAPE_CLIP = 2.0


class LegalHands:
    """The nearest hands with joints that hold and bend as joints do.

    Args:
        template: `HandTemplate` of the estimates.
    """

    def __init__(self, template):
        bones = np.asarray(template.bone_from_template, np.float64)
        self._bones, self._parents = bones, np.asarray(template.parents)
        self._joints = np.linalg.inv(bones)[:, :3, 3]
        limits = np.asarray(template.joint_limits, np.float64)
        slack = _SLACK * (limits[..., 1] - limits[..., 0])
        self._low, self._high = limits[..., 0] - slack, limits[..., 1] + slack
        self._shapes = np.asarray(template.shape_joints, np.float64)  # [K, P, 3]
        shapes = (self._shapes - self._shapes[:, self._parents])[:, 1:]  # of the bones' vectors
        self._vectors = (self._joints - self._joints[self._parents])[1:]
        basis = shapes.reshape(len(shapes), -1).T  # [(P - 1) * 3, K]
        normal = basis.T @ basis + _JOINT_SIGMA_MM**2 * np.eye(len(shapes))
        self._solve = np.linalg.solve(normal, basis.T)

    def __call__(self, transforms):
        """Hands of estimated transforms.

        The angles are Eq. 12's, cut off a little beyond the limits; the shape is that whose bones
        are likeliest to be those seen, by least squares with the sampler's normal prior.

        Args:
            transforms: [B, P, 4, 4] T, camera_from_template, similarities, mm.

        Returns:
            angles [B, P, 3], shape [B, K] and rotation [B, 3, 3] as in `GivenHands`; and distance
            [B] mm, root mean square over the joints between T's and the hand's own.
        """
        parents, dtype = self._parents, transforms.dtype
        scale = kinematics.scales(transforms)[..., tf.newaxis, tf.newaxis]
        rotations = transforms[..., :3, :3] / scale
        joints = self._joints_of(transforms)
        vectors = joints - tf.gather(joints, parents, axis=1)
        vectors = tf.linalg.matvec(tf.gather(rotations, parents, axis=1), vectors, transpose_a=True)
        residual = vectors[:, 1:] - tf.constant(self._vectors, dtype)
        flat = tf.reshape(residual, [-1, residual.shape[1] * 3])
        shape = tf.linalg.matmul(flat, tf.constant(self._solve, dtype), transpose_b=True)
        shape = tf.clip_by_value(shape, -_SHAPE_CLIP, _SHAPE_CLIP)
        angles = kinematics.joint_angles(transforms, self._bones, parents)
        low, high = tf.constant(self._low, dtype), tf.constant(self._high, dtype)
        angles = tf.clip_by_value(angles, low, high)
        # The root is turned by the view alone.
        angles = tf.concat([tf.zeros_like(angles[:, :1]), angles[:, 1:]], axis=1)
        own = posed_joints(angles, shape, self._shapes, self._bones, parents)
        own = tf.linalg.matmul(own, rotations[:, 0], transpose_b=True)
        middle = tf.reduce_mean(joints, axis=1, keepdims=True)
        own -= tf.reduce_mean(own, axis=1, keepdims=True) - middle
        distance = tf.sqrt(tf.reduce_mean(tf.reduce_sum((own - joints) ** 2, axis=-1), axis=1))
        rotation = upright.view_from_camera(middle[:, 0]) @ rotations[:, 0]
        return angles, shape, rotation, distance

    def _joints_of(self, transforms):
        """[B, P, 3] where the parts have their joints: half way from the parent's idea of it."""
        at_rest = tf.constant(self._joints, transforms.dtype)
        own = tf.linalg.matvec(transforms[..., :3, :3], at_rest) + transforms[..., :3, 3]
        above = tf.gather(transforms, self._parents, axis=1)
        of_parent = tf.linalg.matvec(above[..., :3, :3], at_rest) + above[..., :3, 3]
        return (own + of_parent) / 2
