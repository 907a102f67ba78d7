"""Vertices where a camera looks past the hand, against loops and finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.losses.multi_view import free_space_loss, in_free_space, sight
from tests.finite_differences import finite_differences

SIZE, FOCAL, MIDDLE = 16, 40.0, 7.5
CENTRE = tf.constant([[0.0, 0.0, 500.0]])
INTRINSICS = tf.constant([[FOCAL, FOCAL, MIDDLE, MIDDLE]])


def seen(depth, valid=None):
    depth = np.asarray(depth, np.float32)[None]
    valid = (depth > 400) & (depth < 600) if valid is None else valid[None]
    return sight(tf.constant(depth), tf.constant(valid), CENTRE, INTRINSICS)


def at(column, row, z):
    """[1, 1, 3] the point seen at a pixel."""
    return tf.constant(
        [[[(column - MIDDLE) * z / FOCAL, (row - MIDDLE) * z / FOCAL, z]]], tf.float32
    )


def a_wall():
    """Depth 500 in the left half, nothing in the right one."""
    depth = np.zeros([SIZE, SIZE], np.float32)
    depth[:, : SIZE // 2] = 500
    return depth


def is_free(depth, *point, **kwargs):
    return bool(in_free_space(at(*point), seen(depth, **kwargs), 10.0)[0, 0])


def test_what_lies_on_or_behind_a_surface_is_not_in_free_space():
    for z in (490.5, 500, 530, 900):
        assert not is_free(a_wall(), 3, 5, z)


def test_what_lies_before_a_surface_or_beside_it_is():
    assert is_free(a_wall(), 3, 5, 489)
    for z in (300, 500, 800):
        assert is_free(a_wall(), 12, 5, z)


def test_the_neighbour_of_a_surface_is_still_of_it():
    assert not is_free(a_wall(), 8, 5, 500)  # the last measured column is 7
    assert is_free(a_wall(), 9, 5, 500)


def test_a_hole_of_a_pixel_is_no_way_through():
    depth = np.full([SIZE, SIZE], 500.0)
    depth[5, 5] = 0
    assert not is_free(depth, 5, 5, 520)
    depth[4:7, 4:7] = np.nan
    assert is_free(depth, 5, 5, 520)


def test_the_background_is_free_and_what_stands_before_the_hand_is_not():
    beyond, before = np.full([SIZE, SIZE], 1500.0), np.full([SIZE, SIZE], 250.0)
    assert is_free(beyond, 5, 5, 520)
    assert not is_free(before, 5, 5, 520)
    assert is_free(before, 5, 5, 200)


def test_beyond_the_crop_and_behind_the_camera_nothing_is_known():
    nothing = np.zeros([SIZE, SIZE])
    assert is_free(nothing, 15, 15, 500)
    for point in ((16, 5, 500), (5, -1, 500), (1e12, 5, 500), (5, 5, -500), (5, 5, 0)):
        assert not is_free(nothing, *point)


def test_all_points_at_once_agree_with_a_loop():
    rng = np.random.default_rng(3)
    depth = np.where(rng.random([SIZE, SIZE]) < 0.3, rng.uniform(300, 900, [SIZE, SIZE]), 0)
    depth = depth.astype(np.float32)
    points = np.concatenate(
        [rng.uniform(-110, 110, [500, 2]), rng.uniform(400, 600, [500, 1])], axis=1
    ).astype(np.float32)
    got = in_free_space(tf.constant(points[None]), seen(depth), 10.0)[0].numpy()
    wanted = []
    for x, y, z in points:
        column, row = round(x * FOCAL / z + MIDDLE), round(y * FOCAL / z + MIDDLE)
        if not (0 <= column < SIZE and 0 <= row < SIZE):
            wanted.append(False)
            continue
        reach = np.inf
        for r in range(max(row - 1, 0), min(row + 2, SIZE)):
            for c in range(max(column - 1, 0), min(column + 2, SIZE)):
                if 0 < depth[r, c] < 600:  # inside the cube, or before it
                    reach = min(reach, depth[r, c])
        wanted.append(z < reach - 10)
    assert 50 < sum(wanted) < 450
    np.testing.assert_array_equal(got, wanted)


def hands(seed=0):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(scale=40, size=[2, 9, 3]) + [0, 0, 500]
    points = rng.normal(scale=40, size=[2, 7, 3]) + [0, 0, 500]
    return vertices, rng.random([2, 9]) < 0.5, points, rng.random([2, 7]) < 0.7


def test_the_loss_is_the_loop_over_vertices_in_free_space():
    vertices, free, points, counted = hands()
    got = free_space_loss(*map(tf.constant, (vertices, free, points, counted)), 5.0)
    for example in range(2):
        total = 0.0
        for vertex in vertices[example][free[example]]:
            apart = np.linalg.norm(points[example][counted[example]] - vertex, axis=1).min()
            total += apart - 2.5 if apart > 5 else apart**2 / 10
        np.testing.assert_allclose(got[example], total / 9, rtol=1e-9)


def test_vertices_on_measured_points_and_hands_without_any_cost_nothing():
    vertices, free, points, counted = hands()
    on = tf.constant(points), tf.constant(np.ones([2, 7], bool))
    assert np.all(free_space_loss(*on, *on, 5.0) == 0)
    none = np.zeros_like(counted)
    assert np.all(free_space_loss(*map(tf.constant, (vertices, free, points, none)), 5.0) == 0)
    held = np.zeros_like(free)
    assert np.all(free_space_loss(*map(tf.constant, (vertices, held, points, counted)), 5.0) == 0)


def test_its_gradient_agrees_with_finite_differences():
    vertices, free, points, counted = hands(5)
    rest = [tf.constant(value) for value in (free, points, counted)]
    at_vertices = tf.constant(vertices)
    with tf.GradientTape() as tape:
        tape.watch(at_vertices)
        loss = tf.reduce_sum(free_space_loss(at_vertices, *rest, 5.0))
    got = tape.gradient(loss, at_vertices).numpy()

    def value(moved):
        return float(tf.reduce_sum(free_space_loss(tf.constant(moved), *rest, 5.0)))

    np.testing.assert_allclose(got, finite_differences(value, vertices), atol=1e-6)
    assert np.all(got[~free] == 0) and np.all(np.any(got[free] != 0, axis=-1))


@pytest.mark.parametrize("jit", [False, True])
def test_it_runs_in_a_graph(jit):
    vertices, _, points, counted = hands()

    @tf.function(jit_compile=jit)
    def loss(mesh):
        rays = sight(
            tf.constant(np.stack([a_wall()] * 2)),
            tf.constant(np.stack([a_wall() > 0] * 2)),
            tf.repeat(CENTRE, 2, 0),
            tf.repeat(INTRINSICS, 2, 0),
        )
        free = in_free_space(mesh, rays, 10.0)
        return free_space_loss(
            mesh, free, tf.constant(points, tf.float32), tf.constant(counted), 5.0
        )

    mesh = tf.constant(vertices, tf.float32)
    np.testing.assert_allclose(loss(mesh), loss.python_function(mesh), rtol=1e-5)
