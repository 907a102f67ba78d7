"""Depth images on disk as a command names them, and checks of what it says of them."""

import glob
import pathlib

from dgn_tf.errors import InputError


def find_frames(pattern: str) -> list[pathlib.Path]:
    """Files that match the `pattern` of --depth, sorted; InputError where none does."""
    files = sorted(pathlib.Path(name) for name in glob.glob(pattern, recursive=True))
    files = [file for file in files if not file.is_dir()]
    if not files:
        raise InputError(
            f"--depth={pattern} matches no file; quote the pattern and check the folder."
        )
    return files


def parse_numbers(flag: str, values, wanted: str) -> list[float]:
    """Numbers of a comma-separated flag; InputError that says what is `wanted`."""
    names = wanted.split(",")
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if len(numbers) != len(names):
        raise InputError(f"--{flag}={','.join(values)} must be {len(names)} numbers, {wanted}.")
    return numbers


def check_size(depth, intrinsics, file):
    """Refuses intrinsics of another image size: the principal point is near a frame's middle."""
    height, width = depth.shape
    across, down = intrinsics[2] / width, intrinsics[3] / height
    if not (0.25 < across < 0.75 and 0.25 < down < 0.75):
        raise InputError(
            f"{file} has {width} x {height} pixels, but --intrinsics puts the principal point at "
            f"{intrinsics[2]:g}, {intrinsics[3]:g}, not near the middle; give the intrinsics of "
            "this size."
        )
