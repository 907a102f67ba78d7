"""Facts of the NYU test set that its figures rest on (Tompson et al. 2014), and its text form."""

import array
import gzip
import os
import pathlib
import zlib

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.file_kinds import named_kind
from dgn_tf.writing import write_output

# Of all three cameras; reproduces the published means to three decimals.
INTRINSICS = (588.036865, 587.075073, 320.0, 240.0)
TEST_FRAMES = 8252
SUBJECT1_FRAMES = 2440  # test frames [0, 2440) show the subject of the training frames


MAX_LINE = 2**14  # characters of a line of 36 joints, and more
_MAX_VALUES = 2**27  # a GiB


def xyz_from_uvd(uvd: np.ndarray, intrinsics=INTRINSICS) -> np.ndarray:
    """Lifts [..., 3] (column px, row px, depth mm) to mm, camera frame, y down."""
    uvd = np.asarray(uvd, np.float64)
    fx, fy, cx, cy = intrinsics
    x = (uvd[..., 0] - cx) * uvd[..., 2] / fx
    y = (uvd[..., 1] - cy) * uvd[..., 2] / fy
    return np.stack([x, y, uvd[..., 2]], axis=-1)


def uvd_from_xyz(xyz: np.ndarray, intrinsics=INTRINSICS) -> np.ndarray:
    """Projects [..., 3] mm (camera frame, y down) to (column px, row px, depth mm).

    `intrinsics` is (fx, fy, cx, cy), or [..., 4] that broadcasts against the points: [N, 1, 4] for
    [N, J, 3].
    """
    xyz = np.asarray(xyz, np.float64)
    fx, fy, cx, cy = np.moveaxis(np.asarray(intrinsics, np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # a prediction in the camera's plane
        column = xyz[..., 0] * fx / xyz[..., 2] + cx
        row = xyz[..., 1] * fy / xyz[..., 2] + cy
    return np.stack([column, row, xyz[..., 2]], axis=-1)


def read_uvd(path: str | os.PathLike, joints: int = 14) -> np.ndarray:
    """Reads the field's prediction file: one line a frame, `joints` x (u px, v px, d mm).

    Args:
        path: text, or text compressed by gzip where the name ends in .gz; a value may be nan.
        joints: J.

    Returns:
        [N, J, 3] float64.

    Raises:
        InputError: the file can't be read, is empty, or a line has another number of values; the
            message names file and line.
    """
    opener = gzip.open if os.fspath(path).endswith(".gz") else open
    read = array.array("d")
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:  # Windows programs mark UTF-8
            # A part of a line that has no end is a line with too many numbers.
            for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE), ""), 1):
                values = line.split()
                if len(values) != 3 * joints:
                    raise InputError(
                        f"{path}, line {number}: wanted {3 * joints} numbers (u v d of {joints} "
                        f"joints), got {len(values)}."
                    )
                read.extend([float(value) for value in values])
                if len(read) > _MAX_VALUES:
                    raise InputError(f"{path}: has more than {number - 1} lines; split it.")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        what = named_kind(path)
        raise InputError(
            f"{path}: can't be read as a text of u v d triples ({what or error})."
        ) from None
    if not read:
        raise InputError(f"{path}: is empty; wanted one line of u v d triples a frame.")
    return np.frombuffer(read, np.float64).reshape(-1, joints, 3)


def write_uvd(path: str | os.PathLike, uvd: np.ndarray, flag: str = "--predictions_out") -> None:
    """Writes [N, J, 3] (column px, row px, depth mm) as `read_uvd` reads it; nan and inf may be.

    Six decimals: 1e-6 px and mm, so that the file scores what was written. Its folder is made.

    Raises:
        InputError: the file can't be written; the message names `flag`.
    """
    path = pathlib.Path(path)
    lines = [
        " ".join(f"{value:.6f}" for value in frame) + "\n"
        for frame in np.asarray(uvd, np.float64).reshape(len(uvd), -1)
    ]
    content = "".join(lines).encode("ascii")
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # the same predictions, the same bytes
    write_output(path, content, flag)
