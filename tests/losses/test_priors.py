"""The kinematic priors against loops, finite differences and cases built to cost nothing."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import kinematics
from dgn_tf.geometry.kinematics import skin
from dgn_tf.geometry.similarity import fit_similarity
from dgn_tf.losses import energy
from tests.finite_differences import finite_differences
from tests.tiny_template import tiny_template


class CollisionTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.joints = np.random.default_rng(0).normal(scale=4, size=[2, 8, 3])

    def test_agrees_with_a_loop_over_pairs(self):
        for threshold in (5.0, 8.0):
            wanted = [
                sum(
                    max(threshold - np.linalg.norm(joints[i] - joints[j]), 0)
                    for i in range(8)
                    for j in range(i)
                )
                for joints in self.joints
            ]
            got = energy.collision_loss(tf.constant(self.joints), threshold)
            self.assertAllClose(got, wanted)
            self.assertAllGreater(got, 0)

    def test_is_zero_for_joints_five_millimetres_apart(self):
        joints = np.stack([np.arange(8) * 5.001, np.zeros(8), np.full(8, 600)], axis=-1)
        self.assertAllEqual(energy.collision_loss(tf.constant([joints])), [0.0])

    def test_gradient_agrees_with_finite_differences_and_parts_the_joints(self):
        joints = tf.constant(self.joints)
        with tf.GradientTape() as tape:
            tape.watch(joints)
            total = tf.reduce_sum(energy.collision_loss(joints))
        gradient = tf.convert_to_tensor(tape.gradient(total, joints))
        wanted = finite_differences(
            lambda at: float(tf.reduce_sum(energy.collision_loss(tf.constant(at)))), self.joints
        )
        self.assertAllClose(gradient, wanted, atol=1e-7)
        parted = energy.collision_loss(joints - 0.05 * gradient)
        self.assertAllLess(parted - energy.collision_loss(joints), 0)

    def test_joints_in_one_place_have_a_finite_gradient(self):
        joints = tf.zeros([1, 3, 3])
        with tf.GradientTape() as tape:
            tape.watch(joints)
            loss = energy.collision_loss(joints)
        self.assertAllClose(loss, [15.0], atol=1e-4)
        self.assertAllEqual(tf.convert_to_tensor(tape.gradient(loss, joints)), np.zeros([1, 3, 3]))


class RigidityTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.template = tiny_template()
        rng = np.random.default_rng(1)
        angles = rng.uniform(-0.5, 0.5, [2, 4, 3])
        offset = np.zeros([2, 4, 3, 1])
        offset[:, 0] = [[30], [-40], [600]]
        self.local = kinematics.affine(
            kinematics.rotation_from_angles(tf.constant(angles)), tf.constant(offset)
        ).numpy()
        self.slips = rng.normal(scale=3, size=[2, 3, 3])

    def posed(self, slips=None):
        local = self.local.copy()
        if slips is not None:
            local[:, 1:, :3, 3] = slips
        return kinematics.global_from_local(
            tf.constant(local), self.template.bone_from_template, self.template.parents
        )

    def offset(self, transforms):
        return energy.offset_loss(
            transforms, self.template.bone_from_template, self.template.parents
        )

    def test_offset_is_zero_for_turned_joints_and_any_place_of_the_hand(self):
        self.assertAllClose(self.offset(self.posed()), [0, 0], atol=1e-8)  # float32 bones
        rest = np.tile(np.eye(4), [1, 4, 1, 1])
        rest[..., :3, 3] = [10, 20, 700]
        self.assertAllClose(self.offset(tf.constant(rest)), [0], atol=1e-8)

    def test_offset_is_the_squared_slip_of_the_fingers_in_template_mm(self):
        transforms = self.posed(self.slips)
        wanted = np.sum(self.slips**2, axis=(1, 2))
        self.assertAllClose(self.offset(transforms), wanted)
        larger = transforms.numpy()
        larger[:, :, :3] *= 1.25  # a larger hand, seen from as much farther away
        self.assertAllClose(self.offset(tf.constant(larger)), wanted)

    def test_offset_agrees_with_a_loop_written_from_eq_12(self):
        transforms = self.posed(self.slips).numpy()
        bones = np.asarray(self.template.bone_from_template, np.float64)
        wanted = []
        for hand in transforms:
            total = 0.0
            for part in range(1, 4):
                parent = np.linalg.inv(hand[self.template.parents[part]])
                local = bones[part] @ parent @ hand[part] @ np.linalg.inv(bones[part])
                total += np.sum(local[:3, 3] ** 2)
            wanted.append(total)
        self.assertAllClose(self.offset(tf.constant(transforms)), wanted)

    def test_offset_gradient_agrees_with_finite_differences(self):
        transforms = self.posed(self.slips)
        with tf.GradientTape() as tape:
            tape.watch(transforms)
            total = tf.reduce_sum(self.offset(transforms))
        gradient = tf.convert_to_tensor(tape.gradient(total, transforms)).numpy()
        wanted = finite_differences(
            lambda at: float(tf.reduce_sum(self.offset(tf.constant(at)))), transforms.numpy()
        )
        scale = np.abs(wanted).max()
        self.assertAllClose(gradient / scale, wanted / scale, atol=1e-6)

    def test_arap_is_zero_for_rigid_parts(self):
        # Parts that no vertex shares, so that blending leaves them rigid.
        hard = np.eye(4)[np.argmax(self.template.skinning_weights, axis=1)]
        sampled = skin(tf.cast(self.posed(), tf.float32), self.template.vertices, hard)
        refit = fit_similarity(sampled, self.template.vertices, hard)
        refined = skin(refit, self.template.vertices, hard)
        self.assertAllClose(energy.arap_loss(refined, sampled), [0, 0], atol=1e-4)  # mm^2
        bent = sampled + tf.random.stateless_normal(sampled.shape, [1, 2])
        refined = skin(
            fit_similarity(bent, self.template.vertices, hard), self.template.vertices, hard
        )
        self.assertAllInRange(energy.arap_loss(refined, bent), 1.0, 3.0)  # of 3 mm^2 of noise

    def test_arap_worked_by_hand_and_its_gradient_reaches_both(self):
        refined = tf.constant([[[3.0, 0, 0], [0, 4, 5]]], tf.float64)
        sampled = tf.zeros([1, 2, 3], tf.float64)
        with tf.GradientTape() as tape:
            tape.watch([refined, sampled])
            loss = energy.arap_loss(refined, sampled)
        self.assertAllClose(loss, [25.0])  # (9 + 41) / 2
        by_refined, by_sampled = tape.gradient(loss, [refined, sampled])
        self.assertAllClose(by_refined, refined)  # 2 (P_r - P_s) / 2
        self.assertAllClose(by_sampled, -refined)


if __name__ == "__main__":
    tf.test.main()
