"""The refinement: it finds a pose that it is shown, and never ends above where it began."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import kinematics
from dgn_tf.hand_fit.view_fit import HandEnergy, Observed, Refinement
from dgn_tf.losses import data_terms, multi_view
from dgn_tf.losses.energy import EnergyConfig
from tests.tiny_template import tiny_template

TEMPLATE = tiny_template()
CONFIG = EnergyConfig()
CAMERAS = np.float32([[0, 0, -800], [500, 0, -600], [-500, 0, -600]])


@functools.cache
def refiner(steps, config=CONFIG):
    return tf.function(Refinement(TEMPLATE, config, steps).__call__)


def posed(rng, size):
    """[2, 4, 4, 4] transforms: joints turned by up to `size` radians."""
    angles = tf.constant(rng.uniform(-size, size, [2, 4, 3]), tf.float32)
    local = kinematics.affine(kinematics.rotation_from_angles(angles), tf.zeros([2, 4, 3, 1]))
    return kinematics.global_from_local(local, TEMPLATE.bone_from_template, TEMPLATE.parents)


def observed(energy, transforms, estimate):
    """Three views that see every vertex of a hand and estimated another pose of it."""
    points = energy.vertices(transforms)
    estimate = energy.vertices(estimate)
    count = points.shape[1]
    return Observed(
        points=tf.repeat(points[:, None], 3, axis=1),
        counted=tf.ones([2, 3, count], tf.bool),
        vertex=tf.tile(tf.range(count)[None, None], [2, 3, 1]),
        cameras=tf.tile(CAMERAS[None], [2, 1, 1]),
        estimates=tf.repeat(estimate[:, None], 3, axis=1),
        fused=estimate,
        weights=tf.ones([2, 3]),
        votes=tf.ones([2, 3, count], tf.bool),
    )


class RefinementTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(3)
        self.energy = HandEnergy(TEMPLATE, CONFIG)
        self.truth, self.start = posed(self.rng, 0.1), posed(self.rng, 0.1)
        self.seen = observed(self.energy, self.truth, self.start)

    def error(self, transforms):
        off = self.energy.vertices(transforms) - self.energy.vertices(self.truth)
        return np.linalg.norm(off, axis=-1).mean(axis=-1)

    def test_the_energy_falls_and_the_hand_comes_nearer_to_what_is_seen(self):
        found, before, after = refiner(40)(self.start, self.seen)
        self.assertAllLess(after - before, 0.0)
        self.assertAllLess(self.error(found) / self.error(self.start), 0.6)

    def test_the_reported_energy_is_that_of_the_hand_given_back(self):
        found, before, after = refiner(12)(self.start, self.seen)
        for transforms, reported in ((self.start, before), (found, after)):
            nearest = self.energy.nearest(self.energy.vertices(transforms), self.seen)
            terms = self.energy.terms(transforms, nearest, self.seen)
            self.assertAllClose(
                self.energy.total(terms, tf.ones([2], tf.bool)), reported, rtol=1e-4
            )

    def test_a_hand_that_costs_nothing_comes_back_to_the_bit(self):
        rest = tf.eye(4, batch_shape=[2, 4])
        config = dataclasses.replace(CONFIG, lambda1=0.0)  # the tiny hand's key points are close
        seen = observed(self.energy, rest, rest)
        found, before, after = refiner(5, config)(rest, seen)
        self.assertAllEqual(found, rest)
        # ICP takes vertices that face the camera alone, and half of these pixels don't.
        self.assertAllEqual(after, before)

    def test_never_above_where_it_began_whatever_is_seen(self):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            noise = rng.normal(scale=60, size=self.seen.points.shape)
            seen = self.seen._replace(
                points=self.seen.points + tf.constant(noise, tf.float32),
                vertex=tf.constant(rng.integers(0, 73, self.seen.vertex.shape), tf.int32),
                weights=tf.constant(rng.integers(0, 2, [2, 3]), tf.float32),
            )
            found, before, after = refiner(12)(self.start, seen)
            self.assertAllLessEqual(after - before, 0.0)
            self.assertAllInRange(found, -1e4, 1e4)

    def test_views_of_no_weight_change_nothing(self):
        def only(points):
            weights = tf.constant([[1.0, 1.0, 0.0]] * 2)
            return self.seen._replace(points=points, weights=weights)

        lost = tf.concat([self.seen.points[:, :2], self.seen.points[:, 2:] + 1e3], axis=1)
        first, second = (refiner(12)(self.start, only(p))[0] for p in (self.seen.points, lost))
        self.assertAllClose(first, second, atol=1e-4)

    def test_vertices_without_a_vote_draw_nothing(self):
        lost = tf.concat([self.seen.estimates[:, :2], self.seen.estimates[:, 2:] + 80], axis=1)
        votes = tf.constant([True, True, False])[None, :, None] & self.seen.votes
        first, second = (
            refiner(12)(self.start, self.seen._replace(estimates=estimates, votes=votes))[0]
            for estimates in (self.seen.estimates, lost)
        )
        self.assertAllClose(first, second, atol=1e-4)

    def test_the_hand_leaves_the_space_that_a_camera_sees_through(self):
        """Pixels, estimates and correspondences say nothing; what is seen past does."""
        config = EnergyConfig(icp=0, omega=0, lambda1=0, vertex=0, eta1=0, eta2=0, free_space=1.0)
        vertices = self.energy.vertices(self.truth)
        middle = tf.reduce_mean(vertices, axis=1)[:, None]
        # All rays of cameras 0 and 1 are blocked at once; camera 2 looks past the right of x = 20.
        camera = np.tile(np.eye(4, dtype=np.float32), [2, 3, 1, 1])
        camera[..., 2, 3] = 800
        surface = np.full([2, 3, 64, 64], 1.0, np.float32)
        surface[:, 2, :, 32 + 20 * 64 // 320 :] = np.inf
        focal = 64 * 800 / 320  # 320 mm at the hand's distance
        intrinsics = np.tile(np.float32([focal, focal, 32, 32]), [2, 3, 1])
        seen = self.seen._replace(
            points=tf.tile((middle - [[30.0, 0, 0]])[:, None], [1, 3, vertices.shape[1], 1]),
            sights=multi_view.Sight(tf.constant(surface), tf.constant(intrinsics)),
            camera_from_seen=tf.constant(camera),
        )

        def right(transforms):
            return int(np.sum(self.energy.vertices(transforms)[..., 0] > 28))

        found, before, after = refiner(40, config)(self.start, seen)
        self.assertGreater(right(self.start), 0)
        self.assertLess(right(found), right(self.start))
        self.assertAllLess(after - before, 0.0)

    def test_correspondence_is_the_nearest_vertex_of_the_same_layer(self):
        coords = self.rng.uniform(0, 15, [2, 30, 2]).astype(np.float32)
        layer = self.rng.random([2, 30]).astype(np.float32)
        found = data_terms.corresponding_vertex(
            tf.constant(coords), tf.constant(layer), TEMPLATE
        ).numpy()
        for b in range(2):
            for k in range(30):
                square = np.sum((TEMPLATE.mesh_coords - coords[b, k]) ** 2, axis=-1)
                square[TEMPLATE.vertex_layer != (layer[b, k] > 0.5)] = np.inf
                self.assertAlmostEqual(square[found[b, k]], square.min(), places=3)
