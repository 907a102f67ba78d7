import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import camera

SIZE = 64
INTRINSICS = tf.constant([[475.0, 470.0, 310.5, 245.2], [240.0, 240.0, 160.0, 120.0]])
CENTRE = tf.constant([[40.0, -30.0, 520.0], [-150.0, 60.0, 410.0]])
CUBE = tf.constant([300.0, 250.0])


def _depth(height=480, width=640, seed=0):
    rng = np.random.default_rng(seed)
    return np.float32(rng.uniform(250, 900, size=[2, height, width]))


def _naive_crop(depth, intrinsics, centre, cube):
    fx, fy, cx, cy = intrinsics
    x, y, z = centre
    result = np.zeros([SIZE, SIZE], np.float32)
    for row in range(SIZE):
        for column in range(SIZE):
            u = fx * x / z + cx + ((column + 0.5) / SIZE - 0.5) * cube * fx / z
            v = fy * y / z + cy + ((row + 0.5) / SIZE - 0.5) * cube * fy / z
            u, v = int(np.floor(u + 0.5)), int(np.floor(v + 0.5))
            if 0 <= v < depth.shape[0] and 0 <= u < depth.shape[1]:
                result[row, column] = depth[v, u]
    return result


def test_crop_is_the_nearest_pixel_of_a_window_around_the_centre():
    depth = _depth(seed=1)
    got, _ = camera.crop_depth(tf.constant(depth), INTRINSICS, CENTRE, CUBE)
    for i in range(2):
        expected = _naive_crop(
            depth[i],
            INTRINSICS[i].numpy().astype(np.float64),
            CENTRE[i].numpy().astype(np.float64),
            float(CUBE[i]),
        )
        # A rounding error may move a pixel at the edge between two.
        assert np.mean(got[i] == expected) > 0.999


def test_crop_pixel_unprojects_to_the_ray_of_its_place_in_the_frame():
    scale, offset = (
        value.numpy() for value in camera.crop_from_frame(INTRINSICS, CENTRE, CUBE, SIZE)
    )
    intrinsics = camera.crop_camera(INTRINSICS, CENTRE, CUBE, SIZE)
    pixels = np.float32(np.random.default_rng(2).uniform(0, SIZE - 1, size=[2, 50, 2]))
    depth = np.full([2, 50, 1], 500, np.float32)
    in_frame = (pixels - offset[:, None]) / scale[:, None]
    by_crop = camera.unproject(np.concatenate([pixels, depth], -1), intrinsics)
    by_frame = camera.unproject(np.concatenate([in_frame, depth], -1), INTRINSICS)
    np.testing.assert_allclose(by_crop, by_frame, atol=2e-3)  # mm at 500 mm


def test_centre_falls_on_the_middle_and_the_cube_fills_the_crop():
    intrinsics = camera.crop_camera(INTRINSICS, CENTRE, CUBE, SIZE)
    corner = CENTRE + tf.stack([CUBE, CUBE, 0 * CUBE], axis=-1) / 2
    uvd = camera.project(tf.stack([CENTRE, corner], axis=1), intrinsics).numpy()
    np.testing.assert_allclose(uvd[:, 0, :2], (SIZE - 1) / 2, atol=1e-3)  # pixels
    np.testing.assert_allclose(uvd[:, 1, :2], SIZE - 0.5, atol=1e-3)


def test_outside_the_frame_is_missing():
    depth = tf.ones([2, 120, 160]) * 400
    centre = tf.constant([[-600.0, 0.0, 400.0], [1e7, 0.0, 400.0]])
    got, _ = camera.crop_depth(depth, INTRINSICS, centre, CUBE)
    np.testing.assert_array_equal(got, 0)


def test_normalised_points_are_in_cube_units_and_the_rest_is_background():
    depth = np.full([2, SIZE, SIZE], 500, np.float32)
    bad = [0, -100, np.nan, np.inf, -np.inf, 500 - 151, 500 + 151, 1e-30]
    depth[0, 0, : len(bad)] = bad
    intrinsics = camera.crop_camera(INTRINSICS, CENTRE, CUBE, SIZE)
    centre = CENTRE + tf.constant([[0.0, 0, -20], [0, 0, 0]])  # z: 500 and 410
    got = camera.normalise_crop(depth, intrinsics, centre, CUBE).numpy()
    assert np.isfinite(got).all()
    np.testing.assert_array_equal(got[0, 0, : len(bad)], [[0, 0, 1, 0]] * len(bad))
    np.testing.assert_array_equal(got[0, 0, len(bad) :, 3], 1)
    uvd = np.float32([[[10, 20, 500]]])
    xyz = camera.unproject(uvd, intrinsics[1:]).numpy()[0, 0]
    np.testing.assert_allclose(got[1, 20, 10, :3], (xyz - centre[1]) / 125, atol=1e-5)
    back = camera.millimetres_from_cube(tf.reshape(got[..., :3], [2, -1, 3]), centre, CUBE)
    np.testing.assert_allclose(tf.reshape(back, got[..., :3].shape)[1, 20, 10], xyz, atol=1e-3)
    again = camera.cube_from_millimetres(back, centre, CUBE)
    np.testing.assert_allclose(again, got[..., :3].reshape(2, -1, 3), atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_graph_of_unknown_batch_and_frame_size_agrees_with_eager(jit):
    def run(depth, intrinsics, centre, cube):
        cropped, camera_of_crop = camera.crop_depth(depth, intrinsics, centre, cube)
        return cropped, camera.normalise_crop(cropped, camera_of_crop, centre, cube)

    shapes = [[None, None, None], [None, 4], [None, 3], [None]]
    graph = tf.function(
        run, jit_compile=jit, input_signature=[tf.TensorSpec(shape) for shape in shapes]
    )
    depth = tf.constant(_depth(120, 160))
    for count in (1, 2):
        arguments = [value[:count] for value in (depth, INTRINSICS, CENTRE, CUBE)]
        for got, expected in zip(graph(*arguments), run(*arguments), strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-5)


def test_wrong_rank_is_named():
    with pytest.raises(ValueError, match=r"\[B, H, W\]"):
        camera.crop_depth(tf.zeros([4, 4]), INTRINSICS, CENTRE, CUBE)
