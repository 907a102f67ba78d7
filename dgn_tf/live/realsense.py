"""Intel RealSense: cameras, and recordings of them, by `pyrealsense2` (extra `realsense`)."""

import os
from collections.abc import Iterator

import numpy as np

from dgn_tf.cameras.camera_file import camera_of
from dgn_tf.cameras.undistort import to_pinhole
from dgn_tf.errors import InputError, reason
from dgn_tf.file_kinds import named_kind
from dgn_tf.live.frames import LiveFrame

_WAIT_MS = 5000
_REPLAY_WAIT_MS = 1000


def recording(file: str) -> Iterator[LiveFrame]:
    """The depth frames of a recording, all of them, as fast as they are taken.

    Args:
        file: .db3, or .bag of older versions.

    Raises:
        InputError: no pyrealsense2, or the file can't be read.
    """
    file = os.path.expanduser(file)
    if not os.path.isfile(file):
        raise InputError(f"--source={file} is no file.")
    rs = _library()
    config = rs.config()
    try:
        config.enable_device_from_file(file, repeat_playback=False)
        pipeline = rs.pipeline()
        # Before the start: in real time, the first frames may be lost.
        profile = config.resolve(rs.pipeline_wrapper(pipeline))
        profile.get_device().as_playback().set_real_time(False)
        pipeline.start(config)
    except RuntimeError as error:
        with open(file, "rb") as stream:
            bag = stream.read(7) in (b"#ROSBAG", b"SQLite ")  # else what it is says more
        kind = "" if bag else named_kind(file)
        raise InputError(
            f"--source={file} can't be replayed: {kind + '; ' if kind else ''}{reason(error)}; "
            "copy or record it again."
        ) from None
    return _frames(pipeline, file, _REPLAY_WAIT_MS)


def camera(serial: str = "") -> Iterator[LiveFrame]:
    """The depth frames of a camera that is connected; they end when it is unplugged.

    Args:
        serial: number of the camera; "": any.

    Raises:
        InputError: no pyrealsense2, or no such camera.
    """
    rs = _library()
    named = f"--source=realsense{':' + serial if serial else ''}"
    devices = rs.context().query_devices()
    known = [device.get_info(rs.camera_info.serial_number) for device in devices]
    if not known or (serial and serial not in known):
        there = f"there are {', '.join(known)}" if known else "none is connected"
        raise InputError(f"{named}: no such camera, {there}; connect it, or name a recording.")
    config = rs.config()
    if serial:
        config.enable_device(serial)
    config.enable_stream(rs.stream.depth)
    pipeline = rs.pipeline()
    try:
        pipeline.start(config)
    except RuntimeError as error:
        raise InputError(f"{named}: {reason(error)}; connect the camera again.") from None
    return _frames(pipeline, "", _WAIT_MS)


def _library():
    try:
        import pyrealsense2
    except ImportError as error:
        if "libusb" in str(error):
            raise InputError(
                "--source: pyrealsense2 wants libusb: install the system's package libusb-1.0-0."
            ) from None
        raise InputError(
            "--source: RealSense wants pyrealsense2: install the extra `realsense`."
        ) from None
    return pyrealsense2


def _frames(pipeline, file: str, wait_ms: int) -> Iterator[LiveFrame]:
    """Frames until none comes any more: the end of a recording, an error of a camera."""
    camera = None
    try:
        while True:
            there, frames = pipeline.try_wait_for_frames(wait_ms)
            if not there:
                if file:
                    return
                raise InputError(
                    f"--source=realsense: no frame for {wait_ms / 1000:g} s; was the camera "
                    "unplugged?"
                )
            depth = frames.get_depth_frame()
            if not depth:
                continue
            if camera is None:
                camera = _camera(depth, file or "the camera")
            # A copy: the library takes the buffer back.
            steps = to_pinhole(np.array(depth.get_data()), camera)
            yield LiveFrame(
                steps,
                np.array(camera.intrinsics, np.float32),
                round(1000.0 * depth.get_units(), 7),  # a float32 of metres
                depth.timestamp / 1000.0,
            )
    finally:
        pipeline.stop()


def _camera(depth, source: str):
    known = depth.profile.as_video_stream_profile().intrinsics
    names = ("fx", "fy", "ppx", "ppy", "width", "height", "coeffs")
    entries = {name: getattr(known, name) for name in names}
    return camera_of(source, {**entries, "model": str(known.model)})
