"""Frames of a lens that bends, resampled to those of a pinhole camera of the same intrinsics."""

import functools

import numpy as np

from dgn_tf.cameras.camera import Camera, Distortion
from dgn_tf.errors import InputError

_ROUNDS = 30  # of the fixed point; it converges for lenses of depth cameras in fewer than 10
_CONVERGED = 1e-4


def to_pinhole(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """The frame as a pinhole camera of `camera.intrinsics` sees it; nearest pixel.

    Depth is along the optical axis, which distortion doesn't change: pixels move, values stay.

    Args:
        depth: [H, W] mm, 0 = missing.
        camera: of this size.

    Returns:
        [H, W] mm; 0 where the frame shows nothing. The frame itself where nothing bends.
    """
    if camera.distortion is None:
        return depth
    rows, columns, inside = _sources(camera, camera.distortion, depth.shape)
    return np.where(inside, depth[rows, columns], 0)


@functools.lru_cache(maxsize=2)  # one camera, of a recording
def _sources(camera: Camera, lens: Distortion, shape):
    """Where each pixel of the pinhole comes from: rows and columns [H, W], and whether it does."""
    mapping = _by_inversion if lens.model == "inverse_brown_conrady" else _by_opencv
    height, width = shape
    u, v = (np.rint(one) for one in mapping(camera, lens, shape))
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    columns = np.where(inside, u, 0).astype(np.intp)
    rows = np.where(inside, v, 0).astype(np.intp)
    return rows, columns, inside


def _by_opencv(camera: Camera, lens: Distortion, shape):
    try:
        import cv2
    except ImportError:
        raise InputError(
            f"{camera.source} has lens distortion, which wants OpenCV: install the extra "
            "`camera` (opencv-python-headless), or rectify the frames and give zero coefficients."
        ) from None
    fx, fy, cx, cy = camera.intrinsics
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    fisheye = lens.model == "kannala_brandt"
    initialise = (cv2.fisheye if fisheye else cv2).initUndistortRectifyMap
    size = (shape[1], shape[0])
    coefficients = np.array(lens.coefficients)
    return initialise(matrix, coefficients, np.eye(3), matrix, size, cv2.CV_32FC1)


def _by_inversion(camera: Camera, lens: Distortion, shape):
    """librealsense's polynomial leads from the pixel to the ray; here its inverse is wanted."""
    k1, k2, p1, p2, k3 = lens.coefficients
    fx, fy, cx, cy = camera.intrinsics
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    ray = np.stack([(columns - cx) / fx, (rows - cy) / fy])
    bent = ray.copy()
    for _ in range(_ROUNDS):
        x, y = bent
        square = x * x + y * y
        factor = 1 + square * (k1 + square * (k2 + square * k3))
        away = np.stack(
            [
                x * factor + 2 * p1 * x * y + p2 * (square + 2 * x * x),
                y * factor + 2 * p2 * x * y + p1 * (square + 2 * y * y),
            ]
        )
        step = ray - away
        bent = np.clip(bent + step, -10, 10)
    bent = np.where(np.abs(step).max(axis=0) < _CONVERGED, bent, np.inf)  # beyond the lens
    return bent[0] * fx + cx, bent[1] * fy + cy
