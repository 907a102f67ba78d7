"""The energy of whole batches: hands built to cost nothing, loops, missing views, gradients."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from dgn_tf.geometry import camera
from dgn_tf.layers import Sampling, Skinning
from dgn_tf.losses import data_terms, energy, multi_view
from dgn_tf.losses.energy import MULTI_VIEW, Energy, EnergyConfig, mean_terms
from dgn_tf.network import DualGridNet
from dgn_tf.network_config import NetworkConfig
from tests.tiny_template import tiny_template
from tests.view_records import camera_from_rig

SIZE, CUBE = 16, 300.0
CONFIG = EnergyConfig(
    omega=0.5,
    lambda1=0.7,
    lambda2=0.3,
    kappa1=0.02,
    kappa2=0.03,
    eta1=0.9,
    eta2=0.8,
    pixels=40,
    min_pixels=5,
    wrist_margin=float("inf"),
    free_space=0.6,
    part_icp=0.4,
)
TEMPLATE = tiny_template()
SAMPLING = Sampling(TEMPLATE)


@functools.cache
def made_up_hands(steps=2, cameras=3):
    """Estimates of a rigid hand that agree between the views, and their batch.

    Depth, I_m and J_o are made up: points around the hand, some of the pixels missing.
    """
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=[3, 3]))
    turn *= np.sign(np.linalg.det(turn))
    in_rig = np.eye(4)
    in_rig[:3] = np.concatenate([turn, [[0], [0], [800]]], axis=1)
    rig = np.stack([camera_from_rig(c) for c in range(cameras)])
    rig = np.tile(rig, [steps, 1, 1, 1]).astype(np.float32)
    transforms = np.tile((rig @ in_rig)[:, :, None], [1, 1, 4, 1, 1]).reshape(-1, 4, 4, 4)
    transforms = tf.constant(transforms, tf.float32)
    skinning = Skinning(TEMPLATE)
    vertices = skinning(transforms)
    views = steps * cameras
    middle = (SIZE - 1) / 2
    centre = tf.reduce_mean(vertices, axis=1)
    focal = SIZE * centre[:, 2] / CUBE
    principal = middle - focal[:, None] * centre[:, :2] / centre[:, 2:]
    intrinsics = tf.concat([focal[:, None], focal[:, None], principal], axis=1)
    depth = rng.uniform(-60, 60, [views, SIZE, SIZE]) + centre[:, 2].numpy()[:, None, None]
    valid = rng.random([views, SIZE, SIZE]) < 0.3
    depth = np.where(valid, depth, 0).astype(np.float32)
    outputs = {
        "valid": tf.constant(valid),
        "mesh_coords": tf.constant(rng.uniform(1, 14, [views, SIZE, SIZE, 2]), tf.float32),
        "mesh_layer": tf.constant(rng.random([views, SIZE, SIZE]), tf.float32),
        "coordinate_map": tf.constant(rng.normal(scale=40, size=[views, 16, 16, 6]), tf.float32),
        "transforms": transforms,
        "vertices": vertices,
        "vertices_sampled": vertices,
        "keypoints": skinning.keypoints(transforms),
    }
    by_step = {"depth": depth, "intrinsics": intrinsics, "centre": centre}
    batch = {k: tf.reshape(v, [steps, cameras, *v.shape[1:]]) for k, v in by_step.items()}
    batch |= {
        "camera_from_rig": tf.constant(rig),
        "view_valid": tf.ones([steps, cameras]),
        "rig_known": tf.ones([steps]),
    }
    return outputs, batch


def rigid_hands():
    """`made_up_hands`, in dictionaries that a test may change."""
    return tuple(map(dict, made_up_hands()))


class EnergyTest(tf.test.TestCase):
    def setUp(self):
        super().setUp()
        self.outputs, self.batch = rigid_hands()
        self.energy = Energy(TEMPLATE, CONFIG)

    def terms(self, config=CONFIG, **changes):
        energy = self.energy if config == CONFIG else Energy(TEMPLATE, config)
        return energy.step_terms(self.outputs, {**self.batch, **changes}, SAMPLING)

    def test_rigid_hands_that_agree_cost_nothing_but_for_the_pixels(self):
        terms = self.terms()
        for name in ("arap", "offset", "vertex"):
            self.assertAllClose(terms[name], np.zeros(6), atol=1e-3, msg=name)
        for name in ("icp", "lifting", "other_icp", "other_lifting"):
            self.assertAllGreater(terms[name], 1.0)

    def test_data_terms_against_other_views_agree_with_moving_the_mesh_to_them(self):
        """The paper's order, by a loop; the code moves the pixels to the mesh instead."""
        terms = self.terms(dataclasses.replace(CONFIG, pixels=SIZE * SIZE))
        outputs = {name: value.numpy() for name, value in self.outputs.items()}
        rig = self.batch["camera_from_rig"].numpy().reshape(-1, 4, 4).astype(np.float64)
        depth, intrinsics, centre = (
            tf.reshape(self.batch[name], [6, *self.batch[name].shape[2:]])
            for name in ("depth", "intrinsics", "centre")
        )
        pixels = camera.unproject_depth_map(depth, intrinsics).numpy()
        faces = np.asarray(TEMPLATE.faces)
        around = data_terms.faces_of_vertices(faces, 73)
        for b, c in ((0, 0), (1, 2)):
            mesh, icp, lifting = 3 * b + c, [], []
            for other in (3 * b + (c + 1) % 3, 3 * b + (c + 2) % 3):
                move = rig[other] @ np.linalg.inv(rig[mesh])
                vertices = outputs["vertices"][mesh] @ move[:3, :3].T + move[:3, 3]
                there = tf.constant(vertices[None])
                normals = data_terms.vertex_normals(there, faces, around)
                front = vertices[data_terms.facing(there, normals)[0].numpy()]
                distance, lifted_distance = [], []
                for row, column in zip(*np.nonzero(outputs["valid"][other]), strict=True):
                    point = pixels[other, row, column]
                    distance.append(np.min(np.linalg.norm(front - point, axis=-1)))
                    lifted = (
                        SAMPLING.sample_at(
                            outputs["coordinate_map"][mesh : mesh + 1],
                            outputs["mesh_coords"][other, row, column][None, None],
                            outputs["mesh_layer"][other, row, column][None, None],
                        )[0, 0].numpy()
                        + centre[mesh].numpy()
                    )
                    lifted = move[:3, :3] @ lifted + move[:3, 3]
                    lifted_distance.append(np.linalg.norm(lifted - point))
                for losses, found in ((icp, distance), (lifting, lifted_distance)):
                    squares = tf.constant(found, tf.float64) ** 2
                    losses.append(tf.reduce_mean(data_terms.smooth_l1(squares, CONFIG.delta)))
            self.assertAllClose(terms["other_icp"][mesh], np.mean(icp), atol=1e-2)  # mm
            self.assertAllClose(terms["other_lifting"][mesh], np.mean(lifting), atol=1e-2)

    def test_free_space_of_other_views_agrees_with_moving_the_mesh_to_them(self):
        terms = self.terms(dataclasses.replace(CONFIG, pixels=SIZE * SIZE))
        rig = self.batch["camera_from_rig"].numpy().reshape(-1, 4, 4).astype(np.float64)
        depth, intrinsics, centre = (
            tf.reshape(self.batch[name], [6, *self.batch[name].shape[2:]])
            for name in ("depth", "intrinsics", "centre")
        )
        pixels = camera.unproject_depth_map(depth, intrinsics)
        valid = self.outputs["valid"]
        for mesh, others in ((0, (1, 2)), (5, (3, 4))):
            found = []
            for other in others:
                move = rig[other] @ np.linalg.inv(rig[mesh])
                there = self.outputs["vertices"][mesh].numpy() @ move[:3, :3].T + move[:3, 3]
                there = tf.constant(there[None], tf.float32)
                seen = multi_view.sight(
                    *(of[other : other + 1] for of in (depth, valid, centre, intrinsics))
                )
                free = multi_view.in_free_space(there, seen, CONFIG.free_space_margin)
                points = pixels[other : other + 1]
                counted = tf.reshape(valid[other], [1, -1])
                self.assertAllGreater(tf.reduce_sum(tf.cast(free, tf.int32)), 0)
                loss = multi_view.free_space_loss(
                    there, free, tf.reshape(points, [1, -1, 3]), counted, CONFIG.delta
                )
                found.append(float(loss[0]))
            self.assertAllClose(terms["other_free_space"][mesh], np.mean(found), atol=1e-2)  # mm

    def test_total_is_eq_5_with_its_nested_weights(self):
        self.outputs["vertices_sampled"] += 2.0
        self.outputs["vertices"] += tf.random.stateless_normal([6, 1, 3], [1, 2]) * 9
        terms = self.terms()
        t = {name: term.numpy() for name, term in terms.items()}
        data = t["icp"] + 0.5 * t["lifting"] + 0.6 * t["free_space"] + 0.4 * t["part_icp"]
        prior = t["collision"] + 0.02 * t["arap"] + 0.03 * t["offset"]
        views = t["vertex"] + 0.9 * t["other_icp"] + 0.8 * t["other_lifting"]
        views += 0.6 * t["other_free_space"]
        self.assertAllClose(self.energy.total(terms), data + 0.7 * prior + 0.3 * views)

    def test_terms_are_those_of_the_modules(self):
        self.outputs["vertices_sampled"] += 2.0
        self.outputs["keypoints"] *= 0.02  # collide
        terms = self.terms()
        self.assertAllClose(terms["arap"], np.full(6, 12.0), rtol=1e-3)
        collision = energy.collision_loss(self.outputs["keypoints"])
        self.assertAllClose(terms["collision"], collision)
        self.assertAllGreater(collision, 1.0)
        views = [tf.reshape(self.outputs["vertices"], [2, 3, 73, 3]), self.batch["camera_from_rig"]]
        moved = views[0] + [[[[0]], [[9]], [[0]]]]
        self.outputs["vertices"] = tf.reshape(moved, [6, 73, 3])
        wanted = multi_view.vertex_loss(moved, views[1], tf.ones([2, 3], tf.bool), CONFIG.delta)
        as_the_paper = self.terms(dataclasses.replace(CONFIG, free_space=0.0))
        self.assertAllClose(as_the_paper["vertex"], tf.reshape(wanted, [-1]))

    def test_vertices_in_free_space_of_a_camera_have_no_vote(self):
        rng = np.random.default_rng(5)
        rig = self.batch["camera_from_rig"]
        shape = [2, 3, 73, 3]
        vertices = tf.reshape(self.outputs["vertices"], shape) + rng.normal(scale=20, size=shape)
        vertices = tf.cast(vertices, tf.float32)
        self.outputs["vertices"] = tf.reshape(vertices, [6, 73, 3])
        depth = np.full([2, 3, SIZE, SIZE], 300, np.float32)  # before the hand: hides all of it
        depth[:, 0, :, SIZE // 2 :] = 0  # camera 0 sees past it in the right half
        intrinsics = self.batch["intrinsics"][:, 0]
        seen = multi_view.sight(
            depth[:, 0], depth[:, 0] > 0, self.batch["centre"][:, 0], intrinsics
        )
        votes = np.ones(shape[:3], bool)
        for c in range(3):
            first_from_view = tf.matmul(rig[:, 0], tf.linalg.inv(rig[:, c]))
            there = multi_view.moved(vertices[:, c], first_from_view)
            votes[:, c] = ~multi_view.in_free_space(there, seen, CONFIG.free_space_margin).numpy()
        self.assertBetween(votes.mean(), 0.2, 0.8)
        every = tf.ones([2, 3], tf.bool)
        wanted = multi_view.vertex_loss(vertices, rig, every, CONFIG.delta, tf.constant(votes))
        self.outputs["valid"] = tf.constant(depth.reshape(6, SIZE, SIZE) > 0)
        found = self.terms(depth=tf.constant(depth))["vertex"]
        self.assertAllClose(found, tf.reshape(wanted, [-1]), rtol=1e-4)
        # A view without a hand is no witness: its crop is empty all over.
        absent = np.ones([2, 3], np.float32)
        absent[:, 0] = 0
        wanted = multi_view.vertex_loss(vertices, rig, tf.constant(absent > 0), CONFIG.delta)
        found = self.terms(depth=tf.constant(depth), view_valid=tf.constant(absent))["vertex"]
        self.assertAllClose(found, tf.reshape(wanted, [-1]), rtol=1e-4)

    def test_terms_of_weight_zero_are_not_computed(self):
        config = EnergyConfig(omega=0, kappa2=0, eta1=0, min_pixels=5)
        terms = self.terms(config)
        self.assertNotIn("lifting", terms)
        self.assertNotIn("offset", terms)
        self.assertNotIn("other_icp", terms)
        single = self.terms(EnergyConfig(lambda1=0, lambda2=0, min_pixels=5))
        self.assertEqual(set(single), {"icp", "lifting", "usable"})

    def test_single_views_have_the_own_terms_of_synchronised_ones(self):
        together = self.terms()
        flat = {
            name: tf.reshape(self.batch[name], [6, *self.batch[name].shape[2:]])
            for name in ("depth", "intrinsics", "centre")
        }
        alone = self.energy.view_terms(self.outputs, flat, SAMPLING)
        self.assertEqual(set(together) - set(alone), set(MULTI_VIEW))
        for name, term in alone.items():
            self.assertAllEqual(term, together[name])

    def test_pixels_drawn_tell_nearly_what_all_of_them_do(self):
        everything = self.terms(dataclasses.replace(CONFIG, pixels=SIZE * SIZE))["icp"].numpy()
        drawn = [
            self.energy.step_terms(self.outputs, self.batch, SAMPLING, tf.constant([3, i]))["icp"]
            for i in range(8)
        ]
        self.assertAllClose(np.mean(drawn, axis=0), everything, rtol=0.05)

    def test_a_missing_view_costs_nothing_and_changes_no_other(self):
        valid = np.ones([2, 3], np.float32)
        valid[1, 1] = 0
        wanted = self.terms(view_valid=tf.constant(valid))
        self.assertAllEqual(wanted["usable"], valid.reshape(-1) > 0)
        far = np.zeros([6, 1, 1], np.float32)
        far[4] = 1000
        for name in ("vertices", "vertices_sampled", "keypoints"):
            self.outputs[name] += far
        got = self.terms(view_valid=tf.constant(valid))
        for name, term in got.items():
            self.assertAllClose(term, wanted[name], msg=name)
            if name != "usable":
                self.assertEqual(float(term[4]), 0.0, name)

    def test_a_view_without_hand_pixels_counts_as_missing(self):
        empty = self.outputs["valid"].numpy()
        empty[4] = False
        depth = self.batch["depth"].numpy()
        depth[1, 1] = np.nan  # not measured: whatever stands there
        self.outputs["valid"] = tf.constant(empty)
        terms = self.terms(depth=tf.constant(depth))
        self.assertAllEqual(terms["usable"], [True] * 4 + [False, True])
        for name, term in terms.items():
            if name != "usable":
                self.assertAllEqual(tf.math.is_finite(term), [True] * 6)
                self.assertEqual(float(term[4]), 0.0, name)

    def test_an_unknown_rig_leaves_the_terms_of_single_views(self):
        terms = self.terms(rig_known=tf.constant([1.0, 0.0]))
        for name in MULTI_VIEW:
            self.assertAllEqual(terms[name][3:], np.zeros(3))
        self.assertAllGreater(terms["other_icp"][:3], 0.0)
        self.assertAllGreater(terms["icp"], 0.0)

    def test_pixels_beyond_the_estimated_wrist_do_not_count(self):
        config = dataclasses.replace(CONFIG, wrist_margin=10.0)
        self.assertAllGreater(self.terms(config)["icp"], 0.0)
        # Every pixel lies behind a palm that is a metre ahead, along its own axis.
        transforms = self.outputs["transforms"].numpy()
        transforms[:, 0, :3, 3] += 1000 * transforms[:, 0, :3, 2]
        self.outputs["transforms"] = tf.constant(transforms)
        terms = self.terms(config)
        for name in ("icp", "lifting", "free_space", *MULTI_VIEW[1:]):
            self.assertAllEqual(terms[name], np.zeros(6))

    def test_means_are_over_the_usable_views(self):
        terms = {"icp": tf.constant([1.0, 0, 3]), "usable": tf.constant([True, False, True])}
        self.assertAllClose(mean_terms(terms), {"icp": 2.0})
        terms["usable"] = tf.zeros([3], tf.bool)
        terms["icp"] = tf.zeros([3])
        self.assertAllClose(mean_terms(terms), {"icp": 0.0})

    def test_bad_weights_are_named(self):
        with self.assertRaisesRegex(ValueError, "kappa1 finite and >= 0, got -1"):
            EnergyConfig(kappa1=-1)
        with self.assertRaisesRegex(ValueError, "pixels above 0, got 0"):
            EnergyConfig(pixels=0)


def step_of(network, config):
    """The graph of a step's means and gradients."""
    energy = Energy(TEMPLATE, config)

    @tf.function
    def step(batch):
        flat = {
            name: tf.reshape(batch[name], [6, *batch[name].shape[2:]])
            for name in ("depth", "intrinsics", "centre")
        }
        with tf.GradientTape() as tape:
            outputs = network({**flat, "cube": tf.fill([6], CUBE)}, training=True)
            terms = energy.step_terms(outputs, batch, network.sampling, tf.constant([1, 2]))
            means = mean_terms(terms)
            total = energy.total(means)
        variables = network.trainable_variables
        found = zip(variables, tape.gradient(total, variables), strict=True)
        return means, {v.name: tf.convert_to_tensor(g) for v, g in found if g is not None}

    return step


class NetworkGradientTest(tf.test.TestCase):
    """The energy of a small network's own estimates, in a graph."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        tf.keras.utils.set_random_seed(1)
        config = NetworkConfig(
            image_size=16, image_channels=(8,), mesh_channels=(8,), features=4, upright=False
        )
        cls.network = DualGridNet(TEMPLATE, config)
        cls.network(cls.network.example_inputs())

    def reached(self, found, layer):
        return any(np.abs(found.get(v.name, 0.0)).max() > 0 for v in layer.trainable_variables)

    def test_lifting_alone_reaches_both_networks(self):
        _, batch = rigid_hands()
        config = EnergyConfig(icp=0, lambda1=0, lambda2=0, min_pixels=5, wrist_margin=float("inf"))
        means, found = step_of(self.network, config).python_function(batch)  # eagerly
        self.assertGreater(float(means["lifting"]), 0.0)
        self.assertTrue(self.reached(found, self.network.correspondence_head))
        self.assertTrue(self.reached(found, self.network.coordinate_head))

    def test_all_terms_are_finite_and_a_batch_of_background_costs_nothing(self):
        _, batch = rigid_hands()
        step = step_of(self.network, CONFIG)
        means, found = step(batch)
        self.assertEqual(set(means), set(CONFIG.weights()))
        for name, gradient in found.items():
            self.assertTrue(np.isfinite(gradient).all(), name)
        means, found = step({**batch, "depth": tf.zeros_like(batch["depth"])})
        for name, mean in means.items():
            self.assertEqual(float(mean), 0.0, name)
        for name, gradient in found.items():
            self.assertAllEqual(gradient, np.zeros(gradient.shape), name)


if __name__ == "__main__":
    tf.test.main()
