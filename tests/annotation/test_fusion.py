"""Fusion of views: what agrees stays, what contradicts loses, and the rig's frame is no matter."""

import numpy as np
import tensorflow as tf

from dgn_tf.annotation import fusion
from dgn_tf.annotation.records import Tally, warnings
from dgn_tf.losses import data_terms, multi_view
from tests.tiny_template import tiny_template
from tests.view_records import camera_from_rig

TEMPLATE = tiny_template()


def rotation(rng):
    turn, _ = np.linalg.qr(rng.normal(size=[3, 3]))
    return (turn * np.sign(np.linalg.det(turn))).astype(np.float32)


class FusionTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(0)
        self.truth = self.rng.uniform(-80, 80, [2, 1, 50, 3]).astype(np.float32)
        self.truth += np.float32([0, 0, 800])
        self.weights = self.rng.uniform(0.2, 1, [2, 3, 50]).astype(np.float32)

    def noisy(self, size=4.0):
        noise = self.rng.normal(scale=size, size=[2, 3, 50, 3])
        return (self.truth + noise).astype(np.float32)

    def test_views_that_agree_exactly_give_the_truth(self):
        fused = fusion.fuse(tf.constant(np.repeat(self.truth, 3, axis=1)), self.weights)
        self.assertAllClose(fused, self.truth[:, 0], atol=1e-3)  # mm

    def test_a_view_alone_is_given_back_whatever_stands_in_the_others(self):
        points = self.noisy(200.0)
        alone = self.weights * np.float32([0, 1, 0])[:, None]
        self.assertAllClose(fusion.fuse(points, alone), points[:, 1], atol=1e-3)  # mm

    def test_no_view_gives_zeros(self):
        fused = fusion.fuse(self.noisy(), np.zeros_like(self.weights))
        self.assertAllEqual(fused, np.zeros([2, 50, 3]))

    def test_votes_are_those_of_vertices_that_no_trusted_camera_sees_past(self):
        """Against a loop over views, witnesses and vertices."""
        rig = np.stack([[camera_from_rig(c) for c in range(3)]] * 2).astype(np.float32)
        surface = self.rng.choice([np.inf, 700.0, 900.0], [2, 3, 16, 16]).astype(np.float32)
        intrinsics = np.tile(np.float32([60, 60, 7.5, 7.5]), [2, 3, 1])
        weights = np.float32([[1.0, 0.7, 0.0], [0.9, 0.3, 1.0]])
        points = self.noisy(30.0)
        sights = multi_view.Sight(tf.constant(surface), tf.constant(intrinsics))
        found = fusion.votes(tf.constant(points), tf.constant(rig), sights, weights, 10.0).numpy()
        wanted = np.ones([2, 3, 50], bool)
        for b, c, v in np.ndindex(2, 3, 50):
            for w in np.flatnonzero(weights[b] > 0.6):
                there = multi_view.moved(tf.constant(points[b, c, v][None]), rig[b, w])
                sight = multi_view.Sight(surface[b, w][None], intrinsics[b, w][None])
                if multi_view.in_free_space(there[None], sight, 10.0)[0, 0]:
                    wanted[b, c, v] = False
        lost = ~(wanted & (weights > 0)[..., None]).any(axis=1, keepdims=True)
        self.assertTrue(lost.any() and not lost.all() and not wanted.all())
        self.assertAllEqual(found, wanted | lost)

    def test_a_motion_of_the_rig_moves_the_result_alike(self):
        points = self.noisy(15.0)
        turn, away = rotation(self.rng), np.float32([100, -200, 300])
        moved = fusion.fuse(points @ turn.T + away, self.weights)
        fused = fusion.fuse(points, self.weights)
        self.assertAllClose(moved, fused @ turn.T + away, atol=5e-3)  # mm

    def test_one_of_three_views_that_contradicts_the_others_has_hardly_a_say(self):
        points = np.repeat(self.truth, 3, axis=1)
        for away in (60.0, 150.0, 500.0):
            wrong = points.copy()
            wrong[:, 1] += np.float32([0.6, 0, 0.8]) * away
            off = np.linalg.norm(
                fusion.fuse(wrong, np.ones_like(self.weights)) - self.truth[:, 0], axis=-1
            )
            self.assertLess(off.max(), 1.0, msg=away)  # mm

    def test_noise_that_the_views_don_t_share_is_averaged(self):
        points = self.noisy(4.0)
        fused = fusion.fuse(points, np.ones_like(self.weights))
        alone = np.sqrt(np.mean((points - self.truth) ** 2))
        self.assertLess(np.sqrt(np.mean((fused - self.truth[:, 0]) ** 2)), 0.65 * alone)

    def test_the_view_whose_mesh_explains_the_pixels_weighs_most(self):
        rig = np.stack([camera_from_rig(c) for c in range(3)])[None].astype(np.float32)
        hand = np.asarray(TEMPLATE.vertices) + [0, 0, 800]
        vertices = np.stack([hand @ t[:3, :3].T + t[:3, 3] for t in rig[0]])[None]
        points = vertices.astype(np.float32)  # every vertex is a pixel of each view
        vertices = points.copy()
        vertices[0, 2] += [100, 0, 0]
        around = data_terms.faces_of_vertices(np.asarray(TEMPLATE.faces), len(hand))
        normals = data_terms.vertex_normals(vertices[0], np.asarray(TEMPLATE.faces), around)[None]
        counted, usable = np.ones([1, 3, len(hand)], bool), np.ones([1, 3], bool)
        found = fusion.explanation(tf.constant(vertices), normals, points, counted, rig, usable)
        self.assertAllLess(found[0, :2], 0.8 * fusion.FAR_MM)
        self.assertAllGreater(found[0, 2] - found[0, :2], 4.0)  # mm
        weights = fusion.view_weights(found, usable)
        self.assertAllClose(tf.reduce_max(weights), 1.0)
        self.assertLess(weights[0, 2], 0.5)
        self.assertAllEqual(fusion.view_weights(found, ~usable), np.zeros([1, 3]))

    def test_confidence_falls_with_distance_and_rises_with_views(self):
        def confidence(distance, residual, usable=(1, 1, 1)):
            arrays = (np.float32([distance] * 3), np.float32([residual] * 3))
            return float(fusion.frame_confidence(*(a[None] for a in arrays), np.bool_([usable]))[0])

        self.assertAllClose(confidence(0, 0), 0.75)
        self.assertAllClose(confidence(8, 12), 0.75 * np.exp(-1))
        self.assertLess(confidence(5, 5, (1, 0, 0)), confidence(5, 5, (1, 1, 0)))
        self.assertEqual(confidence(5, 5, (0, 0, 0)), 0)


def residuals(*distances):
    return {str(camera): {"view_distance_mm": value} for camera, value in enumerate(distances, 1)}


def test_a_camera_far_off_the_others_is_named():
    (line,) = warnings(residuals(8.0, 45.0, 9.0))
    assert line.startswith("camera 2 contradicts the others: its estimates lie 45 mm")
    assert warnings(residuals(8.0, 14.0, 9.0)) == []
    assert warnings(residuals(8.0, None, None)) == []
    (line,) = warnings(residuals(40.0, 40.0))
    assert "cameras 1 and 2 contradict each other by 80 mm" in line


def test_a_tally_of_cameras_without_views_has_no_figures():
    tally = Tally((1, 3))
    tally.add(
        {
            "view_distance": np.float32([5, -1]),
            "pixel_distance": np.float32([4, -1]),
            "annotated": np.array([1, 1]),
            "keypoints_valid": np.array([[1, 1], [1, 0]]),
            "confidence": np.float32([0.5, 0.5]),
        }
    )
    facts = tally.facts()
    assert facts["views_annotated"] == 2 and facts["views_masked"] == 1
    assert facts["residuals"]["1"] == {
        "view_distance_mm": 5.0,
        "pixel_distance_mm": 4.0,
        "views": 1,
    }
    assert facts["residuals"]["3"]["view_distance_mm"] is None
