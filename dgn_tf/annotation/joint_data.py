"""Writes key points as NYU's joint_data.mat, which `data_prep.nyu_to_tfrecord` reads."""

import os
from collections.abc import Iterable

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.metrics.nyu import uvd_from_xyz
from dgn_tf.template import nyu_keypoint_names
from dgn_tf.writing import output_file

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
