"""The rig: how the cameras see each other, from labels or from a calibration file.

The rig's frame is camera 1's. All transforms are target_from_source, mm.
"""

import dataclasses
import json
import os

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.metrics.nyu import INTRINSICS

_FRAME_SIZE = (640, 480)
_STARTS, _SAMPLED = 64, 512  # frames that propose a transform, and that judge the proposals
_FITTED = 4096  # frames that are fitted to, at most
_ROUNDS = 30
_CUT_OFF = 4.685  # of Tukey's weights, in robust standard deviations
_RIGID = 1e-3  # largest deviation of R^T R from the identity


@dataclasses.dataclass(frozen=True, eq=False)
class Rig:
    """Cameras 1 .. C.

    Attributes:
        intrinsics: [C, 4] (fx, fy, cx, cy), pixels of the whole frame.
        camera_from_rig: [C, 4, 4] mm; the identity where not known.
        source: "labels", "calibration" or "none".
        residual_mm: {camera: {"mean", "p95", "max", "left_out"}}, distances of camera k's
            key points from camera 1's moved by the transform; "left_out" counts frames that are
            too far off for a robust fit to heed. None without labels.
        frame_size: width, height of frames.
        calibration: what the file said, for the records' plan; None without.
    """

    intrinsics: np.ndarray
    camera_from_rig: np.ndarray
    source: str
    residual_mm: dict[str, dict[str, float]] | None = None
    frame_size: tuple[int, int] = _FRAME_SIZE
    calibration: dict | None = None

    @property
    def known(self) -> bool:
        return self.source != "none"


def unknown_rig(cameras: int) -> Rig:
    """NYU's intrinsics, and cameras that know nothing of each other."""
    identity = np.tile(np.eye(4), (cameras, 1, 1))
    return Rig(np.tile(INTRINSICS, (cameras, 1)), identity, "none")


def rig_from_labels(xyz: np.ndarray, cameras: tuple[int, ...]) -> Rig:
    """Finds the transforms by a robust rigid alignment of all frames' key points at once.

    Args:
        xyz: [K, N, J, 3] mm, frames of cameras 1 to K, y down; NaN where missing.
        cameras: those wanted; the others' transforms stay the identity.

    Raises:
        InputError: a camera shares no whole frame with camera 1.
    """
    rig = unknown_rig(max(cameras))
    residuals = {}
    for camera in sorted(set(cameras) - {1}):
        source, target = _shared(xyz, camera - 1)
        if not len(source):
            raise InputError(
                f"joint_data.mat has no frame with all key points in cameras 1 and {camera}; "
                "give --calibration, or leave that camera out of --cameras."
            )
        transform, _ = fit_rigid_robustly(source, target)
        rig.camera_from_rig[camera - 1] = transform
        residuals[str(camera)] = _residual(transform, xyz, camera - 1)
    return dataclasses.replace(rig, source="labels", residual_mm=residuals)


def check_against_labels(rig: Rig, xyz: np.ndarray) -> Rig:
    """The rig with the residuals that labels [C, N, J, 3] (mm, y down) have under it."""
    residuals = {}
    for camera in range(1, min(len(xyz), len(rig.camera_from_rig))):
        if _whole(xyz, camera).any():
            residuals[str(camera + 1)] = _residual(rig.camera_from_rig[camera], xyz, camera)
    return dataclasses.replace(rig, residual_mm=residuals)


def read_calibration(path: str | os.PathLike, cameras: int) -> Rig:
    """Reads a calibration file.

    Its keys: `intrinsics`, {"fx", "fy", "cx", "cy"} in pixels, one for all cameras or a list with
    one each, with "width" and "height" where frames are not 640x480; and `camera_from_camera1`,
    [C, 4, 4] mm.

    Args:
        path: JSON file.
        cameras: C at least.

    Raises:
        InputError: unreadable, a key is missing or of another shape, a matrix is not rigid or
            left-handed, or camera 1's is not the identity.
    """
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--calibration={path}: can't be read as JSON ({reason}).") from None
    if not isinstance(values, dict):
        raise InputError(f"--calibration={path}: wanted an object, got {type(values).__name__}.")
    missing = [key for key in ("intrinsics", "camera_from_camera1") if key not in values]
    if missing:
        raise InputError(f"--calibration={path}: has no {missing[0]!r}.")
    if values.get("unit", "mm") != "mm":
        raise InputError(f"--calibration={path}: unit is {values['unit']!r}, wanted mm.")
    intrinsics, size = _read_intrinsics(path, values["intrinsics"], cameras)
    try:
        transforms = np.asarray(values["camera_from_camera1"], np.float64)
    except (TypeError, ValueError):
        transforms = np.zeros(0)
    if transforms.ndim != 3 or transforms.shape[1:] != (4, 4) or len(transforms) < cameras:
        raise InputError(
            f"--calibration={path}: camera_from_camera1 is {list(transforms.shape)}, wanted "
            f"[{cameras}, 4, 4] numbers or more cameras."
        )
    transforms = transforms[:cameras]
    for number, transform in enumerate(transforms, 1):
        _check_rigid(f"--calibration={path}: camera_from_camera1 of camera {number}", transform)
    if not np.allclose(transforms[0], np.eye(4), atol=1e-6):
        raise InputError(
            f"--calibration={path}: camera_from_camera1 of camera 1 is not the identity."
        )
    kept = {"intrinsics": intrinsics.tolist(), "camera_from_camera1": transforms.tolist()}
    return Rig(intrinsics, transforms, "calibration", None, size, kept)


def _read_intrinsics(path, given, cameras):
    listed = given if isinstance(given, list) else [given] * cameras
    if len(listed) < cameras:
        raise InputError(
            f"--calibration={path}: intrinsics of {len(listed)} cameras, wanted one for all or "
            f"{cameras}."
        )
    rows, sizes = [], set()
    for number, one in enumerate(listed[:cameras], 1):
        try:
            rows.append([float(one[key]) for key in ("fx", "fy", "cx", "cy")])
            sizes.add((int(one.get("width", _FRAME_SIZE[0])),
                       int(one.get("height", _FRAME_SIZE[1]))))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                f"--calibration={path}: intrinsics of camera {number} want the numbers fx, fy, cx, "
                f"cy, got {one!r}."
            ) from None
    intrinsics = np.array(rows)
    if not (np.isfinite(intrinsics).all() and (intrinsics[:, :2] > 0).all()):
        raise InputError(f"--calibration={path}: focal lengths are not positive and finite.")
    if len(sizes) > 1:
        raise InputError(f"--calibration={path}: cameras of several sizes {sorted(sizes)}.")
    return intrinsics, sizes.pop()


def _check_rigid(what, transform):
    rotation = transform[:3, :3]
    if not np.isfinite(transform).all():
        raise InputError(f"{what} is not finite.")
    if not np.allclose(transform[3], [0, 0, 0, 1], atol=1e-6):
        raise InputError(f"{what} has the last row {transform[3].tolist()}, wanted 0 0 0 1.")
    off = np.abs(rotation.T @ rotation - np.eye(3)).max()
    if off > _RIGID:
        raise InputError(
            f"{what} is not rigid: R^T R is {off:.3g} from the identity; give rotations and mm."
        )
    if np.linalg.det(rotation) < 0:
        raise InputError(f"{what} is left-handed: it mirrors; use x right, y down, z forward.")


def fit_rigid_robustly(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the rigid motion of all frames at once; frames that disagree lose their weight.

    The start is the motion of one frame that suits most frames; from there, least squares with
    Tukey's weights of the frames' residuals, so that wrong labels have no say at all.

    Args:
        source, target: [N, J, 3] mm, N at least 1.

    Returns:
        target_from_source [4, 4], and the frames' weights [N], 0 for one left out.
    """
    frames = len(source)
    starts = np.unique(np.linspace(0, frames - 1, min(_STARTS, frames)).astype(int))
    judges = np.unique(np.linspace(0, frames - 1, min(_SAMPLED, frames)).astype(int))
    proposals = [fit_rigid(source[row], target[row]) for row in starts]
    costs = [np.median(_frame_residuals(p, source[judges], target[judges])) for p in proposals]
    transform = proposals[int(np.argmin(costs))]
    weights = np.ones(frames)
    for _ in range(_ROUNDS):
        residuals = _frame_residuals(transform, source, target)
        spread = _spread(residuals)
        weights = np.maximum(1 - (residuals / (_CUT_OFF * spread)) ** 2, 0.0) ** 2
        before = transform
        transform = fit_rigid(
            source.reshape(-1, 3), target.reshape(-1, 3), np.repeat(weights, source.shape[1])
        )
        if np.abs(transform - before).max() < 1e-9:
            break
    return transform, weights


def fit_rigid(source: np.ndarray, target: np.ndarray, weights=None) -> np.ndarray:
    """Kabsch: [4, 4] target_from_source of [P, 3] points by weighted least squares, proper."""
    weights = np.ones(len(source)) if weights is None else weights
    weights = weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    moment = (target - target_mean).T @ ((source - source_mean) * weights[:, None])
    u, _, vt = np.linalg.svd(moment)
    u[:, 2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))
    transform = np.eye(4)
    transform[:3, :3] = u @ vt
    transform[:3, 3] = target_mean - transform[:3, :3] @ source_mean
    return transform


def _shared(xyz, camera):
    """Camera 1's and `camera`'s points [M, J, 3] float64 of frames that have all of them.

    At most `_FITTED` frames, spread evenly: more tell nothing new and would take memory.
    """
    rows = np.nonzero(_whole(xyz, camera))[0]
    if len(rows) > _FITTED:
        rows = rows[np.linspace(0, len(rows) - 1, _FITTED).astype(int)]
    return xyz[0, rows].astype(np.float64), xyz[camera, rows].astype(np.float64)


def _whole(xyz, camera):
    return np.isfinite(xyz[0, ..., 2]).all(axis=-1) & np.isfinite(xyz[camera, ..., 2]).all(axis=-1)


def _distances(transform, source, target):
    moved = source @ transform[:3, :3].T + transform[:3, 3]
    return np.linalg.norm(moved - target, axis=-1)


def _frame_residuals(transform, source, target):
    return _distances(transform, source, target).mean(axis=-1)


def _residual(transform, xyz, camera):
    """Over all frames that have all points: distances, and frames that the fit gives no weight."""
    rows = np.nonzero(_whole(xyz, camera))[0]
    off = np.empty([len(rows), xyz.shape[2]], np.float32)
    for first in range(0, len(rows), _SAMPLED):
        part = rows[first : first + _SAMPLED]
        source, target = xyz[0, part].astype(np.float64), xyz[camera, part].astype(np.float64)
        off[first : first + _SAMPLED] = _distances(transform, source, target)
    frames = off.mean(axis=1)
    values = {"mean": off.mean(dtype=np.float64), "p95": np.quantile(off, 0.95), "max": off.max()}
    left_out = int(np.sum(frames > _CUT_OFF * _spread(frames)))
    return {**{name: round(float(v), 4) for name, v in values.items()}, "left_out": left_out}


def _spread(residuals):
    """Robust standard deviation of the frames' residuals, mm."""
    # 1e-3: labels that agree to float32's rounding must not leave each other out.
    return max(1.4826 * float(np.median(residuals)), 1e-3)
