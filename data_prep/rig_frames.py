"""The depth frames of a user's own cameras: found by folder or pattern, and synchronised."""

import dataclasses
import fnmatch
import glob
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from data_prep.multi_view.steps import Listing, check_size
from dgn_tf.depth_io import read_u16
from dgn_tf.errors import InputError

SYNCS = ("name", "order")
Key = tuple[str, ...]  # what stands in a file's path for the wildcards of its camera's pattern
_WILDCARD = re.compile(r"\*|\?|\[!?\]?[^\]]*\]")


@dataclasses.dataclass(frozen=True)
class CameraFrames:
    """One camera's frames.

    Attributes:
        given: the folder or pattern, as the flag named it.
        literals: [W + 1] what stands in the paths before, between and after W wildcards.
        files: path of each frame by its key, in natural order: 2 before 10.
    """

    given: str
    literals: tuple[str, ...]
    files: dict[Key, str]

    def path(self, key: Key) -> str:
        """The path of a frame, there or not."""
        parts = [text for pair in zip(self.literals, key, strict=False) for text in pair]
        return "".join([*parts, self.literals[-1]])


def find_frames(given: str) -> CameraFrames:
    """Finds a camera's frames.

    Args:
        given: a folder, which stands for its *.png, or a pattern with *, ? and [...].

    Raises:
        InputError: no such folder, or no frame in it.
    """
    if os.path.isdir(given):
        folder = os.path.normpath(given)
        literals: tuple[str, ...] = (os.path.join(folder, ""), ".png")
        wildcards, pattern = ["*"], os.path.join(glob.escape(folder), "*.png")
    else:
        pattern = os.path.normpath(given)
        literals, wildcards = tuple(_WILDCARD.split(pattern)), _WILDCARD.findall(pattern)
        if not given or not wildcards:
            kind = "a file" if os.path.exists(given) else "no such folder"
            raise InputError(
                f"--frames={given}: {kind}; name one folder of PNGs, or a pattern such as "
                "'rig/depth_1_*.png', for each camera."
            )
    groups = [f"({_one_component(wildcard)})" for wildcard in wildcards] + [""]
    regex = re.compile("".join(map(str.__add__, map(re.escape, literals), groups)))
    files = {}
    for path in glob.glob(pattern):
        match = regex.fullmatch(path)
        if match and not os.path.isdir(path):
            files[match.groups()] = path
    if not files:
        raise InputError(
            f"--frames={given}: no {os.path.basename(pattern)} there; wanted 16-bit "
            "depth PNGs; quote patterns."
        )
    ordered = sorted(files, key=lambda key: ([_natural(part) for part in key], key))
    return CameraFrames(given, literals, {key: files[key] for key in ordered})


def _one_component(wildcard):
    """The regular expression of a wildcard, which never stands for a slash."""
    if wildcard in "*?":
        return "[^/]" + ("*" if wildcard == "*" else "")
    return fnmatch.translate(wildcard).removesuffix(r"\Z")


def _natural(text):
    """Sorts img2 before img10: text and numbers by turns."""
    parts: list[str | int] = list(re.split("([0-9]+)", text))
    parts[1::2] = map(int, parts[1::2])
    return parts


@dataclasses.dataclass(frozen=True, eq=False)
class RigFrames:
    """A rig's frames, as `multi_view.steps.FrameSource` wants them.

    Attributes:
        listing: the time steps; they count from 1 in the order of the frames' names.
        paths: [N][C] of the frames, there or not.
        root: folder that the records' file names start from.
        size: width, height of frames.
        depth_unit_mm: mm for one step of the images.
    """

    listing: Listing
    paths: list[list[str]]
    root: str
    size: tuple[int, int]
    depth_unit_mm: float

    def name(self, number: int, view: int) -> str:
        """The file of a step's view, relative to `root`."""
        return _relative(self.paths[number][view], self.root)

    def read(self, number: int, view: int) -> np.ndarray:
        """[H, W] uint16, 0 = missing; InputError: unreadable, 8-bit or of another size."""
        path = pathlib.Path(self.paths[number][view])
        depth = read_u16(path, "--frames", "data_prep.nyu_to_tfrecord")
        return check_size(path, depth, self.size)

    def hash(self) -> str:
        """sha256 (hex): two runs with the same one convert the same frames."""
        names = [[_relative(path, self.root) for path in step] for step in self.paths]
        return hashlib.sha256(json.dumps([names, self.listing.there.tolist()]).encode()).hexdigest()

    def check_first(self) -> None:
        """Raises InputError unless each camera's first frame can be read.

        Frames of another kind or size mostly are so from the first on: told before anything is
        written.
        """
        for view, there in enumerate(self.listing.there.T):
            self.read(int(np.argmax(there)), view)


def match_frames(
    cameras: Sequence[CameraFrames], sync: str, size: tuple[int, int], depth_unit_mm: float
) -> RigFrames:
    """Brings frames that were taken at the same time together.

    Args:
        cameras: their frames.
        sync: "name", equal keys belong together, or "order", the n-th frames do.
        size: width, height of frames.
        depth_unit_mm: mm for one step of the images.

    Raises:
        InputError: one file is two cameras', the cameras have different counts of frames (order),
            or no name in common (name).
    """
    _check_distinct(cameras)
    if sync == "order":
        counts = [len(camera.files) for camera in cameras]
        if len(set(counts)) > 1:
            raise InputError(
                f"--sync=order wants as many frames of every camera, got {_told(cameras, counts)};"
                " remove those that lack their partners, or name partners alike and use "
                "--sync=name."
            )
        paths = [list(step) for step in zip(*(c.files.values() for c in cameras), strict=True)]
        there = np.ones([len(paths), len(cameras)], bool)
    else:
        _check_common(cameras)
        every = {key for camera in cameras for key in camera.files}
        keys = sorted(every, key=lambda key: ([_natural(part) for part in key], key))
        paths = [[camera.files.get(key) or camera.path(key) for camera in cameras] for key in keys]
        there = np.array([[key in camera.files for camera in cameras] for key in keys])
    root = _root(paths)
    skipped = [
        {
            "file": _relative(paths[row][view], root),
            "why": f"no such file, but {cameras[int(np.argmax(there[row]))].given} has that frame",
        }
        for row, view in zip(*np.nonzero(~there), strict=True)
    ]
    listing = Listing(np.arange(1, len(paths) + 1), there, skipped)
    return RigFrames(listing, paths, root, size, depth_unit_mm)


def _check_distinct(cameras):
    owner: dict[str, CameraFrames] = {}
    for camera in cameras:
        for path in camera.files.values():
            other = owner.setdefault(os.path.abspath(path), camera)
            if other is not camera:
                raise InputError(
                    f"{path}: a frame of two cameras, --frames={other.given},{camera.given}; give "
                    "each camera a folder or pattern of its own."
                )


def _check_common(cameras):
    if len({len(camera.literals) for camera in cameras}) > 1:
        counts = [len(camera.literals) - 1 for camera in cameras]
        raise InputError(
            f"--sync=name compares what stands for the wildcards of --frames, got "
            f"{_told(cameras, counts)} of them; give patterns of as many, or use --sync=order."
        )
    if not set.intersection(*(set(camera.files) for camera in cameras)):
        first = [repr("/".join(next(iter(camera.files)))) for camera in cameras]
        raise InputError(
            f"--sync=name: no frame name is common to all cameras, they begin with "
            f"{_told(cameras, first)}; name partners alike, give patterns in which * stands for "
            "what partners share, or use --sync=order."
        )


def _told(cameras, values):
    return ", ".join(f"{v} ({camera.given})" for v, camera in zip(values, cameras, strict=True))


def _root(paths):
    """The folder above all cameras' folders: names from there tell the cameras apart."""
    folders = {os.path.dirname(os.path.abspath(path)) for step in paths for path in step}
    root = os.path.commonpath(folders)
    return os.path.dirname(root) if root in folders else root


def _relative(path, root):
    return pathlib.Path(os.path.relpath(path, root)).as_posix()
