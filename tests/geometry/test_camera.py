import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import camera

INTRINSICS = np.float32([[475.0, 470.0, 310.5, 245.2], [300.0, 310.0, 160.0, 120.0]])


def _points(seed=0):
    rng = np.random.default_rng(seed)
    return np.float32(rng.uniform([-200, -150, 300], [200, 150, 1000], size=[2, 40, 3]))


def test_project_and_unproject_are_inverse():
    points = _points()
    uvd = camera.project(points, INTRINSICS)
    np.testing.assert_allclose(camera.unproject(uvd, INTRINSICS), points, atol=1e-3)  # mm


def test_project_of_a_case_worked_by_hand():
    uvd = camera.project(tf.constant([[100.0, -50.0, 500.0]]), tf.constant([400.0, 200.0, 32, 24]))
    np.testing.assert_allclose(uvd, [[112.0, 4.0, 500.0]], atol=1e-4)


def test_y_points_down_and_x_right():
    uvd = camera.project(tf.constant([[0.0, 0, 500], [10, 10, 500]]), INTRINSICS[0]).numpy()
    assert (uvd[1, :2] > uvd[0, :2]).all()


def test_unproject_depth_map_is_unproject_of_the_pixel_grid():
    depth = np.float32(np.random.default_rng(1).uniform(300, 900, size=[2, 5, 7]))
    depth[0, 2, 3] = 0
    grid = np.broadcast_to(camera.pixel_grid(5, 7), [2, 5, 7, 2])
    uvd = np.concatenate([grid, depth[..., None]], axis=-1).reshape(2, 35, 3)
    expected = camera.unproject(uvd, INTRINSICS).numpy().reshape(2, 5, 7, 3)
    got = camera.unproject_depth_map(tf.constant(depth), tf.constant(INTRINSICS)).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-3)  # mm
    np.testing.assert_array_equal(got[0, 2, 3], 0)


@pytest.mark.parametrize("function", [camera.project, camera.unproject])
def test_wrong_last_axis_is_named(function):
    with pytest.raises(ValueError, match="wants .* intrinsics"):
        function(tf.zeros([2, 4, 2]), INTRINSICS)
    with pytest.raises(ValueError, match="wants .* intrinsics"):
        function(tf.zeros([2, 4, 3]), INTRINSICS[:, :3])
