"""The labels of one split: joint_data.mat."""

import dataclasses
import hashlib
import os
import pathlib

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import INTRINSICS, uvd_from_xyz
from dgn_tf.file_kinds import named_kind
from dgn_tf.template.hand_template import nyu_keypoint_names

LABEL_FILE = "joint_data.mat"
CENTRE_JOINT = 32  # PALM_3, the palm's centre: where loaders crop
_CHUNK = 4096  # frames whose float64 copies are held at a time
_FARTHEST_MM = 10_000.0
_NEAREST_MM = 100.0  # no depth camera sees a hand nearer
_MOST_OFF_PX = 10.0  # on average; NYU's own are off by rounding alone


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """Key points of all cameras of a split.

    Attributes:
        path: of the file.
        sha256: of the file, hex.
        xyz: [C, N, 36, 3] float32 mm, camera frame, y down; NaN where the file has no point in
            front of the camera, within 10 m. Row n belongs to the frames of index n + 1.
        reprojection_px: {camera: {"mean", "max"}} distance of joint_xyz, projected by NYU's
            intrinsics, from joint_uvd; None without joint_uvd.
    """

    path: pathlib.Path
    sha256: str
    xyz: np.ndarray
    reprojection_px: dict[str, dict[str, float]] | None

    @property
    def valid(self) -> np.ndarray:
        """[C, N, 36] bool."""
        return np.isfinite(self.xyz[..., 2])


def read_labels(path: str | os.PathLike, cameras: tuple[int, ...]) -> Labels:
    """Reads joint_data.mat; in it y points up.

    Args:
        path: a MATLAB file of version 4 to 7.
        cameras: numbers from 1; the file must have them.

    Raises:
        InputError: the file can't be read, or holds arrays of other shapes, names or kinds.
    """
    path = pathlib.Path(path)
    shapes = _guarded(path, _shapes)
    shape = shapes.get("joint_xyz")
    names = nyu_keypoint_names()
    wanted = f"[cameras, frames, {len(names)}, 3]"
    if shape is None:
        raise InputError(
            f"{path}: has no joint_xyz {wanted}, only {sorted(shapes)}; copy it again."
        )
    if len(shape) != 4 or shape[2:] != (len(names), 3) or not shape[1]:
        raise InputError(f"{path}: joint_xyz is {list(shape)}, wanted {wanted}; copy it again.")
    if shape[0] < max(cameras):
        raise InputError(
            f"{path}: joint_xyz has {shape[0]} cameras; leave {max(cameras)} out of --cameras."
        )
    if shapes.get("joint_uvd", shape) != shape:
        raise InputError(
            f"{path}: joint_uvd is {list(shapes['joint_uvd'])}, joint_xyz {list(shape)}; they "
            "should be of one shape: copy it again."
        )
    _check_names(path, names)
    xyz = _numbers(path, "joint_xyz")
    xyz[..., 1] *= -1.0
    good = (np.abs(xyz) < _FARTHEST_MM).all(axis=-1) & (xyz[..., 2] > 0)  # false for NaN
    xyz[~good] = np.nan
    _check_unit(path, xyz[..., 2][good])
    return Labels(path, _sha256(path), xyz, _reprojection(path, xyz, "joint_uvd" in shapes))


def _check_unit(path, depths):
    """Raises InputError where depths [M] are of another unit than mm."""
    median = float(np.median(depths)) if len(depths) else _NEAREST_MM
    if median < _NEAREST_MM:
        raise InputError(
            f"{path}: the median depth of joint_xyz is {median:.3g}, wanted mm: is it in metres? "
            "Scale it, or convert NYU's own file."
        )


def check_same_frames(labels: Labels) -> None:
    """Raises InputError where joint_uvd is of other frames or another camera than joint_xyz.

    For frames of NYU's cameras alone: their intrinsics bring the two together.
    """
    for camera, off in (labels.reprojection_px or {}).items():
        if off["mean"] > _MOST_OFF_PX:
            raise InputError(
                f"{labels.path}: joint_uvd of camera {camera} lies {off['mean']:.1f} px on average "
                "from joint_xyz by NYU's intrinsics: of other frames or of another camera? Copy "
                "the file again, or leave joint_uvd out of it."
            )


def bad_labels(labels: Labels, cameras: tuple[int, ...], rows: np.ndarray) -> list[dict]:
    """Lists the views of frames `rows` [M] that lack key points: [{"file", "why"}]."""
    found = []
    missing = ~labels.valid[np.asarray(cameras) - 1][:, rows]  # [C, M, 36]
    for row, place in zip(*np.nonzero(missing.any(axis=-1).T), strict=True):
        which = [nyu_keypoint_names()[j] for j in np.nonzero(missing[place, row])[0]]
        some = ", ".join(which[:3]) + (f" and {len(which) - 3} more" if len(which) > 3 else "")
        found.append(
            {
                "file": f"{labels.path.parent.name}/{labels.path.name}",
                "why": f"index {rows[row] + 1}, camera {cameras[place]}: joint_xyz of {some} is "
                "NaN, beyond 10 m or not in front of the camera; masked",
            }
        )
    return found


def _guarded(path, read):
    """Runs `read(path)`; whatever scipy makes of a damaged file becomes an InputError."""
    try:
        return read(path)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; copy it there, or use --labels=none --center=localiser."
        ) from None
    except NotImplementedError:
        raise InputError(
            f"{path}: a MATLAB 7.3 (HDF5) file; save it in MATLAB with -v7, or use the one that "
            "NYU distributes."
        ) from None
    except MemoryError:
        raise InputError(f"{path}: does not fit into memory; copy it again.") from None
    except Exception as error:  # scipy raises a dozen kinds on damaged files
        reason = getattr(error, "strerror", None) or named_kind(path) or error
        raise InputError(
            f"{path}: can't be read as a MATLAB file ({reason}); copy it again."
        ) from None


def _shapes(path):
    import scipy.io

    return {name: tuple(shape) for name, shape, _ in scipy.io.whosmat(str(path))}


def _load(path, name):
    """One variable: reading it alone, the others are skipped."""
    import scipy.io

    return _guarded(path, lambda p: scipy.io.loadmat(str(p), variable_names=[name]).get(name))


def _numbers(path, name):
    values = _load(path, name)
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path}: {name} holds {values.dtype}, wanted numbers; copy it again.")
    return np.ascontiguousarray(values, np.float32)


def _check_names(path, names):
    found = _load(path, "joint_names")
    if found is None:
        return
    # A cell array of strings, [1, 36].
    listed = tuple(
        str(np.asarray(name).reshape(-1)[0]).strip() if np.size(name) else ""
        for name in np.asarray(found).reshape(-1)
    )
    if listed != names:
        other = [name for name, right in zip(listed, names, strict=False) if name != right]
        raise InputError(
            f"{path}: joint_names are {len(listed)} and not NYU's {len(names)} in NYU's order "
            f"(first other: {(other or ['none'])[0]}); convert NYU's own file."
        )


def _reprojection(path, xyz, present):
    if not present:
        return None
    uvd = _numbers(path, "joint_uvd")
    found = {}
    for camera in range(len(xyz)):
        total, count, largest = 0.0, 0, 0.0
        for first in range(0, xyz.shape[1], _CHUNK):
            part = slice(first, first + _CHUNK)
            off = uvd_from_xyz(xyz[camera, part], INTRINSICS) - uvd[camera, part]
            off = np.linalg.norm(off[..., :2], axis=-1)
            off = off[np.isfinite(off)]
            total, count = total + off.sum(), count + off.size
            largest = max(largest, off.max(initial=0.0))
        found[str(camera + 1)] = {"mean": _short(total / max(count, 1)), "max": _short(largest)}
    return found


def _short(value):
    return round(float(value), 4)


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
