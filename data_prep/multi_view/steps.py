"""Makes the record of one time step out of frames, labels, rig and centres."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import tensorflow as tf

from data_prep.multi_view.calibration import Rig
from data_prep.multi_view.centres import FoundCentres
from dgn_tf.errors import InputError
from dgn_tf.records import view_schema
from dgn_tf.template.hand_template import nyu_keypoint_names

WINDOW_PER_CUBE = 1.5  # room for crops that are turned, moved and scaled
NO_HAND = "no pixel with depth in the cube around the centre"


@dataclasses.dataclass(frozen=True, eq=False)
class Listing:
    """What is to be converted.

    Attributes:
        indices: [N] of the time steps that have a frame of any camera, and a label if there are.
        there: [N, C] bool: the camera's frame exists.
        skipped: [{"file", "why"}] frames that are missing or, with labels, have none.
    """

    indices: np.ndarray
    there: np.ndarray
    skipped: list[dict]

    def first(self, count: int) -> "Listing":
        """The first `count` time steps; 0: all."""
        if not count:
            return self
        return Listing(self.indices[:count], self.there[:count], self.skipped)

    def hash(self) -> str:
        """sha256 (hex): two runs with the same one convert the same frames."""
        digest = hashlib.sha256(self.indices.astype("<i8").tobytes())
        digest.update(self.there.astype(np.uint8).tobytes())
        digest.update(json.dumps(self.skipped).encode())
        return digest.hexdigest()


class FrameSource(Protocol):
    """Where the frames come from.

    Attributes:
        listing: the time steps.
        depth_unit_mm: mm for one step of what `read` returns.
    """

    @property
    def listing(self) -> Listing: ...

    @property
    def depth_unit_mm(self) -> float: ...

    def name(self, number: int, view: int) -> str:
        """The file of a step's view, as records and messages name it."""

    def read(self, number: int, view: int) -> np.ndarray:
        """[H, W] uint16, 0 = missing; InputError: unreadable, or of another size or kind."""

    def hash(self) -> str:
        """sha256 (hex): two runs with the same one convert the same frames."""


@dataclasses.dataclass(frozen=True, eq=False)
class Steps:
    """What the records of a split are made of; row = index - 1 where arrays have all frames.

    Attributes:
        frames: of the cameras.
        cameras: [C] numbers, from 1.
        rig: of all cameras from 1 on.
        centre: [C, N, 3] mm of those cameras, NaN where not known; or what finds them in frames.
        keypoints: [C, N, 36, 3] mm of those cameras, NaN where invalid; None keeps none.
        cube_mm: side of the crops' cube.
        skip_bad: a bad frame makes an invalid view, not an error.
        hand: that the cameras saw, "right" or "left"; what is here is a right one's, see
            `mirrored.mirrored_steps`.
    """

    frames: FrameSource
    cameras: tuple[int, ...]
    rig: Rig
    centre: np.ndarray | FoundCentres
    keypoints: np.ndarray | None
    cube_mm: float
    skip_bad: bool
    hand: str = "right"

    def encode(self, number: int) -> bytes:
        """The record of step `number`; InputError names a bad frame."""
        return view_schema.encode_step(self.step(number)[0])

    def step(self, number: int) -> tuple[dict, list[tuple[str, str, bool]]]:
        """Reads one time step.

        Returns:
            What `view_schema.encode_step` wants; and (file, why, whether it is a bad frame) of
            each view that is not valid.
        """
        listing, count = self.frames.listing, len(self.cameras)
        index = int(listing.indices[number])
        names = [self.frames.name(number, view) for view in range(count)]
        lost = []
        depths: list[np.ndarray | None] = []
        for view, there in enumerate(listing.there[number]):
            depth, why = self._read(number, view) if there else (None, "no such file")
            if depth is None:
                lost.append((names[view], why, True))
            depths.append(depth)
        places = np.asarray(self.cameras) - 1
        intrinsics = self.rig.intrinsics[places]
        centre = self._centres(index - 1, depths)
        windows = np.tile(np.array(view_schema.NO_WINDOW, np.int64), (count, 1))
        valid = np.zeros(count, np.int64)
        views = [np.zeros([1, 1], np.uint16)] * count
        for view, depth in enumerate(depths):
            if depth is None:
                continue
            why = "no centre: its label is masked, its line says so or nothing was found"
            if np.isfinite(centre[view]).all():
                why = NO_HAND
                window = window_around(
                    centre[view], self.cube_mm * WINDOW_PER_CUBE, intrinsics[view], depth.shape
                )
                if self._sees(depth, centre[view], intrinsics[view]):
                    left, top, width, height = windows[view] = window
                    views[view] = depth[top : top + height, left : left + width]
                    valid[view] = 1
            if not valid[view]:
                lost.append((names[view], why, False))
        keypoints, known = self._keypoints(index - 1)
        step = {
            "index": index,
            "cameras": np.asarray(self.cameras),
            "frames": names,
            "depth": views,
            "depth_unit": self.frames.depth_unit_mm,
            "window": windows,
            "intrinsics": intrinsics,
            "camera_from_rig": self.rig.camera_from_rig[places],
            "rig_known": int(self.rig.known),
            "centre": np.where(valid[:, None] == 1, centre, 0.0),
            "view_valid": valid,
            "cube": self.cube_mm,
            "keypoints": keypoints,
            "keypoints_valid": known,
            "left": int(self.hand == "left"),
            "frame_width": self.rig.frame_size[0],
        }
        return step, lost

    def _read(self, number, view):
        try:
            return self.frames.read(number, view), ""
        except InputError as error:
            if self.skip_bad:
                return None, str(error)
            raise InputError(
                f"{error} (Or leave bad frames out with --skip_bad_frames; finished shards are "
                "kept.)"
            ) from None

    def _centres(self, row, depths):
        if isinstance(self.centre, np.ndarray):
            return self.centre[:, row].astype(np.float64)
        found = np.full([len(depths), 3], np.nan)
        there = [view for view, depth in enumerate(depths) if depth is not None]
        if there:
            places = np.asarray(self.cameras)[there] - 1
            found[there] = self.centre(
                np.stack([depths[view] for view in there]) * np.float32(self.frames.depth_unit_mm),
                self.rig.intrinsics[places],
                self.rig.camera_from_rig[places] if self.rig.known else None,
            )
        return found

    def _keypoints(self, row):
        shape = [len(self.cameras), len(nyu_keypoint_names())]
        if self.keypoints is None:
            return np.zeros([*shape, 3], np.float32), np.zeros(shape, np.int64)
        points = self.keypoints[:, row]
        known = np.isfinite(points).all(axis=-1)
        return np.where(known[..., None], points, 0.0), known.astype(np.int64)

    def _sees(self, depth, centre, intrinsics):
        """Whether any pixel of the crop lies within the cube's depths."""
        left, top, width, height = window_around(centre, self.cube_mm, intrinsics, depth.shape)
        away = depth[top : top + height, left : left + width] * self.frames.depth_unit_mm
        return bool(np.any((away > 0) & (np.abs(away - centre[2]) <= self.cube_mm / 2)))


def check_size(path: pathlib.Path, depth: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The frame [H, W]; InputError unless it is of `size` (width, height)."""
    if depth.shape != size[::-1]:
        raise InputError(
            f"{path} has {depth.shape[1]} x {depth.shape[0]} pixels, wanted {size[0]} x {size[1]}, "
            "which the intrinsics are for; other frames need a --calibration with their size."
        )
    return depth


def window_around(centre, side_mm: float, intrinsics, shape) -> tuple[int, int, int, int]:
    """Left, top, width, height of the frame's pixels around a point's projection.

    Args:
        centre: [3] mm, camera frame.
        side_mm: side of the window's square at the centre's depth.
        intrinsics: (fx, fy, cx, cy), pixels.
        shape: height, width of the frame.

    Returns:
        The whole pixels that the square touches, cut to the frame; width or height may be 0.
    """
    focal, principal = np.asarray(intrinsics[:2]), np.asarray(intrinsics[2:])
    middle = principal + focal * centre[:2] / centre[2]
    reach = focal * (side_mm / 2 / centre[2])
    limits = np.asarray(shape[::-1])
    # Pixel p covers p - 0.5 to p + 0.5.
    low = np.clip(np.floor(middle - reach + 0.5), 0, limits).astype(int)
    high = np.clip(np.floor(middle + reach + 0.5) + 1, 0, limits).astype(int)
    left, top = low
    width, height = np.maximum(high - low, 0)
    return int(left), int(top), int(width), int(height)


def account(steps: Steps, records: Callable[[], Iterable[bytes]]) -> dict:
    """Counts what records hold, and says why views are not valid by reading their frames again.

    Returns:
        "views", "keypoints_valid", "keypoints_masked": counts; "skipped" and "without_hand":
        [{"file", "why"}].
    """
    counts = {"views": 0, "keypoints_valid": 0, "keypoints_masked": 0}
    skipped = list(steps.frames.listing.skipped)
    without_hand: list[dict] = []
    known_missing = {entry["file"] for entry in skipped}
    for number, example in enumerate(_parsed(records)):
        valid = np.array(example.features.feature["view_valid"].int64_list.value)
        known = np.array(example.features.feature["keypoints_valid"].int64_list.value)
        counts["views"] += int(valid.sum())
        counts["keypoints_valid"] += int(known.sum())
        if steps.keypoints is not None:
            counts["keypoints_masked"] += int(np.sum(known == 0))
        if valid.all():
            continue
        named = example.features.feature["frames"].bytes_list.value
        why_of = {file: (why, bad) for file, why, bad in steps.step(number)[1]}
        for file in (name.decode() for name, good in zip(named, valid, strict=True) if not good):
            why, bad = why_of.get(file, ("was bad when it was converted", True))
            if file not in known_missing:
                (skipped if bad else without_hand).append({"file": file, "why": why})
    return {**counts, "skipped": skipped, "without_hand": without_hand}


def _parsed(records) -> Iterator[tf.train.Example]:
    for serialized in records():
        yield tf.train.Example.FromString(serialized)


def centres_apart(records: Callable[[], Iterable[bytes]], cameras: tuple[int, ...]) -> dict:
    """How far the views' centres lie apart in the rig frame: small where the rig is right.

    Centres of mass of visible surfaces agree to a hand's thickness; a wrong rig moves them apart.

    Returns:
        {camera: {"median", "p95", "steps"}} for each camera but the first, mm: distance of its
        centre from the first camera's, over the steps that both see. Cameras that never do are
        left out.
    """
    apart: dict[int, list[float]] = {camera: [] for camera in cameras[1:]}
    for example in _parsed(records):
        feature = example.features.feature
        valid = feature["view_valid"].int64_list.value
        shape = [len(cameras), -1, 4]
        camera_from_rig = np.reshape(feature["camera_from_rig"].float_list.value, shape)
        centre = np.reshape(feature["centre"].float_list.value, [len(cameras), 3])
        # Of a rigid matrix: rig = R^T (camera - t), for row vectors (camera - t) R.
        offset = (centre - camera_from_rig[:, :3, 3])[:, None]
        in_rig = (offset @ camera_from_rig[:, :3, :3])[:, 0]  # [C, 3]
        for view, camera in enumerate(cameras[1:], 1):
            if valid[0] and valid[view]:
                apart[camera].append(float(np.linalg.norm(in_rig[view] - in_rig[0])))
    return {
        str(camera): {
            "median": round(float(np.median(values)), 2),
            "p95": round(float(np.quantile(values, 0.95)), 2),
            "steps": len(values),
        }
        for camera, values in apart.items()
        if values
    }
