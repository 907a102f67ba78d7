"""Whether a calibration fits the frames: the views of one hand agree on where it is."""

import numpy as np

from data_prep.multi_view.steps import Steps
from dgn_tf.errors import InputError

FAR_APART_MM = 100.0  # a hand's visible surfaces have their middles nearer to each other
_CERTAIN_MM = 300.0  # that far even a forearm's blob is not from its hand
_LOOKED_AT, _FEWEST = 9, 3  # time steps


def check_rig(made: Steps, calibration) -> None:
    """Refuses extrinsics by which the views' hands lie apart, before anything is written.

    Args:
        made: the time steps; those of a rig that is not known are not looked at.
        calibration: the file that is to blame.

    Raises:
        InputError: names the camera, and what would mend it where something does.
    """
    cameras = np.asarray(made.cameras)
    if len(cameras) < 2 or not made.rig.known:
        return
    count = len(made.frames.listing.indices)
    looked_at = np.unique(np.linspace(0, count - 1, min(count, _LOOKED_AT)).astype(int))
    steps = [step for number in looked_at if (step := _step(made, int(number)))]
    if not steps:
        return
    centres = np.array([step["centre"] for step in steps])  # [S, C, 3] mm, cameras' frames
    valid = np.array([step["view_valid"] for step in steps]) == 1
    camera_from_rig = made.rig.camera_from_rig[cameras - 1]
    for view in range(1, len(cameras)):
        both = valid[:, 0] & valid[:, view]
        if both.sum() < _FEWEST:
            continue
        pair, transforms = centres[both][:, [0, view]], camera_from_rig[[0, view]]
        apart = _apart(pair, transforms)
        remedy = _remedy(pair, transforms)
        if apart <= FAR_APART_MM or (not remedy and apart <= _CERTAIN_MM):
            continue
        remedy = (
            remedy or "they, the cameras' order or the depth unit are not those of these frames"
        )
        raise InputError(
            f"--calibration={calibration}: by camera_from_camera1 the hands of camera "
            f"{cameras[view]} lie {apart:.0f} mm from camera {cameras[0]}'s (median of "
            f"{both.sum()} steps), too far for one hand; {remedy}. --nocheck_rig writes the "
            "records all the same."
        )


def _step(made: Steps, number: int) -> dict | None:
    """A time step; None where a frame is bad, which is told when its turn comes."""
    try:
        return made.step(number)[0]
    except InputError:
        return None


def _apart(centres, camera_from_rig) -> float:
    """Median distance in the rig frame of two cameras' points, [S, 2, 3] and [2, 4, 4]."""
    # Of a rigid matrix: rig = R^T (camera - t), for row vectors (camera - t) R.
    offset = centres - camera_from_rig[:, :3, 3]
    in_rig = np.einsum("scj,cji->sci", offset, camera_from_rig[:, :3, :3])
    return float(np.median(np.linalg.norm(in_rig[:, 1] - in_rig[:, 0], axis=-1)))


def _remedy(centres, camera_from_rig) -> str:
    """What the matrices are instead, where that brings the hands together; else ""."""
    metres = camera_from_rig.copy()
    metres[:, :3, 3] *= 1000
    readings = {
        "they are inverted: give camera_from_camera1": np.linalg.inv(camera_from_rig),
        "they are in metres: give mm": metres,
        "they are inverted and in metres": np.linalg.inv(metres),
    }
    apart = {words: _apart(centres, transforms) for words, transforms in readings.items()}
    best = min(apart, key=lambda words: apart[words])
    return best if apart[best] <= FAR_APART_MM else ""
