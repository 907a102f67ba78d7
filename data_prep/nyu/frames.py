"""The frames of one split on disk, and the steps of time that they and the labels make."""

import dataclasses
import os
import pathlib
import re

import numpy as np

from data_prep.multi_view.steps import Listing, check_size
from dgn_tf.depth_io import read_nyu
from dgn_tf.errors import InputError
from dgn_tf.records.view_schema import WITHOUT_LABEL

_NAME = re.compile(r"depth_([1-9]\d*)_(\d{7})\.png")


def frame_name(camera: int, index: int) -> str:
    """File name of a frame; both count from 1."""
    return f"depth_{camera}_{index:07d}.png"


def list_frames(folder: pathlib.Path, cameras: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Finds the depth frames of a split's folder: {camera: sorted indices}.

    Raises:
        InputError: no such folder, or no frame of a camera.
    """
    found: dict[int, list[int]] = {camera: [] for camera in cameras}
    others = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match is None:
                    continue
                camera, index = int(match[1]), int(match[2])
                if camera in found:
                    found[camera].append(index)
                else:
                    others.add(camera)
    except OSError as error:
        raise InputError(
            f"{folder}: can't be listed ({error.strerror}); --nyu_dir is the folder that holds "
            "train and test, --splits names those wanted."
        ) from None
    for camera, indices in found.items():
        if not indices:
            there = sorted({c for c, i in found.items() if i} | others)
            raise InputError(
                f"{folder}: no frame of camera {camera} ({frame_name(camera, 1)} and so on); copy "
                f"them, or name other --cameras (there are {there or 'none'})."
            )
    return {camera: np.array(sorted(indices)) for camera, indices in found.items()}


def match_labels(
    folder: pathlib.Path, frames: dict[int, np.ndarray], labelled: int | None, label_file: str
) -> Listing:
    """Brings frames and labels together.

    Args:
        folder: of the split.
        frames: of `list_frames`.
        labelled: frames that the labels count, None without labels.
        label_file: its name, for messages.
    """
    last = max(int(indices[-1]) for indices in frames.values())
    every = np.zeros([max(last, labelled or 0) + 1, len(frames)], bool)  # row 0 stays empty
    for place, indices in enumerate(frames.values()):
        every[indices, place] = True
    any_camera = every.any(axis=1)
    # Without labels nothing says how many frames there should be.
    wanted = any_camera.copy()
    if labelled is not None:
        wanted[1 : labelled + 1] = True
        wanted[labelled + 1 :] = False
    wanted[0] = False
    skipped = []
    for index, place in zip(*np.nonzero(every | wanted[:, None]), strict=True):
        name = f"{folder.name}/{frame_name(list(frames)[place], int(index))}"
        if every[index, place] and not wanted[index]:
            why = f"{WITHOUT_LABEL}: {label_file} has {labelled} frames, counted from 1"
            if labelled is None:
                why = "index 0: NYU's frames are counted from 1"
            skipped.append({"file": name, "why": why})
        elif not every[index, place]:
            why = "no such file" + ("" if labelled is None else ", but a label")
            skipped.append({"file": name, "why": why})
    indices = np.nonzero(any_camera & wanted)[0]
    return Listing(indices, every[indices], skipped)


@dataclasses.dataclass(frozen=True, eq=False)
class NyuFrames:
    """The frames of a split, as `steps.FrameSource` wants them.

    Attributes:
        folder: of the split.
        cameras: [C] numbers, from 1.
        listing: what is to be converted.
        size: width, height of frames.
        depth_unit_mm: of what `read` returns.
    """

    folder: pathlib.Path
    cameras: tuple[int, ...]
    listing: Listing
    size: tuple[int, int]
    depth_unit_mm: float = 1.0

    def name(self, number: int, view: int) -> str:
        """The file of a step's view, with its split's folder."""
        index = int(self.listing.indices[number])
        return f"{self.folder.name}/{frame_name(self.cameras[view], index)}"

    def read(self, number: int, view: int) -> np.ndarray:
        """[H, W] uint16 mm, 0 = missing; InputError: unreadable, damaged, or of another size."""
        path = self.folder.parent / self.name(number, view)
        return check_size(path, read_nyu(path), self.size)

    def hash(self) -> str:
        """sha256 (hex): two runs with the same one convert the same frames."""
        return self.listing.hash()
