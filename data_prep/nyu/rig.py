"""How the cameras see each other, found from labels.

The rig's frame is camera 1's. All transforms are target_from_source, mm.
"""

import dataclasses

import numpy as np

from data_prep.multi_view.calibration import Rig
from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import INTRINSICS

_STARTS, _SAMPLED = 64, 512  # frames that propose a transform, and that judge the proposals
_FITTED = 4096  # frames that are fitted to, at most
_ROUNDS = 30
_CUT_OFF = 4.685  # of Tukey's weights, in robust standard deviations


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
