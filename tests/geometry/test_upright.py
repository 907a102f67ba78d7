"""The networks' view: straight on, the palm's axis up."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import upright
from dgn_tf.template import load_template


@pytest.fixture(scope="module")
def template():
    return load_template()


def rotations(count, seed=0):
    rng = np.random.default_rng(seed)
    matrices, _ = np.linalg.qr(rng.normal(size=(count, 3, 3)))
    return (matrices * np.linalg.det(matrices)[:, None, None]).astype(np.float32)


def test_palm_axis_follows_the_palm_whatever_the_fingers_do(template):
    weights = upright.palm_axis_weights(template)
    rest = weights @ template.vertices
    np.testing.assert_allclose(np.linalg.norm(rest), 1, atol=1e-5)
    rng = np.random.default_rng(1)
    for rotation in rotations(5):
        posed = template.vertices @ rotation.T + [30, -50, 600]
        of_fingers = 1 - template.skinning_weights[:, :1]
        posed = posed + np.where(of_fingers > 0.011, rng.normal(size=posed.shape) * 40, 0)
        np.testing.assert_allclose(weights @ posed, rotation @ rest, atol=1e-3)


def test_palm_axis_points_from_the_wrist_to_the_fingers(template):
    axis = upright.palm_axis_weights(template) @ template.vertices
    wrist = template.vertices[template.wrist_loop].mean(axis=0)
    tip = template.vertices[np.argmax(np.linalg.norm(template.vertices - wrist, axis=1))]
    assert axis @ (tip - wrist) / np.linalg.norm(tip - wrist) > 0.9


def test_rotation_to_upright_is_proper_and_makes_directions_point_up():
    directions = np.random.default_rng(2).normal(size=(50, 2)).astype(np.float32)
    turn = upright.rotation_to_upright(tf.constant(directions)).numpy()
    np.testing.assert_allclose(np.linalg.det(turn), 1, atol=1e-5)
    turned = np.einsum("bij,bj->bi", turn, directions)
    up = np.stack([np.zeros(50), -np.linalg.norm(directions, axis=1)], axis=1)
    np.testing.assert_allclose(turned, up, atol=1e-5)


def test_no_direction_turns_nothing():
    np.testing.assert_allclose(
        upright.rotation_to_upright(tf.zeros([1, 2]))[0], np.eye(2), atol=1e-6
    )


def test_view_from_camera_is_the_smallest_rotation_that_looks_at_the_centre():
    rng = np.random.default_rng(3)
    centres = rng.uniform([-400, -300, 300], [400, 300, 1000], [50, 3]).astype(np.float32)
    view = upright.view_from_camera(tf.constant(centres)).numpy()
    np.testing.assert_allclose(np.linalg.det(view), 1, atol=1e-5)
    np.testing.assert_allclose(
        view @ view.transpose(0, 2, 1), np.tile(np.eye(3), (50, 1, 1)), atol=1e-5
    )
    seen = np.einsum("bij,bj->bi", view, centres)
    distance = np.linalg.norm(centres, axis=1)
    np.testing.assert_allclose(seen / distance[:, None], np.tile([0, 0, 1], (50, 1)), atol=1e-6)
    angle = np.arccos(np.clip((np.trace(view, axis1=1, axis2=2) - 1) / 2, -1, 1))
    np.testing.assert_allclose(angle, np.arccos(centres[:, 2] / distance), atol=2e-3)


def test_rotate_keeps_shape_and_length():
    vectors = tf.constant(np.random.default_rng(4).normal(size=(3, 4, 5, 3)), tf.float32)
    rotation = rotations(3)
    rotated = upright.rotate(vectors, tf.constant(rotation)).numpy()
    np.testing.assert_allclose(rotated, np.einsum("bij,bhwj->bhwi", rotation, vectors), atol=1e-5)


@pytest.mark.parametrize("quarters", range(4))
def test_lookup_of_quarter_turns_is_exact(quarters):
    image = np.arange(36, dtype=np.float32).reshape(1, 6, 6, 1)
    angle = quarters * np.pi / 2
    turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    index, inside = upright.turned_lookup(tf.constant([turn], tf.float32), 6)
    turned = upright.look_up(tf.constant(image), index).numpy()
    assert inside.numpy().all()
    # A positive angle turns x (right) towards y (down): clockwise as one sees it.
    np.testing.assert_array_equal(turned[0, :, :, 0], np.rot90(image[0, :, :, 0], -quarters))


def test_lookup_there_and_back_moves_a_pixel_by_less_than_two():
    size = 32
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    places = np.stack([columns, rows], axis=-1)[None].astype(np.float32)
    turn = upright.rotation_to_upright(tf.constant([[0.6, 0.3]]))
    there, inside = upright.turned_lookup(turn, size)
    turned = upright.look_up(tf.constant(places), there)
    back, _ = upright.turned_lookup(tf.linalg.matrix_transpose(turn), size)
    again = upright.look_up(turned, back).numpy()
    middle = np.hypot(columns - 15.5, rows - 15.5) < 14  # what the turned crop still holds
    assert np.abs(again - places)[0][middle].max() < 2
    assert 0.7 < np.mean(inside) < 1
