"""Writes key points as NYU's joint_data.mat, which `data_prep.nyu_to_tfrecord` reads."""

import os
import pathlib
from collections.abc import Iterable

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import uvd_from_xyz
from dgn_tf.template import nyu_keypoint_names
from dgn_tf.writing import output_file, write_output

JOINT_DATA = "joint_data.mat"


def joint_arrays(labels: Iterable[dict], cameras: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The arrays of joint_data.mat.

    Args:
        labels: of each record, see `schema.in_camera`: index, keypoints [C, J, 3] mm, camera
            frame, y down, keypoints_valid [C, J] and intrinsics [C, 4].
        cameras: [C] their numbers, from 1.

    Returns:
        joint_xyz [K, N, J, 3] mm, y UP, and joint_uvd [K, N, J, 3] px, px, mm by the records' own
        intrinsics, of cameras 1 to K = max(cameras) and indices 1 to N; NaN without a label.
        joint_names [1, J].
    """
    records = list(labels)
    names = nyu_keypoint_names()
    last = max(int(record["index"]) for record in records)
    xyz = np.full([max(cameras), last, len(names), 3], np.nan)
    uvd = xyz.copy()
    for record in records:
        row = int(record["index"]) - 1
        for view, camera in enumerate(cameras):
            known = record["keypoints_valid"][view] > 0
            points = record["keypoints"][view, known].astype(np.float64)
            xyz[camera - 1, row, known] = points * [1, -1, 1]
            uvd[camera - 1, row, known] = uvd_from_xyz(points, record["intrinsics"][view])
    cells = np.empty([1, len(names)], object)
    cells[0] = names
    return {"joint_xyz": xyz, "joint_uvd": uvd, "joint_names": cells}


def check_new(file, flag: str) -> None:
    """Raises InputError where `file` exists: it may be NYU's own labels, of the same name."""
    if os.path.lexists(file):
        raise InputError(
            f"{flag}={file} exists and may hold labels of another kind; move it away, or name "
            "another file."
        )


def write_joint_data(file, arrays: dict[str, np.ndarray], flag: str) -> None:
    """Writes the file whole; InputError names `flag` where that can't be done."""
    import scipy.io

    with output_file(file, flag) as beside, open(beside, "wb") as stream:
        scipy.io.savemat(stream, arrays, do_compression=True)


# Writes where the crops were centred as text files, which `--center=file` of data_prep reads.


def centre_arrays(
    labels: Iterable[dict], cameras: tuple[int, ...], last: int
) -> dict[int, np.ndarray]:
    """Centres by camera number: [N, 3] mm, camera frame.

    Args:
        labels: of each record, see `schema.in_camera`: index, centre [C, 3] mm, annotated [C].
        cameras: [C] their numbers, from 1.
        last: N, the last frame's index, annotated or not.

    Returns:
        Row index - 1 is a frame's; NaN where the view has no frame or is not annotated.
    """
    centres = {camera: np.full([last, 3], np.nan) for camera in cameras}
    for record in labels:
        for view, camera in enumerate(cameras):
            # A view without a frame is annotated by the others', but has no crop: z is 0.
            if record["annotated"][view] and record["centre"][view, 2] > 0:
                centres[camera][int(record["index"]) - 1] = record["centre"][view]
    return centres


def write_centres(folder, centres: dict[int, np.ndarray]) -> None:
    """Writes `centres_{camera}.txt`: a line `x y z` a frame, mm, `invalid` thrice where NaN.

    Raises:
        InputError: a file can't be written.
    """
    for camera, places in centres.items():
        file = pathlib.Path(folder) / f"centres_{camera}.txt"
        lines = [
            "{:.3f} {:.3f} {:.3f}".format(*place)
            if np.isfinite(place).all()
            else "invalid invalid invalid"
            for place in places
        ]
        write_output(file, "\n".join(lines) + "\n")
