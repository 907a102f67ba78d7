"""ICP and lifting against loops, finite differences and cases worked by hand."""

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import mesh_grid
from dgn_tf.layers import Sampling
from dgn_tf.losses import data_terms
from tests.finite_differences import finite_differences
from tests.tiny_template import tiny_template

DELTA = 5.0  # mm


def smooth_l1(r):
    return r * r / (2 * DELTA) if r < DELTA else r - DELTA / 2


class SmoothL1Test(tf.test.TestCase):
    def test_is_zero_at_zero_with_a_zero_gradient_and_agrees_with_its_formula(self):
        distance = tf.constant([0.0, 1.0, 4.999, 5.0, 5.001, 40.0], tf.float64)
        square = distance**2
        self.assertAllClose(
            data_terms.smooth_l1(square, DELTA), [smooth_l1(r) for r in distance.numpy()]
        )
        with tf.GradientTape() as tape:
            tape.watch(distance)
            total = data_terms.smooth_l1(distance**2, DELTA)
        wanted = np.minimum(distance / DELTA, 1)  # continuous where the line begins
        self.assertAllClose(tape.gradient(total, distance), wanted)


class ThinPixelsTest(tf.test.TestCase):
    def test_small_masks_give_each_of_their_pixels_once(self):
        mask = np.random.default_rng(0).random([5, 60]) < 0.15
        mask[0] = False
        for seed in (None, tf.constant([3, 4])):
            index, counted = data_terms.thin_pixels(tf.constant(mask), 20, seed)
            for row, chosen, counts in zip(mask, index.numpy(), counted.numpy(), strict=True):
                self.assertAllEqual(chosen[counts], np.flatnonzero(row))

    def test_large_masks_are_covered_evenly_and_without_repeats(self):
        mask = np.random.default_rng(1).random([3, 500]) < 0.7
        index, counted = data_terms.thin_pixels(tf.constant(mask), 64, tf.constant([1, 2]))
        self.assertAllEqual(counted, np.ones([3, 64], bool))
        for row, chosen in zip(mask, index.numpy(), strict=True):
            self.assertTrue(row[chosen].all())
            rank = np.searchsorted(np.flatnonzero(row), chosen)
            steps = np.diff(rank)
            self.assertAllInRange(steps, row.sum() // 64, row.sum() // 64 + 1)

    def test_every_pixel_has_the_same_chance(self):
        mask = np.tile(np.arange(50) % 5 != 0, [4000, 1])  # 40 pixels of 50
        index, _ = data_terms.thin_pixels(tf.constant(mask), 16, tf.constant([7, 7]))
        share = np.bincount(index.numpy().ravel(), minlength=50) / 4000
        self.assertAllClose(share, np.where(mask[0], 16 / 40, 0), atol=0.04)

    def test_the_draw_is_its_seed_alone(self):
        mask = tf.ones([2, 300], tf.bool)
        first = data_terms.thin_pixels(mask, 50, tf.constant([1, 5]))[0]
        self.assertAllEqual(first, data_terms.thin_pixels(mask, 50, tf.constant([1, 5]))[0])
        self.assertNotAllEqual(first, data_terms.thin_pixels(mask, 50, tf.constant([1, 6]))[0])


class MeshTest(tf.test.TestCase):
    """On the tiny template, a tube, somewhere before the camera."""

    def setUp(self):
        super().setUp()
        self.template = tiny_template()
        self.faces = np.asarray(self.template.faces)
        self.around = data_terms.faces_of_vertices(self.faces, 73)
        self.rng = np.random.default_rng(2)
        noise = self.rng.normal(size=[2, 73, 3])
        self.vertices = np.asarray(self.template.vertices) + noise + [[[20, -30, 500]]]
        self.points = self.vertices[:, ::3] + self.rng.normal(scale=6, size=[2, 25, 3])
        self.counted = self.rng.random([2, 25]) < 0.7

    def allowed(self, camera=None):
        vertices = tf.constant(self.vertices)
        normals = data_terms.vertex_normals(vertices, self.faces, self.around)
        return data_terms.facing(vertices, normals, camera)

    def test_normals_and_facing_agree_with_a_loop(self):
        for camera in (np.zeros([2, 3]), np.array([[300.0, 0, 600], [0, 300, 400]])):
            allowed = self.allowed(tf.constant(camera)).numpy()
            for b in range(2):
                normals = np.zeros([73, 3])
                for corners in self.faces:
                    p, q, r = self.vertices[b, corners]
                    normals[corners] += np.cross(q - p, r - p)
                away = self.vertices[b] - camera[b]
                self.assertAllEqual(allowed[b], np.sum(away * normals, axis=-1) < 0)

    def test_a_tube_shows_the_camera_its_near_side(self):
        vertices = tf.constant(self.template.vertices[np.newaxis] + np.float32([0, 0, 500]))
        normals = data_terms.vertex_normals(vertices, self.faces, self.around)
        side = data_terms.facing(vertices, normals, tf.constant([[0.0, -400, 560]]))[0].numpy()
        rings = np.arange(73) < 64  # but for the fork's end
        y = self.template.vertices[:, 1]
        self.assertTrue(side[rings & (y < -6)].all())
        self.assertFalse(side[rings & (y > 6)].any())

    def loop(self, vertices, points, allowed, counted):
        wanted = []
        for b in range(len(points)):
            terms = []
            for i in np.flatnonzero(counted[b]):
                near = min(
                    np.linalg.norm(points[b, i] - vertices[b, j])
                    for j in np.flatnonzero(allowed[b])
                )
                terms.append(smooth_l1(near))
            wanted.append(np.mean(terms) if terms else 0.0)
        return wanted

    def test_icp_agrees_with_a_loop_over_pixels_and_vertices(self):
        allowed = self.allowed()
        got = data_terms.icp_loss(
            tf.constant(self.points), tf.constant(self.vertices), allowed, self.counted, DELTA
        )
        self.assertAllClose(
            got, self.loop(self.vertices, self.points, allowed.numpy(), self.counted)
        )

    def test_icp_in_float32_far_from_the_camera_agrees_too(self):
        allowed = self.allowed()
        got = data_terms.icp_loss(
            *(tf.constant(x, tf.float32) for x in (self.points, self.vertices)),
            allowed,
            self.counted,
            DELTA,
        )
        wanted = self.loop(self.vertices, self.points, allowed.numpy(), self.counted)
        self.assertAllClose(got, wanted, atol=1e-3)  # mm

    def test_icp_is_zero_for_points_on_vertices_that_face_the_camera_alone(self):
        allowed = self.allowed().numpy()
        front = np.stack([self.vertices[b][allowed[b]][:10] for b in range(2)])
        back = np.stack([self.vertices[b][~allowed[b]][:10] for b in range(2)])
        everywhere = np.ones([2, 10], bool)
        loss = data_terms.icp_loss(front, self.vertices, allowed, everywhere, DELTA)
        self.assertAllClose(loss, [0, 0], atol=1e-12)
        loss = data_terms.icp_loss(back, self.vertices, allowed, everywhere, DELTA)
        self.assertAllGreater(loss, 1.0)

    def test_icp_gradient_agrees_with_finite_differences(self):
        allowed = self.allowed().numpy()

        def value(vertices):
            loss = data_terms.icp_loss(
                tf.constant(self.points), tf.constant(vertices), allowed, self.counted, DELTA
            )
            return np.sum(loss * [1.0, 2.0])

        vertices = tf.constant(self.vertices)
        with tf.GradientTape() as tape:
            tape.watch(vertices)
            loss = data_terms.icp_loss(
                tf.constant(self.points), vertices, allowed, self.counted, DELTA
            )
            total = tf.reduce_sum(loss * [1.0, 2.0])
        gradient = tape.gradient(total, vertices)
        gradient = tf.convert_to_tensor(gradient).numpy()
        self.assertAllClose(gradient, finite_differences(value, self.vertices), atol=1e-7)
        self.assertGreater(np.abs(gradient).max(), 0.01)

    def test_icp_by_parts_agrees_with_a_loop_over_the_pixels_own_parts(self):
        rng = np.random.default_rng(8)
        vertex_parts = rng.integers(0, 5, 73).astype(np.int32)
        parts = rng.integers(0, 6, self.points.shape[:2]).astype(np.int32)  # 5: no vertex has it
        allowed = self.allowed().numpy()
        found = np.zeros([2])
        for b in range(2):
            distances = []
            for point, part, counts in zip(self.points[b], parts[b], self.counted[b], strict=True):
                own = self.vertices[b][allowed[b] & (vertex_parts == part)]
                if counts and len(own):
                    away = np.linalg.norm(own - point, axis=-1).min()
                    distances.append(away - DELTA / 2 if away > DELTA else away**2 / (2 * DELTA))
            found[b] = np.mean(distances)
        got = data_terms.part_icp_loss(
            tf.constant(self.points),
            parts,
            tf.constant(self.vertices),
            vertex_parts,
            allowed,
            self.counted,
            DELTA,
        )
        self.assertAllClose(got, found)

    def test_a_mesh_that_turns_its_back_is_matched_all_the_same(self):
        nothing = np.zeros([2, 73], bool)
        got = data_terms.icp_loss(self.points, self.vertices, nothing, self.counted, DELTA)
        everything = ~nothing
        self.assertAllClose(got, self.loop(self.vertices, self.points, everything, self.counted))

    def test_a_crop_without_a_pixel_costs_nothing_and_has_a_finite_gradient(self):
        vertices = tf.constant(self.vertices, tf.float32)
        points = tf.constant(self.points, tf.float32)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(vertices)
            icp = data_terms.icp_loss(
                points, vertices, self.allowed(), np.zeros([2, 25], bool), DELTA
            )
            lifting = data_terms.lifting_loss(
                points, vertices[:, :25], np.zeros([2, 25], bool), DELTA
            )
        for loss in (icp, lifting):
            self.assertAllEqual(loss, [0, 0])
            gradient = tf.convert_to_tensor(tape.gradient(loss, vertices))
            self.assertAllEqual(gradient, np.zeros([2, 73, 3]))

    def test_pixels_beyond_the_wrist_are_told_by_the_root(self):
        rest = np.asarray(self.template.vertices, np.float64)
        wrist, axis = rest[self.template.wrist_loop].mean(axis=0), np.array([0.0, 0, 1])
        points = np.array([[0, 0, z] for z in (-30.0, -12, -8, 0, 60)])
        turn, _ = np.linalg.qr(self.rng.normal(size=[3, 3]))
        turn *= np.sign(np.linalg.det(turn))
        root = np.eye(4)
        root[:3] = np.concatenate([0.8 * turn, [[10], [20], [600]]], axis=1)
        posed = points @ root[:3, :3].T + root[:3, 3]
        hand = data_terms.before_wrist(
            tf.constant([posed]), tf.constant([root]), wrist, axis, margin=10.0
        )
        self.assertAllEqual(hand[0], [False, False, True, True, True])


class LiftingTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(4)
        self.map = rng.normal(scale=40, size=[2, 16, 16, 6])
        self.coords = rng.uniform(1, 14, [2, 9, 2])
        self.layer = rng.random([2, 9])
        self.points = rng.normal(scale=40, size=[2, 9, 3])
        self.counted = rng.random([2, 9]) < 0.7

    def lifted(self, grid, coords, layer):
        """What `Sampling.sample_at` does, in float64."""
        both = mesh_grid.sample(grid, coords)
        layer = layer[..., tf.newaxis]
        return (1 - layer) * both[..., :3] + layer * both[..., 3:]

    def loss(self, grid, coords, layer):
        lifted = self.lifted(grid, coords, layer)
        return data_terms.lifting_loss(tf.constant(self.points), lifted, self.counted, DELTA)

    def test_value_agrees_with_a_loop_over_cells(self):
        wanted = []
        for b in range(2):
            terms = []
            for i in np.flatnonzero(self.counted[b]):
                x, y = self.coords[b, i]
                place, weights = np.zeros([2, 3]), 0.0
                for row in range(int(y) - 3, int(y) + 5):
                    for column in range(int(x) - 3, int(x) + 5):
                        if 0 <= row < 16 and 0 <= column < 16:
                            weight = np.exp(-0.5 * ((row - y) ** 2 + (column - x) ** 2))
                            place += weight * self.map[b, row, column].reshape(2, 3)
                            weights += weight
                place = place / weights
                layer = self.layer[b, i]
                point = (1 - layer) * place[0] + layer * place[1]
                terms.append(smooth_l1(np.linalg.norm(point - self.points[b, i])))
            wanted.append(np.mean(terms))
        got = self.loss(*map(tf.constant, (self.map, self.coords, self.layer)))
        self.assertAllClose(got, wanted)
        sampling = Sampling(tiny_template())
        lifted = sampling.sample_at(self.map, self.coords, self.layer)
        got = data_terms.lifting_loss(
            tf.constant(self.points, tf.float32), lifted, self.counted, DELTA
        )
        self.assertAllClose(got, wanted, rtol=1e-4)

    def test_is_zero_for_pixels_on_their_own_correspondences(self):
        lifted = self.lifted(*map(tf.constant, (self.map, self.coords, self.layer)))
        self.assertAllEqual(
            data_terms.lifting_loss(lifted, lifted, self.counted, DELTA), [0.0, 0.0]
        )

    def test_gradients_by_the_map_the_coordinates_and_the_layer_agree_with_differences(self):
        inputs = [tf.constant(x) for x in (self.map, self.coords, self.layer)]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = tf.reduce_sum(self.loss(*inputs))
        gradients = tape.gradient(total, inputs)
        for number, gradient in enumerate(gradients[1:], start=1):

            def value(moved, number=number):
                arguments = [*inputs]
                arguments[number] = tf.constant(moved)
                return float(tf.reduce_sum(self.loss(*arguments)))

            wanted = finite_differences(value, inputs[number].numpy())
            self.assertAllClose(gradient, wanted, atol=1e-6)
            self.assertGreater(np.abs(wanted).max(), 0.1)
        # The map is large: along a direction.
        way = np.random.default_rng(5).normal(size=self.map.shape)
        step = 1e-5
        high = tf.reduce_sum(self.loss(inputs[0] + step * way, *inputs[1:]))
        low = tf.reduce_sum(self.loss(inputs[0] - step * way, *inputs[1:]))
        self.assertAllClose(tf.reduce_sum(gradients[0] * way), (high - low) / (2 * step), rtol=1e-6)


if __name__ == "__main__":
    tf.test.main()
