"""Depth images on disk as a command names them, and checks of what it says of them."""

import glob
import os
import pathlib
import re

from dgn_tf.depth_files import ENDINGS
from dgn_tf.errors import InputError


def find_frames(named: str, flag: str = "--depth") -> list[pathlib.Path]:
    """The files that a flag names, each once; those of a folder or pattern in natural order.

    Args:
        named: files, folders and patterns (*, ?, **, [...]) with commas between. `~` is the home.
            What exists is taken by its name, also with brackets or commas in it. A folder stands
            for its depth files (`ENDINGS`), without those of its folders.
        flag: for messages.

    Raises:
        InputError: one of them names no file.
    """
    parts = [named] if os.path.lexists(os.path.expanduser(named)) else named.split(",")
    found = [file for part in parts if part.strip() for file in _files_of(part.strip(), flag)]
    if not found:
        raise InputError(f"{flag}={named} names no file; give files, folders or patterns.")
    return list(dict.fromkeys(found))


def _files_of(part: str, flag: str) -> list[pathlib.Path]:
    path = pathlib.Path(os.path.expanduser(part))
    if path.is_dir():
        return _frames_in(path, flag)
    if path.exists():
        return [path]
    # Brackets of names first: "take[1]/*.png" is that folder's, where there is one.
    for pattern in (str(path).replace("[", "[[]"), str(path)):
        files = [pathlib.Path(name) for name in glob.glob(pattern, recursive=True)]
        if files := [file for file in files if not file.is_dir()]:
            return sorted(files, key=natural)
    raise InputError(f"{flag}={part} matches no file; quote the pattern and check the folder.")


def _frames_in(folder: pathlib.Path, flag: str) -> list[pathlib.Path]:
    everything = [file for file in folder.iterdir() if not file.is_dir()]
    files = [file for file in everything if file.suffix.lower() in ENDINGS]
    files = [file for file in files if not file.name.startswith(".")]
    if not files:
        there = sorted({file.suffix or file.name for file in everything})[:6]
        raise InputError(
            f"{flag}={folder}: no depth frame ({', '.join(ENDINGS)}) among its "
            f"{len(everything)} files{' (' + ', '.join(there) + ')' if there else ''}; name "
            "another folder, or a pattern."
        )
    return sorted(files, key=natural)


def natural(path: pathlib.Path):
    """The key that sorts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if part.isdecimal() else part for part in parts], str(path)


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
