"""Recordings of a RealSense's depth, made without a camera.

.db3 by its software device; .bag, which librealsense reads but no longer writes, by `rosbags`.
"""

import time

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.live import realsense
from dgn_tf.template import load_template

rs = pytest.importorskip("pyrealsense2", reason="wants pyrealsense2, the extra `realsense`")
WIDTH, HEIGHT, RATE = 64, 48, 30
METRES = 0.000125  # a step, an SR305's
INTRINSICS = 50.25, 51.5, 31.5, 23.75


def record(file, frames):
    device = rs.software_device()
    sensor = device.add_sensor("Depth")
    known = rs.intrinsics()
    known.width, known.height = WIDTH, HEIGHT
    known.fx, known.fy, known.ppx, known.ppy = INTRINSICS
    known.model, known.coeffs = rs.distortion.none, [0.0] * 5
    stream = rs.video_stream()
    stream.type, stream.fmt, stream.index, stream.uid = rs.stream.depth, rs.format.z16, 0, 1
    stream.width, stream.height, stream.fps, stream.bpp = WIDTH, HEIGHT, RATE, 2
    stream.intrinsics = known
    profile = sensor.add_video_stream(stream)
    sensor.add_read_only_option(rs.option.depth_units, METRES)
    recorder = rs.recorder(str(file), device)
    recorded, queue = recorder.query_sensors()[0], rs.frame_queue(100)
    recorded.open(profile)
    recorded.start(queue)
    for number, pixels in enumerate(frames):
        one = rs.software_video_frame()
        one.stride, one.bpp, one.frame_number = 2 * WIDTH, 2, number + 1
        one.timestamp, one.domain = 1000 * number / RATE, rs.timestamp_domain.hardware_clock
        one.profile, one.depth_units = profile.as_video_stream_profile(), METRES
        one.pixels = pixels
        sensor.on_video_frame(one)
        time.sleep(0.01)  # it drops frames that come faster than it writes
    recorded.stop()
    recorded.close()


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 65536, [8, HEIGHT, WIDTH]).astype(np.uint16))


@pytest.fixture(scope="module", params=["take.db3", "take.bag", "old.bag"])
def recording(request, frames, tmp_path_factory):
    file = tmp_path_factory.mktemp("takes") / request.param
    if file.suffix == ".db3":
        record(file, frames)
        return file
    pytest.importorskip("rosbags", reason="wants rosbags, the extra `dev`")
    from tests.live.realsense_bag import write_bag

    write_bag(file, frames, INTRINSICS, RATE, METRES, unit_in_frames=file.stem != "old")
    return file


def test_frames_unit_intrinsics_and_times_are_exact(recording, frames):
    from dgn_tf.live.sources import open_source

    got = list(open_source(str(recording), None, load_template))
    assert len(got) == len(frames)
    for number, (one, wanted) in enumerate(zip(got, frames, strict=True)):
        np.testing.assert_array_equal(one.depth, wanted)
        assert one.unit == 0.125 and one.depth.dtype == np.uint16
        np.testing.assert_array_equal(one.intrinsics, np.float32(INTRINSICS))
        assert one.time_s == pytest.approx(number / RATE, abs=1e-4)


def test_a_recording_cut_short_ends_in_one_line(recording, tmp_path):
    content = recording.read_bytes()
    for share in (0.1, 0.5, 0.9):
        cut = tmp_path / f"cut{recording.suffix}"
        cut.write_bytes(content[: int(share * len(content))])
        try:
            assert len(list(realsense.recording(str(cut)))) <= 8
        except InputError as error:
            assert "can't be replayed: Failed" in str(error) and "\n" not in str(error)


def test_what_is_no_recording_is_named(tmp_path):
    file = tmp_path / "x.bag"
    file.write_text("<html>sign in</html>")
    with pytest.raises(InputError, match=r"x.bag can't be replayed: it is a web page"):
        realsense.recording(str(file))


def test_no_camera_ends_in_one_line():
    if len(rs.context().query_devices()):
        pytest.skip("a camera is connected")
    with pytest.raises(InputError, match=r"--source=realsense:123: no such camera, none is"):
        realsense.camera("123")
