import sys

import numpy as np
import pytest

from dgn_tf.cameras import undistort
from dgn_tf.cameras.camera import Camera, Distortion
from dgn_tf.errors import InputError

K, SIZE = (300.0, 310.0, 158.0, 121.0), (320, 240)
LENSES = {
    "brown_conrady": (0.12, -0.2, 0.002, -0.001, 0.05),
    "kannala_brandt": (0.05, -0.01, 0.002, 0.0),
    "inverse_brown_conrady": (0.1, 0.08, 0.003, 0.002, 0.01),
}


def bent(model, x, y):
    """Where a pinhole's ray falls on the image of the lens, in units of the focal length."""
    k = LENSES[model]
    square = x * x + y * y
    if model == "kannala_brandt":
        radius = np.sqrt(square)
        angle = np.arctan(radius)
        around = angle * (1 + sum(c * angle ** (2 * n + 2) for n, c in enumerate(k)))
        scale = np.where(radius > 0, around / np.maximum(radius, 1e-9), 1)
        return x * scale, y * scale
    factor = 1 + square * (k[0] + square * (k[1] + square * k[4]))
    return (
        x * factor + 2 * k[2] * x * y + k[3] * (square + 2 * x * x),
        y * factor + k[2] * (square + 2 * y * y) + 2 * k[3] * x * y,
    )


@pytest.mark.parametrize("model", LENSES)
def test_a_pixel_comes_from_where_the_lens_puts_its_ray(model):
    if model != "inverse_brown_conrady":
        pytest.importorskip("cv2")
    camera = Camera(K, "x.json", SIZE, Distortion(model, LENSES[model]))
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    marked = 1000 + columns + 1000 * rows  # each pixel tells where it was
    seen = undistort.to_pinhole(marked, camera)
    shown = seen > 0
    assert shown.mean() > 0.7 and (model == "kannala_brandt" or (seen != marked).mean() > 0.3)
    u, v = (seen[shown] - 1000) % 1000, (seen[shown] - 1000) // 1000
    x, y = (columns[shown] - K[2]) / K[0], (rows[shown] - K[3]) / K[1]
    if model == "inverse_brown_conrady":  # its polynomial leads back from the image to the ray
        back = bent(model, (u - K[2]) / K[0], (v - K[3]) / K[1])
        assert np.abs(back[0] - x).max() * K[0] < 1 and np.abs(back[1] - y).max() * K[1] < 1
        return
    wanted = bent(model, x, y)
    assert np.abs(wanted[0] * K[0] + K[2] - u).max() <= 0.5 + 1e-3
    assert np.abs(wanted[1] * K[1] + K[3] - v).max() <= 0.5 + 1e-3


def test_without_distortion_the_frame_stays_itself():
    depth = np.ones([4, 5], np.float32)
    assert undistort.to_pinhole(depth, Camera(K, "x")) is depth


def test_a_point_that_the_lens_bends_keeps_its_place(tmp_path):
    """A spot, rendered through the lens, is unprojected where it stands, to half a pixel."""
    model = "inverse_brown_conrady"
    camera = Camera(K, "x.json", SIZE, Distortion(model, LENSES[model]))
    depth = np.zeros(SIZE[::-1], np.float32)
    depth[38:43, 48:53] = 600
    x, y = bent(model, (50 - K[2]) / K[0], (40 - K[3]) / K[1])
    rows, columns = np.nonzero(undistort.to_pinhole(depth, camera))
    spot = (columns.mean() - K[2]) / K[0], (rows.mean() - K[3]) / K[1]
    assert np.hypot((spot[0] - x) * K[0], (spot[1] - y) * K[1]) < 1
    assert abs(50 - columns.mean()) > 2  # what it costs to ignore the distortion, pixels


def test_without_opencv_one_line_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    undistort._sources.cache_clear()
    camera = Camera(K, "--intrinsics=x.json", SIZE, Distortion("brown_conrady", (0.5, 0, 0, 0)))
    with pytest.raises(InputError, match="x.json has lens distortion.*the extra `camera`"):
        undistort.to_pinhole(np.ones(SIZE[::-1], np.float32), camera)
