import itertools
import threading
import time

import numpy as np
import pytest
from PIL import Image

from dgn_tf.errors import InputError
from dgn_tf.live import sources
from dgn_tf.live.frames import LiveFrame
from dgn_tf.live.sources import Newest, Ordered, is_device, open_source, paced
from dgn_tf.live.synthetic import EXACT_SENSOR, MOTIONS, SyntheticHands
from dgn_tf.template import load_template

K = np.float32([100, 100, 15.5, 11.5])


def frame(time_s, depth=600):
    return LiveFrame(np.full([24, 32], depth, np.uint16), K, 1.0, time_s)


def times(source):
    return [one.time_s for one in source]


@pytest.fixture(scope="module")
def template():
    return load_template()


def test_depth_files_are_read_in_their_order_at_the_rate(tmp_path):
    for number in (1, 2, 10):
        image = np.full([24, 32], 500 + number, np.uint16)
        Image.fromarray(image).save(tmp_path / f"frame_{number}.png")

    def read(file):
        return np.asarray(Image.open(file)), K

    found = list(open_source(f"{tmp_path}/*.png", read, load_template, rate=10))
    assert [one.depth[0, 0] for one in found] == [501, 502, 510]
    np.testing.assert_allclose(times(found), [0, 0.1, 0.2])
    assert len(list(open_source(str(tmp_path), read, load_template, rate=10, seconds=0.2))) == 2
    with pytest.raises(InputError, match=r"--source=.*none\.png matches no file"):
        open_source(f"{tmp_path}/none.png", read, load_template)


def test_a_file_is_never_taken_for_a_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_device("realsense") and is_device("realsense:0123")
    for name in ("realsense.db3", "takes/realsense", "realsense*.png", "synthetic"):
        assert not is_device(name)
    (tmp_path / "realsense").mkdir()
    assert not is_device("realsense")
    with pytest.raises(InputError, match="--source=realsense: no depth frame"):
        open_source("realsense", None, load_template)


def test_synthetic_motions_by_name():
    source = open_source("synthetic:cross", None, load_template, rate=10, seconds=0.3)
    assert len(list(source)) == 3
    with pytest.raises(InputError, match="synthetic:dance: wanted one of one, two"):
        open_source("synthetic:dance", None, load_template)


@pytest.mark.parametrize("motion", MOTIONS)
def test_synthetic_hands_depend_on_the_seed_alone_and_tell_the_truth(motion, template):
    make = {"motion": motion, "frames": 40, "seed": 3, "size": (160, 120)}
    source, other = SyntheticHands(template, **make), SyntheticHands(template, **make)
    once, again = source.frame(7), other.frame(7)
    np.testing.assert_array_equal(once.depth, again.depth)
    np.testing.assert_array_equal(once.truth.keypoints, again.truth.keypoints)
    assert (source.frame(8).depth != once.depth).any()
    assert len(once.truth.hands) == (2 if motion in ("two", "cross") else 1)
    assert once.depth.dtype == np.float32 and once.depth.min() >= 0
    moved = np.linalg.norm(source.frame(8).truth.vertices - once.truth.vertices, axis=-1).max()
    assert moved < 25  # mm in a thirtieth of a second: hands move smoothly
    assert (moved > 0.1) == (motion != "still")


def test_the_depth_shows_the_true_hands(template):
    source = SyntheticHands(template, "one", 1, seed=5, sensor=EXACT_SENSOR, sides="l")
    one = source.frame(0)
    assert one.truth.hands == ("left",) and one.truth.seen[0] == 1
    fx, fy, cx, cy = one.intrinsics
    x, y, z = one.truth.vertices[0].T
    u, v = np.rint(x / z * fx + cx).astype(int), np.rint(y / z * fy + cy).astype(int)
    away = one.depth[v, u] - z
    assert np.mean(np.abs(away) < 3) > 0.15  # mm; the others face away
    assert np.mean(away > 40) < 0.1  # hardly one lies before what the camera sees


def test_crossing_hands_hide_each_other_and_both_come_out(template):
    source = SyntheticHands(template, "cross", 60, seed=1)
    seen = np.array([source.frame(number).truth.seen for number in (0, 30, 59)])
    assert (seen[[0, 2]] > 0.95).all() and seen[1].min() < 0.5 < seen[1].max()


def test_frames_out_of_order_are_left_out():
    ordered = Ordered([frame(t) for t in (0.0, 0.1, 0.05, 0.1, 0.2)], "x")
    assert times(ordered) == [0.0, 0.1, 0.2] and ordered.late == 2


def test_a_clock_that_jumps_is_believed():
    assert times(Ordered([frame(t) for t in (5.0, 5.1, 900.0, 900.1)], "x")) == [5, 5.1, 900, 900.1]
    assert times(Ordered([frame(t) for t in (900.0, 5.0, 5.1)], "x")) == [900.0, 5.0, 5.1]
    slightly = [1.0, *np.linspace(0.5, 0.9, 40)]
    assert len(times(Ordered([frame(t) for t in slightly], "x"))) > 25


@pytest.mark.parametrize("error", [OSError("No such device"), RuntimeError("usb\nlost")])
def test_a_camera_that_is_unplugged_ends_in_one_line(error):
    def source():
        yield frame(0.0)
        yield frame(0.1)
        raise error

    got = []
    with pytest.raises(InputError, match=r"--source=cam ended after 2 frames: .*; check") as raised:
        for one in Ordered(source(), "cam"):
            got.append(one)
    assert len(got) == 2 and "\n" not in str(raised.value)


def test_pacing_waits_for_time_stamps_and_cuts_gaps():
    start = time.monotonic()
    assert len(list(paced([frame(t) for t in (7.0, 7.1, 500.0, 500.1)]))) == 4
    assert 0.2 <= time.monotonic() - start < 1.0


def test_a_slow_reader_gets_the_newest_frame():
    go = threading.Event()

    def source():
        for number in range(50):
            yield frame(number)
        go.set()

    newest = Newest(source())
    got = []
    for one in newest:
        go.wait(5)
        got.append(one.time_s)
    assert got[-1] == 49 and len(got) + newest.skipped == 50 and len(got) <= 3


def test_an_error_of_the_reading_thread_is_raised_where_frames_are_taken():
    def source():
        yield frame(0.0)
        raise InputError("unplugged")

    with pytest.raises(InputError, match="unplugged"):
        list(Newest(source()))


def test_a_reader_that_stops_ends_the_thread():
    running = threading.active_count()
    for one in Newest(frame(number) for number in itertools.count()):
        if one.time_s > 100:
            break
    for _ in range(100):
        if threading.active_count() == running:
            return
        time.sleep(0.02)
    raise AssertionError("the thread goes on")


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    import sys

    (tmp_path / "a.db3").write_bytes(b"SQLite format 3\0")
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    for named in (str(tmp_path / "a.db3"), "realsense"):
        with pytest.raises(InputError, match="wants pyrealsense2: install the extra `realsense`"):
            open_source(named, None, load_template)


def test_a_recording_that_is_not_there():
    with pytest.raises(InputError, match=r"--source=no/where.db3 is no file"):
        sources.open_source("no/where.db3", None, load_template)
