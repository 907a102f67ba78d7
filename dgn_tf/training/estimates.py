"""The network's estimates as hands that synthesis can render (Sec. 4.4), kept step by step.

An estimate's parts are similarities of their own and may come apart; the hand that is rendered has
joint angles (Eq. 12), a shape of the template's and a view. So every synthetic frame, whatever the
estimate was, shows a hand that there could be, with forearm, and its truth is exact.
"""

import numpy as np
import tensorflow as tf

from dgn_tf.data.given_hands import GivenHands
from dgn_tf.geometry import kinematics, upright

# Batch k is made of the estimates of steps k - LAG and before. More than the loader keeps ready,
# so that it need not wait for the training: 4 + 2 batches and those in hand.
LAG = 16
WINDOW = 16  # steps whose estimates a batch chooses from
DEPTH = LAG + WINDOW  # steps kept: a resumed run makes the batches of the steps done again

# An estimate farther than this from the hand that it gives (joints, root mean square) is none.
FARTHEST_MM = 15.0
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
        shapes = np.asarray(template.shape_joints, np.float64)  # [K, P, 3]
        self._shapes = (shapes - shapes[:, self._parents])[:, 1:]  # of the bones' vectors
        self._vectors = (self._joints - self._joints[self._parents])[1:]
        basis = self._shapes.reshape(len(shapes), -1).T  # [(P - 1) * 3, K]
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
        own = self._posed_joints(angles, shape)
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

    def _posed_joints(self, angles, shape):
        """[B, P, 3] mm, template frame, of hands with the root at rest."""
        dtype = angles.dtype
        moved = tf.tensordot(shape, tf.constant(self._shapes, dtype), 1)  # [B, P - 1, 3]
        moved = tf.pad(moved, [[0, 0], [1, 0], [0, 0]])
        in_bone = tf.linalg.matvec(tf.constant(self._bones[:, :3, :3], dtype), moved)
        local = kinematics.affine(kinematics.rotation_from_angles(angles), in_bone[..., tf.newaxis])
        posed = kinematics.global_from_local(local, self._bones, self._parents)
        at_rest = tf.constant(self._joints, dtype)
        return tf.linalg.matvec(posed[..., :3, :3], at_rest) + posed[..., :3, 3]


class EstimateRing(tf.Module):
    """The hands of the last `DEPTH` steps, written by the training step, saved with checkpoints.

    Args:
        template: `HandTemplate` of the estimates.
        views: unlabelled views in a step.
    """

    def __init__(self, template, views: int):
        super().__init__(name="estimates")
        self._legal = LegalHands(template)
        self._parts, self._shapes = len(template.parents), len(template.shape_joints)
        fields = 1 + self._parts * 3 + self._shapes + 9
        # One variable: a step writes it, and the host reads it, at once.
        self._rows = tf.Variable(tf.zeros([DEPTH, views, fields]), trainable=False, name="rows")

    def write(self, step, transforms, usable):
        """Puts a step's estimates in the place of those of `DEPTH` steps before.

        Args:
            step: [] integer.
            transforms: [B, P, 4, 4] T, camera_from_template, mm.
            usable: [B] bool: the views with a hand to fit.

        Returns:
            [] share of the usable views whose estimates are near a hand.
        """
        angles, shape, rotation, distance = self._legal(transforms)
        angles, rotation = tf.reshape(angles, [-1, self._parts * 3]), tf.reshape(rotation, [-1, 9])
        row = tf.concat([angles, shape, rotation], axis=1)
        finite = tf.reduce_all(tf.math.is_finite(row), axis=1)
        kept = usable & finite & (distance < FARTHEST_MM)
        row = tf.concat([tf.cast(kept, tf.float32)[:, tf.newaxis], row], axis=1)
        row = tf.where(kept[:, tf.newaxis], row, tf.zeros_like(row))
        place = tf.cast(step % DEPTH, tf.int32)
        self._rows.scatter_update(tf.IndexedSlices(row[tf.newaxis], place[tf.newaxis]))
        count = tf.reduce_sum(tf.cast(usable, tf.float32))
        return tf.reduce_sum(tf.cast(kept, tf.float32)) / tf.maximum(count, 1.0)

    def read(self, step: int) -> GivenHands:
        """The hands of one of the last `DEPTH` steps; views without one are left out."""
        rows = self._rows[step % DEPTH].numpy().astype(np.float64)
        rows = rows[rows[:, 0] > 0, 1:]
        angles, shape, rotation = np.split(
            rows, [self._parts * 3, self._parts * 3 + self._shapes], axis=1
        )
        hands = GivenHands(angles.reshape(-1, self._parts, 3), shape, rotation.reshape(-1, 3, 3))
        return hands.rows(slice(None))
