"""Anybody's prediction files against a file of labels, both in the field's text form."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.evaluation import nyu
from dgn_tf.evaluation.joints import joint_errors_mm

_FAR_MM, _CLEARER = 60.0, 3.0  # farther than bad predictions; so much nearer is no chance


@dataclasses.dataclass(frozen=True)
class FileErrors:
    """What a prediction file scores.

    Attributes:
        errors: for `dgn_tf.evaluation.report.report`: joints [N, 14] mm and index [N], from 1, of
            the frames that have a prediction.
        left_out: frames without one: every value of their line is nan.
        labels_missing: labels of the frames scored that are not known (nan).
    """

    errors: dict[str, np.ndarray]
    left_out: int
    labels_missing: int


def parse_intrinsics(text: str, flag: str = "--intrinsics") -> tuple[float, ...]:
    """(fx, fy, cx, cy) px of "nyu" or of four numbers with commas; else InputError."""
    if text == "nyu":
        return nyu.INTRINSICS
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 4 or not np.isfinite(values).all() or min(values[:2], default=0) <= 0:
        raise InputError(
            f"{flag}={text} is neither `nyu` nor fx,fy,cx,cy in px, such as 475,475,319.5,239.5."
        )
    return values


def name_files(entries: Sequence[str], flag: str = "--predictions") -> dict[str, str]:
    """Label -> file of entries FILE or NAME=FILE, several of them in one with commas between.

    Without a name, a file is called as it is on disk, without its ending.

    Raises:
        InputError: no file, an empty part, or one label twice.
    """
    files: dict[str, str] = {}
    for part in (part.strip() for entry in entries for part in entry.split(",")):
        name, equals, file = part.partition("=")
        if not equals or os.path.exists(part):  # an existing file may have a = in its name
            name, file = _stem(part), part
        if not name or not file:
            raise InputError(f"{flag}: wanted FILE or NAME=FILE, got {part!r}.")
        if name in files:
            raise InputError(
                f"{flag}: {files[name]} and {file} would both be called {name}; give one a name, "
                f"NAME={file}."
            )
        files[name] = file
    if not files:
        raise InputError(f"{flag} names no file.")
    return files


def score_file(file, labels: np.ndarray, intrinsics=nyu.INTRINSICS) -> FileErrors:
    """Errors of a prediction file.

    Args:
        file: as `dgn_tf.evaluation.nyu.read_uvd` reads it. A frame without a prediction is a line
            of nan alone; a frame with some value that is not finite is a failure.
        labels: [N, 14, 3] uvd of the same frames in the same order; nan where not known.
        intrinsics: (fx, fy, cx, cy) px, of predictions and labels.

    Raises:
        InputError: the file can't be read, has another number of frames, no prediction, or x y z.
    """
    uvd = nyu.read_uvd(file, labels.shape[1])
    if len(uvd) != len(labels):
        raise InputError(
            f"{file}: has {len(uvd)} frames, --labels have {len(labels)}; both are to list the "
            "same frames in the same order."
        )
    kept = ~np.isnan(uvd).all(axis=(1, 2))
    if not kept.any():
        raise InputError(f"{file}: every value is nan; it holds no prediction.")
    truth = nyu.xyz_from_uvd(labels[kept], intrinsics)
    with np.errstate(invalid="ignore"):  # values that are not finite become infinite errors
        predicted = nyu.xyz_from_uvd(uvd[kept], intrinsics)
    joints = joint_errors_mm(predicted, truth)
    _refuse_xyz(file, uvd[kept], truth, joints)
    return FileErrors(
        {"joints": joints, "index": np.flatnonzero(kept) + 1},
        left_out=int(len(kept) - kept.sum()),
        labels_missing=int(np.isnan(joints).sum()),
    )


def _refuse_xyz(file, values, truth, joints):
    """Refuses a file whose numbers are far from the labels as u v d and near them as x y z."""
    error = np.nanmedian(joints)
    if not error > _FAR_MM:
        return
    readings = {"x y z": 1, "x y z with y up": -1}
    errors = {
        words: np.nanmedian(joint_errors_mm(values * (1, sign, 1), truth))
        for words, sign in readings.items()
    }
    words = min(errors, key=lambda reading: errors[reading])
    if errors[words] < error / _CLEARER:
        sign = "-" if readings[words] < 0 else ""
        raise InputError(
            f"{file}: its numbers are {words} in mm ({errors[words]:.1f} mm from the labels at "
            f"the median), not u v d ({error:.0f} mm); project them first, u = x fx / z + cx and "
            f"v = {sign}y fy / z + cy."
        )


def read_labels(file) -> np.ndarray:
    """[N, 14, 3] uvd of --labels; InputError where nothing is known or a depth is not positive."""
    labels = nyu.read_uvd(file)
    known = ~np.isnan(labels).any(axis=2)
    if not known.any():
        raise InputError(f"--labels={file}: every label is nan; nothing can be scored.")
    wrong = known & (~np.isfinite(labels).all(axis=2) | (labels[..., 2] <= 0))
    if wrong.any():
        frame, joint = np.argwhere(wrong)[0]
        u, v, d = labels[frame, joint]
        raise InputError(
            f"--labels={file}, line {frame + 1}: joint {joint + 1} is {u:g} {v:g} {d:g}; wanted "
            "u v d with a depth in mm above 0, or nan where it is not known."
        )
    return labels


def _stem(file: str) -> str:
    path = pathlib.PurePath(file)
    while path.suffix in (".gz", ".txt"):
        path = path.with_suffix("")
    return path.name
