import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.localize import raster
from dgn_tf.localize.raster import BLOCK, COLUMNS, HEIGHT, ROWS, WIDTH

INTRINSICS = np.float32([[130.0, 120.0, 78.0, 65.0]])  # of the raster


def random_raster(seed=0, missing=0.3):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(400, 900, [1, HEIGHT, WIDTH]).astype(np.float32)
    depth[rng.random(depth.shape) < missing] = 0
    depth[0, :BLOCK, :BLOCK] = 0  # a block without depth
    return depth


@pytest.mark.parametrize("size", [(640, 480), (160, 128), (1280, 720), (100, 90)])
def test_thinning_keeps_pixels_and_their_rays(size):
    width, height = size
    rng = np.random.default_rng(1)
    frame = rng.uniform(200, 3000, [1, height, width]).astype(np.float32)
    intrinsics = np.float32([[500, 480, width / 2 + 3, height / 2 - 5]])
    thinned, of_raster = (value.numpy() for value in raster.thin(frame, intrinsics))
    fx, fy, cx, cy = intrinsics[0]
    gx, gy, hx, hy = of_raster[0]
    for row, column in rng.integers([0, 0], [HEIGHT, WIDTH], [50, 2]):
        v, u = int((row + 0.5) * height / HEIGHT), int((column + 0.5) * width / WIDTH)
        assert thinned[0, row, column] == frame[0, v, u]
        # Half a native pixel, or half a raster pixel where that is smaller than a native one.
        assert abs((u - cx) / fx - (column - hx) / gx) < 0.51 * max(1 / fx, 1 / gx)
        assert abs((v - cy) / fy - (row - hy) / gy) < 0.51 * max(1 / fy, 1 / gy)


def test_what_is_no_depth_is_missing():
    frame = np.full([1, HEIGHT, WIDTH], 500, np.float32)
    frame[0, 0, :5] = [np.nan, np.inf, -3, 99, 4001]
    thinned, _ = raster.thin(frame, INTRINSICS)
    np.testing.assert_array_equal(thinned[0, 0, :6], [0, 0, 0, 0, 0, 500])


def test_surfaces_agree_with_a_loop():
    depth = random_raster()
    found = {name: value.numpy()[0] for name, value in raster.surfaces(depth, INTRINSICS).items()}
    fx, fy, cx, cy = INTRINSICS[0]
    for row, column in [(0, 0), (3, 7), (ROWS - 1, COLUMNS - 1), (16, 20)]:
        points = [
            np.array([(u - cx) / fx, (v - cy) / fy, 1]) * depth[0, v, u]
            for v in range(BLOCK * row, BLOCK * (row + 1))
            for u in range(BLOCK * column, BLOCK * (column + 1))
            if depth[0, v, u] > 0
        ]
        front = min((point[2] for point in points), default=0)
        near = [point for point in points if point[2] <= front + raster.SURFACE_MM]
        assert found["front"][row, column, 0] == np.float32(front)
        assert found["pixels"][row, column, 0] == len(near)
        assert found["near"][row, column].sum() == len(near)
        mean = np.mean(near, axis=0) if near else np.zeros(3)
        np.testing.assert_allclose(found["point"][row, column], mean, rtol=1e-4, atol=1e-3)


def test_features_are_bounded_and_finite_even_without_depth():
    for depth in (random_raster(), np.zeros([1, HEIGHT, WIDTH], np.float32)):
        found = raster.surfaces(depth, INTRINSICS)
        seen = raster.features(found, tf.constant(INTRINSICS)).numpy()
        assert seen.shape == (1, ROWS, COLUMNS, raster.FEATURES)
        assert np.isfinite(seen).all() and np.abs(seen).max() <= 2


def test_relief_does_not_depend_on_how_far_away_the_scene_is():
    """Moved back by a constant, only the size and depth channels (the last four) change."""
    depth = random_raster(missing=0.2)
    moved = np.where(depth > 0, depth + 250, 0).astype(np.float32)
    near, far = (
        raster.features(raster.surfaces(values, INTRINSICS), tf.constant(INTRINSICS)).numpy()
        for values in (depth, moved)
    )
    np.testing.assert_allclose(near[..., :-4], far[..., :-4], atol=1e-4)
    assert (far[..., -1] >= near[..., -1]).all() and (far[..., -1] > near[..., -1]).any()
