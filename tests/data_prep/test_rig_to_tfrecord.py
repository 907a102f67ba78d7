"""A user's own rig: geometry that agrees, the same bytes always, NYU's windows of its frames."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data_prep.rig_to_tfrecord import convert_rig
from dgn_tf.records import views
from dgn_tf.records.batches import Batching
from tests.data_prep import ball_rig
from tests.data_prep.nyu_folder import contents, read_records

STEPS = ball_rig.STEPS
CAMERAS = ("cam1", "cam2", "cam3")


def convert(rig, output, frames=CAMERAS, **settings):
    return convert_rig(**ball_rig.arguments(rig, output, frames, **settings))


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    return ball_rig.write_rig(tmp_path_factory.mktemp("rig") / "data")


@pytest.fixture(scope="module")
def records(rig, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    convert(rig, folder)
    return folder / "train"


@pytest.fixture
def copy(rig, tmp_path):
    return pathlib.Path(shutil.copytree(rig, tmp_path / "rig"))


def test_all_views_see_one_ball_in_the_rig_frame(records):
    batches = list(
        views.step_dataset(
            str(records), batching=Batching(batch_size=2, shuffle=False, repeat=False)
        )
    )
    batch = {key: np.concatenate([b[key].numpy() for b in batches]) for key in batches[0]}
    assert batch["index"].tolist() == list(range(1, STEPS + 1))
    assert batch["view_valid"].all() and batch["rig_known"].all()
    assert not batch["keypoints_valid"].any()
    np.testing.assert_array_equal(batch["camera"], [[1, 2, 3]] * STEPS)
    for step, centre in enumerate(ball_rig.centres()):
        for view in range(3):
            depth, (fx, fy, cx, cy) = batch["depth"][step, view], batch["intrinsics"][step, view]
            row, column = np.nonzero(depth)
            z = depth[row, column]
            points = np.stack([(column - cx) * z / fx, (row - cy) * z / fy, z], axis=-1)
            assert len(points) > 200
            transform = batch["camera_from_rig"][step, view]
            in_rig = (points - transform[:3, 3]) @ transform[:3, :3]
            off = np.linalg.norm(in_rig - centre, axis=-1) - ball_rig.RADIUS_MM
            # A crop's pixel is up to half a frame's pixel, 1.4 mm, off each way.
            assert np.abs(off).max() < 2.5 and np.abs(off).mean() < 0.6
            facing = batch["centre"][step, view] - transform[:3, 3]
            assert np.linalg.norm(facing @ transform[:3, :3] - centre) < ball_rig.RADIUS_MM


def test_every_frame_arrives_in_natural_order_with_its_unit(rig, records):
    steps = read_records(records)
    for step, name in zip(steps, ball_rig.names(), strict=True):
        assert [frame.decode() for frame in step["frames"]] == [f"{c}/{name}" for c in CAMERAS]
        assert step["depth_unit"] == ball_rig.UNIT_MM and step["cube"] == 300
        np.testing.assert_allclose(step["intrinsics"], ball_rig.INTRINSICS)
        for view, camera in enumerate(CAMERAS):
            frame = np.asarray(Image.open(rig / camera / name))
            left, top, width, height = step["window"][view]
            part = frame[top : top + height, left : left + width]
            np.testing.assert_array_equal(step["depth"][view], part)


def test_the_description_says_what_the_records_are(records):
    description = json.loads((records / "description.json").read_text())
    assert description["kind"] == "views" and description["split"] == "train"
    assert description["labels"] is False and description["centre"] == "com"
    assert description["extrinsics"]["source"] == "calibration"
    assert description["depth_unit_mm"] == ball_rig.UNIT_MM
    assert description["views"] == 3 * STEPS and description["keypoints_valid"] == 0
    assert description["skipped"] == [] and description["without_hand"] == []
    assert set(description["centres_apart_mm"]) == {"2", "3"}
    for apart in description["centres_apart_mm"].values():
        assert apart["median"] < ball_rig.RADIUS_MM and apart["steps"] == STEPS


def test_any_number_of_workers_and_of_runs_writes_the_same_bytes(rig, records, tmp_path):
    convert(rig, tmp_path, workers=3)
    convert(rig, tmp_path)
    assert contents(tmp_path / "train") == contents(records)


DEADLY = """
import os, signal, sys
from data_prep.multi_view.steps import Steps
from data_prep.multi_view.record_set import ViewWriting
from data_prep.rig_to_tfrecord import convert_rig

def encode(steps, number, whole=Steps.encode):
    if number == 2:  # the second record of the second shard
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(steps, number)

Steps.encode = encode
rig, output, unit = sys.argv[1:]
convert_rig(tuple(f"{rig}/cam{c}" for c in (1, 2, 3)), f"{rig}/calibration.json", float(unit),
            output, writing=ViewWriting(center="com", workers=1, steps_per_shard=2))
"""


def test_a_run_killed_in_the_middle_goes_on_and_ends_with_the_same_bytes(
    checkout, rig, records, tmp_path
):
    killed = subprocess.run(
        [sys.executable, "-c", DEADLY, rig, tmp_path, str(ball_rig.UNIT_MM)],
        cwd=checkout,
        capture_output=True,
        text=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "train"
    first, second = (f"rig-0000{shard}-of-00003.tfrecord" for shard in (0, 1))
    beside = f".{second.removesuffix('.tfrecord')}.writing.tfrecord"
    assert set(contents(folder)) == {first, beside, "plan.json"}
    assert "frame/s]" in killed.stderr  # the progress bar
    time = (folder / first).stat().st_mtime_ns
    convert(rig, tmp_path)
    assert contents(folder) == contents(records)
    assert (folder / first).stat().st_mtime_ns == time  # kept


def test_frames_are_matched_by_order_or_by_what_stands_for_a_wildcard(copy, records, tmp_path):
    flat = copy / "flat"
    flat.mkdir()
    for camera in CAMERAS:
        for place, name in enumerate(ball_rig.names()):
            shutil.copy(copy / camera / name, flat / f"{camera}_{name}")
            number = place * 7 + int(camera[-1])
            shutil.move(copy / camera / name, copy / camera / f"at_{number}.png")
    whole = read_records(records)
    for settings in ({"sync": "order"}, {"frames": [f"flat/{c}_*.png" for c in CAMERAS]}):
        out = tmp_path / settings.get("sync", "pattern")
        convert(copy, out, **settings)
        for step, wanted in zip(read_records(out / "train"), whole, strict=True):
            for key in set(wanted) - {"frames", "depth"}:
                np.testing.assert_array_equal(step[key], wanted[key])
            for depth, other in zip(step["depth"], wanted["depth"], strict=True):
                np.testing.assert_array_equal(depth, other)
    assert step["frames"][0] == b"flat/cam1_frame12.png"


def test_a_single_camera_needs_intrinsics_alone(rig, records, tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"intrinsics": ball_rig.calibration()["intrinsics"][0]}))
    description = convert(rig, tmp_path / "out", ["cam1"], calibration=path, split="test")
    assert description["cameras"] == [1] and description["centres_apart_mm"] == {}
    for one, three in zip(
        read_records(tmp_path / "out" / "test", 1), read_records(records), strict=True
    ):
        assert one["rig_known"] == 1 and one["frames"][0] == three["frames"][0]
        for key in ("depth", "window", "centre", "camera_from_rig"):
            np.testing.assert_array_equal(one[key][0], three[key][0])
    assert views.open_views(str(tmp_path / "out" / "test")).cameras == (1,)


def test_centres_come_from_a_file_for_each_camera(rig, tmp_path):
    transforms = np.array(ball_rig.calibration()["camera_from_camera1"])
    for camera, transform in enumerate(transforms, 1):
        given = ball_rig.centres() @ transform[:3, :3].T + transform[:3, 3]
        lines = [f"{x:.3f} {y:.3f} {z:.3f}" for x, y, z in given]
        lines[1] = "invalid invalid invalid" if camera == 2 else lines[1]
        (tmp_path / f"centre_{camera}.txt").write_text("\n".join(lines) + "\n")
    pattern = str(tmp_path / "centre_{camera}.txt")
    description = convert(rig, tmp_path / "out", center="file", center_file=pattern)
    assert description["centre"] == "file:centre_{camera}.txt"
    assert [entry["file"] for entry in description["without_hand"]] == ["cam2/frame9.png"]
    apart = description["centres_apart_mm"]
    assert apart["2"]["steps"] == STEPS - 1 and apart["3"]["p95"] < 0.01


def test_bad_and_lacking_frames_are_skipped_counted_and_listed(copy, records, tmp_path):
    (copy / "cam2" / "frame9.png").unlink()
    (copy / "cam3" / "frame8.png").write_bytes(b"no PNG")
    grey = np.zeros([ball_rig.HEIGHT, ball_rig.WIDTH], np.uint8)
    Image.fromarray(grey).save(copy / "cam1" / "frame11.png")
    description = convert(copy, tmp_path / "out", skip_bad_frames=True)
    files = {entry["file"]: entry["why"] for entry in description["skipped"]}
    assert set(files) == {"cam1/frame11.png", "cam2/frame9.png", "cam3/frame8.png"}
    assert "no such file" in files["cam2/frame9.png"]
    assert "not a PNG" in files["cam3/frame8.png"] and "8-bit grey" in files["cam1/frame11.png"]
    assert description["views"] == 3 * STEPS - 3
    steps = read_records(tmp_path / "out" / "train")
    valid = np.array([step["view_valid"] for step in steps])
    assert np.argwhere(valid == 0).tolist() == [[0, 2], [1, 1], [3, 0]]
    for step, whole in zip(steps, read_records(records), strict=True):
        for view in np.nonzero(step["view_valid"])[0]:
            np.testing.assert_array_equal(step["depth"][view], whole["depth"][view])


def test_frames_of_nyus_layout_give_the_windows_of_nyus_writer(checkout, shared_data, tmp_path):
    source, part = shared_data / "nyu_like" / "test", tmp_path / "nyu" / "test"
    part.mkdir(parents=True)
    calibration = shared_data / "nyu_like" / "truth" / "rig.json"
    for index, row in enumerate((3, 140, 290), 1):
        for camera in (1, 2, 3):
            name = f"depth_{camera}_{index:07d}.png"
            shutil.copy(source / f"depth_{camera}_{row:07d}.png", part / name)
            rgb = np.asarray(Image.open(part / name)).astype(np.uint16)
            depth = rgb[..., 1] * 256 + rgb[..., 2]
            ours = tmp_path / f"cam{camera}"
            ours.mkdir(exist_ok=True)
            ball_rig.write_png(ours / f"{index}.png", np.where(depth >= 2001, 0, depth), 1.0)
    # A process of its own: two writers' flags don't go together.
    subprocess.run(
        [
            sys.executable,
            "-m",
            "data_prep.nyu_to_tfrecord",
            f"--nyu_dir={tmp_path / 'nyu'}",
            f"--output_dir={tmp_path / 'theirs'}",
            "--splits=test",
            "--labels=none",
            "--center=com",
            f"--calibration={calibration}",
            "--workers=1",
            "--nocheck_rig",
        ],
        cwd=checkout,
        check=True,
        capture_output=True,
    )
    convert(tmp_path, tmp_path / "ours", split="test", calibration=calibration, depth_unit=1.0)
    theirs = read_records(tmp_path / "theirs" / "test")
    for step, wanted in zip(read_records(tmp_path / "ours" / "test"), theirs, strict=True):
        assert wanted["view_valid"].all()
        for key in set(wanted) - {"frames", "depth"}:
            np.testing.assert_array_equal(step[key], wanted[key], key)
        for depth, other in zip(step["depth"], wanted["depth"], strict=True):
            np.testing.assert_array_equal(depth, other)
