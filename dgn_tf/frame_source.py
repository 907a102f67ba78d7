"""Frames of a recording: read, turned into mm, resampled to a pinhole camera and checked."""

import dataclasses
import pathlib
from typing import NamedTuple

import numpy as np

from dgn_tf import depth_io, plausibility
from dgn_tf.cameras import camera_file
from dgn_tf.cameras.camera import Camera
from dgn_tf.cameras.known import SENSORS, sensor_camera
from dgn_tf.cameras.undistort import to_pinhole
from dgn_tf.depth_files.reader import read_frame
from dgn_tf.errors import InputError
from dgn_tf.frame_files import check_size, parse_numbers
from dgn_tf.predictor import check_depth, check_intrinsics


class Frame(NamedTuple):
    """A frame that a model can take.

    Attributes:
        depth: [H, W] float32 mm of a pinhole camera, 0 = missing.
        intrinsics: [4] fx, fy, cx, cy, pixels, of it.
        kind: what the file was, such as "a 16-bit PNG".
        camera: where the intrinsics are from.
        warnings: what hardly can be, of this frame.
        camera_warnings: what hardly can be, of its camera.
    """

    depth: np.ndarray
    intrinsics: np.ndarray
    kind: str
    camera: str
    warnings: tuple[str, ...] = ()
    camera_warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class FrameSource:
    """How the frames of one camera are read.

    Attributes:
        encoding: "u16" or "nyu", see `depth_files.reader`.
        depth_unit: mm for one step where the user says it.
        camera: the user's intrinsics, or None: the sensor's.
        sensor: of `cameras.known`, or "": none.
    """

    encoding: str
    depth_unit: float | None
    camera: Camera | None
    sensor: str = ""

    def read(self, file: pathlib.Path) -> Frame:
        """One frame; InputError where it can't be read or no hand can be seen in it."""
        usual = SENSORS[self.sensor].unit if self.sensor else None
        stored = read_frame(file, self.encoding, self.depth_unit, usual)
        warnings = plausibility.check_bytes(stored.depth, stored.steps, file)
        height, width = stored.depth.shape
        if self.camera is None:
            camera = sensor_camera(self.sensor, width, height, file)
        else:
            camera = self.camera.of_size(width, height, file)
        intrinsics = np.array(camera.intrinsics, np.float32)
        if camera.size is None:
            check_size(stored.depth, intrinsics, file)
        return Frame(
            check_depth(to_pinhole(stored.depth, camera), intrinsics, str(file)),
            intrinsics,
            stored.kind,
            camera.source,
            tuple(warnings),
            tuple(plausibility.camera_warnings(intrinsics, width, height)),
        )


def named_source(
    encoding: str = "u16", depth_unit: float | None = None, intrinsics: str = "", sensor: str = ""
) -> FrameSource:
    """How frames are read as --encoding, --depth_unit, --intrinsics and --camera say.

    Args:
        encoding: "u16" or "nyu".
        depth_unit: mm for one step; None: the file's own or the sensor's.
        intrinsics: fx,fy,cx,cy in pixels, a calibration file, or "": the sensor's.
        sensor: of `cameras.known`, or "": none.

    Raises:
        InputError: one of them is wrong, or nothing tells the intrinsics.
    """
    if encoding == "nyu" or depth_unit is not None:
        depth_io.check_encoding(encoding, depth_unit)
    camera = None
    if intrinsics:
        if camera_file.is_file(intrinsics):
            camera = camera_file.read_camera(intrinsics)
        else:
            numbers = parse_numbers("intrinsics", intrinsics.split(","), "fx,fy,cx,cy")
            fx, fy, cx, cy = map(float, check_intrinsics(numbers))
            camera = Camera((fx, fy, cx, cy), "--intrinsics")
    elif not sensor:
        raise InputError(
            "--intrinsics is missing: fx,fy,cx,cy in pixels or a calibration file; or "
            f"--camera={'|'.join(sorted(SENSORS))} for usual ones."
        )
    return FrameSource(encoding, depth_unit, camera, sensor)
