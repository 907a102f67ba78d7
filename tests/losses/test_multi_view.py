"""Multi-view terms against loops, finite differences, and rigs built for them."""

import numpy as np
import tensorflow as tf

from dgn_tf.losses import multi_view
from tests.view_records import camera_from_rig

DELTA = 5.0  # mm


def smooth_l1(r):
    return r * r / (2 * DELTA) if r < DELTA else r - DELTA / 2


class MultiViewTest(tf.test.TestCase):
    """Two time steps of three views; the second view of the second step is missing."""

    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(0)
        rig = np.stack([camera_from_rig(camera) for camera in range(3)])
        self.rig = np.tile(rig, [2, 1, 1, 1])  # [B, C, 4, 4]
        truth = self.rng.normal(scale=50, size=[2, 1, 7, 3]) + [0, 0, 800]
        self.in_rig = np.tile(truth, [1, 3, 1, 1])
        self.valid = np.array([[True, True, True], [True, False, True]])
        self.noise = self.rng.normal(scale=6, size=[2, 3, 7, 3])

    def seen(self, in_rig):
        """Each view's points in its own camera's frame."""
        turned = np.einsum("bcij,bcnj->bcni", self.rig[..., :3, :3], in_rig)
        return turned + self.rig[..., None, :3, 3]

    def test_moved_and_its_inverse_agree_with_matrices(self):
        seen = multi_view.moved(tf.constant(self.in_rig), tf.constant(self.rig))
        self.assertAllClose(seen, self.seen(self.in_rig))
        back = multi_view.moved(seen, multi_view.rigid_inverse(tf.constant(self.rig)))
        self.assertAllClose(back, self.in_rig)

    def test_points_of_another_view_come_to_lie_where_the_view_sees_them(self):
        seen = tf.constant(self.seen(self.in_rig))
        for shift in (1, 2):
            transforms = multi_view.source_from_other(tf.constant(self.rig), shift)
            moved = multi_view.moved(multi_view.other_view(seen, shift), transforms)
            self.assertAllClose(moved, seen)
            for c in range(3):
                other = (c + shift) % 3
                wanted = self.rig[0, c] @ np.linalg.inv(self.rig[0, other])
                self.assertAllClose(transforms[0, c], wanted)

    def test_median_is_that_of_the_valid_views(self):
        points = self.in_rig + self.noise
        points[1, 1] = 1e6  # the missing one
        median = multi_view.median_of_views(tf.constant(points), tf.constant(self.valid))
        self.assertAllClose(median[0], np.median(points[0], axis=0))
        self.assertAllClose(median[1], (points[1, 0] + points[1, 2]) / 2)
        alone = np.array([[False, True, False], [False, False, False]])
        median = multi_view.median_of_views(tf.constant(points), tf.constant(alone))
        self.assertAllClose(median[0], points[0, 1])
        self.assertAllEqual(tf.math.is_finite(median[1]), np.ones([7, 3], bool))

    def test_one_view_far_off_hardly_moves_the_median(self):
        points = self.in_rig + self.noise / 10
        points[0, 2] += 500
        median = multi_view.median_of_views(tf.constant(points), tf.ones([2, 3], tf.bool))
        self.assertAllLess(np.abs(median[0] - self.in_rig[0, 0]), 3.0)

    def vertex_loss(self, vertices, valid=None):
        valid = self.valid if valid is None else valid
        return multi_view.vertex_loss(
            tf.convert_to_tensor(vertices), tf.constant(self.rig), tf.constant(valid), DELTA
        )

    def test_vertex_loss_is_zero_where_the_views_agree(self):
        self.assertAllClose(self.vertex_loss(self.seen(self.in_rig)), np.zeros([2, 3]), atol=1e-12)

    def test_vertex_loss_of_a_wrong_camera_is_not_zero(self):
        vertices = self.seen(self.in_rig)
        self.rig[:, 2, 0, 3] += 30  # the extrinsics are 30 mm wrong
        loss = self.vertex_loss(vertices).numpy()
        self.assertAllClose(loss[0, :2], [0, 0], atol=1e-12)
        self.assertAllClose(loss[0, 2], 30 - DELTA / 2)
        self.assertAllClose(loss[1], [12.5, 0, 12.5])  # 15 mm each from the mean of two

    def test_vertex_loss_agrees_with_a_loop_and_leaves_missing_views_out(self):
        in_rig = self.in_rig + self.noise
        in_rig[1, 1] += 1000
        wanted = np.zeros([2, 3])
        for b in range(2):
            median = np.median(in_rig[b][self.valid[b]], axis=0)
            for c in np.flatnonzero(self.valid[b]):
                distances = np.linalg.norm(in_rig[b, c] - median, axis=-1)
                wanted[b, c] = np.mean([smooth_l1(r) for r in distances])
        vertices = self.seen(in_rig)
        self.assertAllClose(self.vertex_loss(vertices), wanted)
        nothing = self.vertex_loss(vertices, np.zeros([2, 3], bool))
        self.assertAllEqual(nothing, np.zeros([2, 3]))

    def test_points_without_a_vote_leave_the_median_to_the_others(self):
        in_rig = self.in_rig.copy()
        in_rig[:, 1:, 2] += 50.0  # two views agree on a wrong place of vertex 2
        votes = np.ones([2, 3, 7], bool)
        votes[:, 1:, 2] = False
        votes[:, :, 4] = False
        in_rig[:, 0, 4] += 30.0
        median = multi_view.median_of_views(tf.constant(in_rig), tf.constant(votes))
        kept = [0, 1, 2, 3, 5, 6]
        self.assertAllClose(median.numpy()[:, kept], self.in_rig[:, 0, kept])
        loss = multi_view.vertex_loss(
            tf.constant(self.seen(in_rig)),
            tf.constant(self.rig),
            tf.ones([2, 3], tf.bool),
            DELTA,
            tf.constant(votes),
        )
        wrong = (50 * np.sqrt(3) - DELTA / 2) / 7
        self.assertAllClose(loss, [[0, wrong, wrong]] * 2)  # nobody knows of vertex 4

    def test_vertex_loss_has_the_gradient_of_a_median_held_fixed(self):
        vertices = tf.constant(self.seen(self.in_rig + self.noise))
        with tf.GradientTape() as tape:
            tape.watch(vertices)
            total = tf.reduce_sum(self.vertex_loss(vertices))
        gradient = tape.gradient(total, vertices).numpy()
        back = np.linalg.inv(self.rig)
        in_rig = self.in_rig + self.noise
        medians = [np.median(in_rig[b][self.valid[b]], axis=0) for b in range(2)]

        def value(vertices):
            total = 0.0
            for b, c in zip(*np.nonzero(self.valid), strict=True):
                points = vertices[b, c] @ back[b, c, :3, :3].T + back[b, c, :3, 3]
                distances = np.linalg.norm(points - medians[b], axis=-1)
                total += np.mean([smooth_l1(r) for r in distances])
            return total

        at, step = vertices.numpy(), 1e-5
        wanted = np.zeros_like(at)
        for place in np.ndindex(at.shape):
            high, low = at.copy(), at.copy()
            high[place] += step
            low[place] -= step
            wanted[place] = (value(high) - value(low)) / (2 * step)
        self.assertAllClose(gradient, wanted, atol=1e-6)
        self.assertAllEqual(gradient[1, 1], np.zeros([7, 3]))

    def test_mean_over_others_counts_pairs_of_valid_views(self):
        terms = [self.rng.random([2, 3]), self.rng.random([2, 3])]
        terms[0][1, 0] = 1e9  # against the missing view
        got = multi_view.mean_over_others([tf.constant(t) for t in terms], tf.constant(self.valid))
        self.assertAllClose(got[0], (terms[0][0] + terms[1][0]) / 2)
        self.assertAllClose(got[1], [terms[1][1, 0], 0, terms[0][1, 2]])
        alone = tf.constant([[True, False, False]] * 2)
        got = multi_view.mean_over_others([tf.constant(t) for t in terms], alone)
        self.assertAllEqual(got, np.zeros([2, 3]))


if __name__ == "__main__":
    tf.test.main()
