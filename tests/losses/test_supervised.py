"""The supervised terms against loops and finite differences."""

import numpy as np
import tensorflow as tf

from dgn_tf.losses.supervised import correspondence_loss, layer_loss, point_loss


class SupervisedLossTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(0)
        self.truth = rng.uniform(0, 15, [2, 4, 4, 2])
        self.coords = self.truth + rng.normal(size=self.truth.shape)
        self.mask = rng.random([2, 4, 4]) < 0.6
        self.points = rng.normal(size=[2, 5, 3]) * 30

    def test_correspondence_loss_agrees_with_a_loop(self):
        for kind in ("huber", "mse"):
            wanted = []
            for coords, truth, mask in zip(self.coords, self.truth, self.mask, strict=True):
                values = []
                for row, column in zip(*np.nonzero(mask), strict=True):
                    d = np.linalg.norm(coords[row, column] - truth[row, column])
                    huber = d * d if d < 0.5 else d - 0.25
                    values.append(huber if kind == "huber" else d * d)
                wanted.append(np.mean(values))
            got = correspondence_loss(
                tf.constant(self.coords, tf.float32),
                tf.constant(self.truth, tf.float32),
                tf.constant(self.mask),
                kind,
            )
            self.assertAllClose(got, wanted, rtol=1e-4)

    def test_pixels_outside_the_mask_do_not_count(self):
        moved = self.coords + 5 * ~self.mask[..., None]
        for coords in (self.coords, moved):
            loss = correspondence_loss(
                tf.constant(coords, tf.float32),
                tf.constant(self.truth, tf.float32),
                tf.constant(self.mask),
            )
            self.assertAllClose(
                loss,
                correspondence_loss(
                    tf.constant(self.coords, tf.float32),
                    tf.constant(self.truth, tf.float32),
                    tf.constant(self.mask),
                ),
            )

    def test_example_without_a_hand_pixel_costs_nothing_and_has_a_finite_gradient(self):
        coords = tf.constant(self.coords, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(coords)
            loss = correspondence_loss(coords, coords, tf.zeros([2, 4, 4], tf.bool))
        self.assertAllEqual(loss, [0, 0])
        self.assertAllEqual(tape.gradient(loss, coords), np.zeros(self.coords.shape))

    def test_exact_estimate_costs_nothing_and_has_a_finite_gradient(self):
        coords = tf.constant(self.coords, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(coords)
            loss = correspondence_loss(coords, coords, tf.constant(self.mask))
        self.assertAllEqual(loss, [0, 0])
        self.assertAllEqual(tape.gradient(loss, coords), np.zeros(self.coords.shape))

    def test_point_loss_worked_by_hand(self):
        truth = np.zeros([1, 2, 3], np.float32)
        points = np.array([[[3, 0, 0], [0, 4, -5]]], np.float32)
        self.assertAllClose(point_loss(points, truth, "l1"), [2.0])  # (3 + 4 + 5) / 6
        self.assertAllClose(point_loss(points, truth, "mse"), [25.0])  # (9 + 41) / 2

    def test_points_that_are_not_valid_do_not_count(self):
        truth = np.zeros([2, 3, 3], np.float32)
        points = np.array([[[3, 0, 0], [0, 4, -5], [100, 100, 100]], [[1, 1, 1]] * 3], np.float32)
        valid = np.array([[1, 1, 0], [0, 0, 0]], np.float32)
        self.assertAllClose(point_loss(points, truth, "l1", valid), [2.0, 0.0])
        self.assertAllClose(point_loss(points, truth, "mse", valid), [25.0, 0.0])
        everywhere = point_loss(points, truth, "l1", np.ones_like(valid))
        self.assertAllClose(everywhere, point_loss(points, truth, "l1"))

    def test_layer_loss_is_the_negative_log_likelihood(self):
        logits = tf.constant([[[2.0, -1.0], [0.0, 9.0]]])
        mask = tf.constant([[[True, True], [True, False]]])
        probability = 1 / (1 + np.exp(-np.array([2.0, -1.0, 0.0])))
        wanted = -np.mean(np.log([probability[0], 1 - probability[1], probability[2]]))
        self.assertAllClose(layer_loss(logits, tf.constant([[[1, 0], [1, 0]]]), mask), [wanted])

    def test_unknown_kinds_are_named(self):
        with self.assertRaisesRegex(ValueError, "l1 or mse, not 'l3'"):
            point_loss(self.points, self.points, "l3")


if __name__ == "__main__":
    tf.test.main()
