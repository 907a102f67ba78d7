"""Frames of hands that are given: their pose, view and truth; the others stay what they were."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import kinematics, upright
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.pose_prior import GivenHands, GivenSettings
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.template import load_template

STILL = GivenSettings(angle_noise=0, shape_sigma=0, view_share=1, view_noise_degrees=0)


@pytest.fixture(scope="module")
def template():
    return load_template()


def random_hands(template, count, settings=STILL, seed=0):
    rng = np.random.default_rng(seed)
    limits = np.asarray(template.joint_limits, np.float64)
    angles = rng.uniform(limits[..., 0], limits[..., 1], [count, *limits.shape[:2]])
    shape = np.zeros([count, len(template.shape_joints)])
    rotation = np.linalg.qr(rng.normal(size=[count, 3, 3]))[0]
    rotation *= np.linalg.det(rotation)[:, None, None]
    return GivenHands(angles, shape, rotation, settings)


def posed(template, hands):
    """[M, V, 3] by the transforms of Eq. 12, in the view that is given."""
    local = kinematics.affine(
        kinematics.rotation_from_angles(tf.constant(hands.angles, tf.float32)),
        tf.zeros([*hands.angles.shape, 1]),
    )
    transforms = kinematics.global_from_local(local, template.bone_from_template, template.parents)
    vertices = kinematics.skin(transforms, template.vertices, template.skinning_weights).numpy()
    return np.einsum("mij,mvj->mvi", hands.rotation, vertices)


def test_vertices_are_the_given_pose_seen_as_given_but_for_the_roll(template):
    hands = random_hands(template, 12)
    batch = synthesize_batch(template, SynthesisConfig(), 3, 0, 12, 1, hands)
    middle = batch["vertices"].mean(axis=1)
    view = upright.view_from_camera(tf.constant(middle)).numpy()
    seen = np.einsum("mij,mvj->mvi", view, batch["vertices"] - middle[:, None])
    wanted = posed(template, hands)
    wanted -= wanted.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(seen[..., 2], wanted[..., 2], atol=0.01)
    flat, wanted = (v[..., 0] + 1j * v[..., 1] for v in (seen, wanted))
    roll = (flat * wanted.conj()).sum(axis=1, keepdims=True)
    roll /= np.abs(roll)
    np.testing.assert_allclose(flat, roll * wanted, atol=0.01)
    assert np.ptp(np.angle(roll)) > 1.0  # rolled, each by an angle of its own


def test_noise_moves_the_given_pose_a_little(template):
    hands = random_hands(template, 8, STILL._replace(angle_noise=0.04))
    wanted = posed(template, hands)
    batch = synthesize_batch(template, SynthesisConfig(), 3, 0, 8, 1, hands)
    gaps = pairwise(batch["vertices"]) - pairwise(wanted)
    assert 0.3 < np.abs(gaps).mean() < 8.0
    at_rest = hands._replace(angles=np.zeros_like(hands.angles))
    still = synthesize_batch(
        template, SynthesisConfig(), 3, 0, 8, 1, at_rest._replace(settings=STILL)
    )
    assert np.abs(pairwise(still["vertices"]) - pairwise(posed(template, at_rest))).max() < 0.01


def pairwise(vertices):
    some = vertices[:, ::60]
    return np.linalg.norm(some[:, :, None] - some[:, None], axis=-1)


def test_shape_is_that_which_is_given(template):
    hands = random_hands(template, 2)
    hands.shape[1, 0] = 1.5
    hands.angles[:] = 0
    batch = synthesize_batch(template, SynthesisConfig(), 1, 0, 2, 1, hands)
    wanted = template.vertices + 1.5 * np.asarray(template.shape_basis)[0]
    np.testing.assert_allclose(pairwise(batch["vertices"])[1], pairwise(wanted[None])[0], atol=0.02)


def test_samples_after_the_given_ones_are_the_sampler_s_and_threads_do_not_matter(template):
    hands = random_hands(template, 10, GivenSettings())
    plain = synthesize_batch(template, SynthesisConfig(), 5, 0, 20, 1)
    mixed = synthesize_batch(template, SynthesisConfig(), 5, 0, 20, 1, hands)
    threads = synthesize_batch(template, SynthesisConfig(), 5, 0, 20, 2, hands)
    for name, value in mixed.items():
        np.testing.assert_array_equal(value[10:], plain[name][10:], err_msg=name)
        np.testing.assert_array_equal(value, threads[name], err_msg=name)
    assert (np.abs(mixed["vertices"] - plain["vertices"]).max(axis=(1, 2))[:10] > 1).all()


def test_part_of_the_views_are_the_sampler_s(template):
    hands = random_hands(template, 32)
    hands = hands._replace(settings=STILL._replace(view_share=0.5))
    hands.rotation[:] = hands.rotation[0]
    hands.angles[:] = hands.angles[0]
    batch = synthesize_batch(template, SynthesisConfig(), 2, 0, 32, 1, hands)
    middle = batch["vertices"].mean(axis=1)
    view = upright.view_from_camera(tf.constant(middle)).numpy()
    seen = np.einsum("mij,mvj->mvi", view, batch["vertices"] - middle[:, None])
    wanted = posed(template, hands)[0]
    off = np.abs(seen[..., 2] - (wanted - wanted.mean(axis=0))[:, 2]).max(axis=1)
    assert 6 <= (off < 0.01).sum() <= 26
