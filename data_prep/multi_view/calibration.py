"""The rig: its cameras' intrinsics and how they see each other, read from a calibration file.

The rig's frame is camera 1's. All transforms are target_from_source, mm.
"""

import dataclasses
import os

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json

FRAME_SIZE = (640, 480)  # width, height of frames where nothing else is said
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
    frame_size: tuple[int, int] = FRAME_SIZE
    calibration: dict | None = None

    @property
    def known(self) -> bool:
        return self.source != "none"


def read_calibration(path: str | os.PathLike, cameras: int, exactly: bool = False) -> Rig:
    """Reads a calibration file.

    Its keys: `intrinsics`, {"fx", "fy", "cx", "cy"} in pixels, one for all cameras or a list with
    one each, with "width" and "height" where frames are not 640x480; and `camera_from_camera1`,
    [C, 4, 4] mm, which a single camera may leave out.

    Args:
        path: JSON file.
        cameras: C at least.
        exactly: refuse a file of more cameras than those.

    Raises:
        InputError: unreadable, a key is missing or of another shape, a matrix is not rigid or
            left-handed, camera 1's is not the identity, or a principal point lies outside of the
            frame.
    """
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"--calibration={path}: can't be read as JSON ({reason}).") from None
    if not isinstance(values, dict):
        raise InputError(f"--calibration={path}: wanted an object, got {type(values).__name__}.")
    if cameras == 1:
        values = {"camera_from_camera1": [np.eye(4).tolist()], **values}
    missing = [key for key in ("intrinsics", "camera_from_camera1") if key not in values]
    if missing:
        raise InputError(f"--calibration={path}: has no {missing[0]!r}.")
    if values.get("unit", "mm") != "mm":
        raise InputError(f"--calibration={path}: unit is {values['unit']!r}, wanted mm.")
    intrinsics, size = _read_intrinsics(path, values["intrinsics"], cameras, exactly)
    try:
        transforms = np.asarray(values["camera_from_camera1"], np.float64)
    except (TypeError, ValueError):
        transforms = np.zeros(0)
    shaped = transforms.ndim == 3 and transforms.shape[1:] == (4, 4)
    if not shaped or _is_wrong_count(len(transforms), cameras, exactly):
        others = ", one matrix for each camera given" if exactly else " or more cameras"
        raise InputError(
            f"--calibration={path}: camera_from_camera1 is {list(transforms.shape)}, wanted "
            f"[{cameras}, 4, 4] numbers{others}."
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


def _is_wrong_count(found, cameras, exactly):
    return found < cameras or (exactly and found > cameras)


def _read_intrinsics(path, given, cameras, exactly):
    listed = given if isinstance(given, list) else [given] * cameras
    if _is_wrong_count(len(listed), cameras, exactly):
        raise InputError(
            f"--calibration={path}: intrinsics of {len(listed)} cameras, wanted one for all or "
            f"{cameras}."
        )
    rows, sizes = [], set()
    for number, one in enumerate(listed[:cameras], 1):
        try:
            rows.append([float(one[key]) for key in ("fx", "fy", "cx", "cy")])
            sizes.add((int(one.get("width", FRAME_SIZE[0])), int(one.get("height", FRAME_SIZE[1]))))
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
    size = sizes.pop()
    if not ((intrinsics[:, 2:] > 0) & (intrinsics[:, 2:] < size)).all():
        raise InputError(
            f"--calibration={path}: a principal point cx, cy lies outside of frames of {size[0]} x "
            f"{size[1]} pixels; give intrinsics of that size, or the right width and height."
        )
    return intrinsics, size


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
