"""The converter: every frame and joint accounted for, the same bytes always, modes of centres."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
from PIL import Image

from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import uvd_from_xyz
from tests.data_prep import nyu_folder
from tests.data_prep.nyu_folder import contents, read_records

FRAMES = nyu_folder.FRAMES


def check_against_source(nyu, split, steps, tolerance_px, tolerance_mm):
    """Key points on the PNG's uvd, windows equal to the frame, one rig."""
    mat = scipy.io.loadmat(str(nyu / split / "joint_data.mat"))
    for step in steps:
        row = step["index"] - 1
        in_rig = []
        for view, camera in enumerate(step["cameras"]):
            uvd = uvd_from_xyz(step["keypoints"][view], step["intrinsics"][view])
            truth = mat["joint_uvd"][camera - 1, row]
            np.testing.assert_allclose(uvd[:, :2], truth[:, :2], atol=tolerance_px)
            np.testing.assert_allclose(uvd[:, 2], truth[:, 2], atol=tolerance_mm)
            np.testing.assert_array_equal(step["centre"][view], step["keypoints"][view, 32])
            frame = np.asarray(Image.open(nyu / step["frames"][view].decode())).astype(int)
            frame = frame[..., 1] * 256 + frame[..., 2]
            frame[frame >= 2001] = 0
            left, top, width, height = step["window"][view]
            part = frame[top : top + height, left : left + width]
            np.testing.assert_array_equal(step["depth"][view], part)
            transform = step["camera_from_rig"][view].astype(np.float64)
            in_rig.append((step["keypoints"][view] - transform[:3, 3]) @ transform[:3, :3])
        assert np.linalg.norm(np.diff(in_rig, axis=0), axis=-1).max() < 0.5


def test_every_frame_and_joint_arrives_where_the_data_set_has_it(nyu, records):
    steps = read_records(records)
    assert [step["index"] for step in steps] == list(range(1, FRAMES + 1))
    for step in steps:
        assert step["view_valid"].all() and step["keypoints_valid"].all()
        assert step["rig_known"] == 1 and step["cube"] == 300 and step["depth_unit"] == 1
        names = [f"test/depth_{c}_{step['index']:07d}.png" for c in (1, 2, 3)]
        assert [name.decode() for name in step["frames"]] == names
        np.testing.assert_allclose(step["camera_from_rig"], nyu_folder.rig(), atol=2e-3)
    check_against_source(nyu, "test", steps, 0.1, 0.1)


def test_missing_pixels_are_background_and_nothing_else(records):
    for step in read_records(records):
        for depth in step["depth"]:
            assert depth.max() < 2001
            assert np.mean(depth == 0) > 0.3  # outside of the disc


def test_real_layout_frames_convert_exactly(convert, shared_data, tmp_path):
    # Twelve frames from all over the stand-in, renumbered.
    source, part = shared_data / "nyu_like" / "test", tmp_path / "nyu" / "test"
    part.mkdir(parents=True)
    mat = scipy.io.loadmat(str(source / "joint_data.mat"))
    rows = np.linspace(0, mat["joint_xyz"].shape[1] - 1, 12).astype(int)
    kept = {name: mat[name][:, rows] for name in ("joint_xyz", "joint_uvd")}
    scipy.io.savemat(part / "joint_data.mat", {**kept, "joint_names": mat["joint_names"]})
    for index, row in enumerate(rows, 1):
        for camera in (1, 2, 3):
            name = f"depth_{camera}_{row + 1:07d}.png"
            (part / f"depth_{camera}_{index:07d}.png").symlink_to(source / name)
    description = convert(tmp_path / "nyu", tmp_path / "out")
    assert description["views"] == 36 and description["keypoints_valid"] == 36 * 36
    steps = read_records(tmp_path / "out" / "test")
    check_against_source(tmp_path / "nyu", "test", steps, 0.1, 0.1)
    rig = json.loads((shared_data / "nyu_like" / "truth" / "rig.json").read_text())
    found = list(description["extrinsics"]["camera_from_rig"].values())
    np.testing.assert_allclose(found, rig["camera_from_camera1"], atol=0.01)
    assert max(r["max"] for r in description["extrinsics"]["residual_mm"].values()) < 0.01


def test_the_description_counts_names_and_hashes(records):
    description = json.loads((records / "description.json").read_text())
    assert description["kind"] == "views" and description["split"] == "test"
    assert description["frames"] == FRAMES and description["views"] == 3 * FRAMES
    assert description["keypoints_valid"] == 3 * FRAMES * 36
    assert description["keypoints_masked"] == 0 and len(description["keypoints"]) == 36
    assert "oracle" in description["centre"] and description["labels"] is True
    assert description["skipped"] == [] and description["without_hand"] == []
    assert description["subject1_frames"] is None  # NYU's own test split alone
    assert description["extrinsics"]["source"] == "labels"
    assert description["extrinsics"]["residual_mm"]["2"]["max"] < 0.01
    assert sum(file["records"] for file in description["files"]) == FRAMES
    assert {file["name"] for file in description["files"]} == {
        path.name for path in records.glob("*.tfrecord")
    }


def test_any_number_of_workers_writes_the_same_bytes(convert, nyu, records, tmp_path):
    convert(nyu, tmp_path, workers=3)
    assert contents(tmp_path / "test") == contents(records)
    other = convert(nyu, tmp_path / "one", steps_per_shard=100)
    assert (
        other["content_hash"] == json.loads(contents(records)["description.json"])["content_hash"]
    )


DEADLY = """
import os, signal, sys
from data_prep.multi_view.steps import Steps
from data_prep.multi_view.record_set import ViewWriting
from data_prep.nyu_to_tfrecord import convert_split

def encode(steps, number, whole=Steps.encode):
    if number == 4:  # the second record of the last shard
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(steps, number)

Steps.encode = encode
convert_split(sys.argv[1], sys.argv[2], "test", writing=ViewWriting(workers=1, steps_per_shard=2))
"""


def test_a_run_killed_in_the_middle_goes_on_and_ends_with_the_same_bytes(
    convert, checkout, nyu, records, tmp_path
):
    killed = subprocess.run(
        [sys.executable, "-c", DEADLY, nyu, tmp_path], cwd=checkout, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "test"
    names = [f"nyu-0000{shard}-of-00003.tfrecord" for shard in range(3)]
    beside = f".{names[2].removesuffix('.tfrecord')}.writing.tfrecord"
    assert set(contents(folder)) == {*names[:2], beside, "plan.json"}
    times = [(folder / name).stat().st_mtime_ns for name in names[:2]]
    convert(nyu, tmp_path)
    assert contents(folder) == contents(records)
    assert [(folder / name).stat().st_mtime_ns for name in names[:2]] == times  # kept


def test_without_labels_nothing_of_them_is_stored(convert, copy, tmp_path):
    kept = convert(copy, tmp_path / "none", use_labels="extrinsics")
    assert kept["labels"] is False and "oracle" in kept["centre"]
    (copy / "test" / "joint_data.mat").unlink()
    bare = convert(copy, tmp_path / "bare", center="com")
    assert bare["labels"] is False and bare["centre"] == "com"
    assert bare["extrinsics"] == {
        "source": "none",
        "residual_mm": None,
        "camera_from_rig": {str(c): np.eye(4).tolist() for c in (1, 2, 3)},
    }
    for folder, rig_known in (("none", 1), ("bare", 0)):
        for step in read_records(tmp_path / folder / "test"):
            assert not step["keypoints_valid"].any() and not step["keypoints"].any()
            assert step["rig_known"] == rig_known and step["view_valid"].all()


def test_blob_centres_find_the_hand_without_labels(convert, nyu, tmp_path):
    description = convert(nyu, tmp_path, center="com")
    assert description["views"] == 3 * FRAMES
    for step in read_records(tmp_path / "test"):
        off = np.linalg.norm(step["centre"] - step["keypoints"][:, 32], axis=-1)
        assert off.max() < 30  # the disc's middle, mm


def test_centres_come_from_a_file_for_each_camera(convert, nyu, tmp_path):
    given = nyu_folder.points(FRAMES, 1)[:, :, 32] + 5.0
    for camera in (1, 3):
        lines = [f"{x:.3f} {y:.3f} {z:.3f}" for x, y, z in given[camera - 1]]
        lines[2] = "invalid invalid invalid" if camera == 3 else lines[2]
        (tmp_path / f"test_{camera}.txt").write_text("\n".join(lines) + "\n")
    pattern = str(tmp_path / "{split}_{camera}.txt")
    description = convert(nyu, tmp_path, cameras=(1, 3), center="file", center_file=pattern)
    assert description["centre"] == "file:{split}_{camera}.txt"
    assert [entry["file"] for entry in description["without_hand"]] == ["test/depth_3_0000003.png"]
    steps = read_records(tmp_path / "test", cameras=2)
    for row, step in enumerate(steps):
        expected = given[[0, 2], row] * step["view_valid"][:, None]
        np.testing.assert_allclose(step["centre"], expected, atol=1e-3)
    assert steps[2]["view_valid"].tolist() == [1, 0]


def test_a_view_that_sees_no_hand_is_told_and_is_no_error(convert, copy, tmp_path):
    empty = np.full([480, 640], 2001)
    nyu_folder.write_frame(copy / "test" / "depth_3_0000002.png", empty)
    description = convert(copy, tmp_path / "out")
    assert [entry["file"] for entry in description["without_hand"]] == ["test/depth_3_0000002.png"]
    assert description["skipped"] == [] and description["views"] == 3 * FRAMES - 1


def test_a_calibration_replaces_the_rig_of_the_labels(convert, nyu, tmp_path):
    fx, fy, cx, cy = 590.0, 589.0, 321.0, 239.0
    calibration = {
        "intrinsics": {"fx": fx, "fy": fy, "cx": cx, "cy": cy},
        "camera_from_camera1": nyu_folder.rig().tolist(),
    }
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(calibration))
    description = convert(nyu, tmp_path / "out", calibration=str(path), cameras=(1, 3))
    assert description["extrinsics"]["source"] == "calibration"
    assert set(description["extrinsics"]["residual_mm"]) == {"3"}
    for step in read_records(tmp_path / "out" / "test", cameras=2):
        np.testing.assert_allclose(step["intrinsics"], [[fx, fy, cx, cy]] * 2)
        np.testing.assert_allclose(step["camera_from_rig"], nyu_folder.rig()[[0, 2]], rtol=1e-6)


def test_windows_hold_every_pixel_that_the_square_touches_and_end_at_the_frame():
    from data_prep.multi_view.steps import window_around

    intrinsics, shape = np.array([500.0, 400.0, 320.0, 240.0]), (480, 640)

    def window(x, z):
        return window_around(np.array([x, 0.0, z]), 300.0, intrinsics, shape)

    # 300 mm at 1 m are 150 x 120 px: 245 to 395, 180 to 300, both ends touched.
    assert window(0.0, 1000.0) == (245, 180, 151, 121)
    assert window(-300.0, 500.0) == (0, 120, 171, 241)  # -130 to 170, cut
    assert window(3000.0, 500.0)[2] == 0


def test_labels_none_does_not_open_them(convert, copy, tmp_path):
    (copy / "test" / "joint_data.mat").write_bytes(b"no MATLAB file")
    with pytest.raises(InputError, match="--labels=none doesn't open them.*--center=localiser"):
        convert(copy, tmp_path / "none", use_labels="none")
    bare = convert(copy, tmp_path / "bare", center="com", use_labels="none")
    assert bare["labels"] is False and bare["extrinsics"]["source"] == "none"
    with pytest.raises(InputError, match="joint_data.mat: can't be read"):
        convert(copy, tmp_path / "rig", center="com", use_labels="extrinsics")
