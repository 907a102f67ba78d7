"""What the converter does with bad input, full disks and other runs: one line that names it."""

import fcntl
import os
import resource
import shutil

import numpy as np
import pytest
from PIL import Image

from dgn_tf.errors import InputError
from tests.data_prep import nyu_folder
from tests.data_prep.nyu_folder import contents, read_records

FRAMES = nyu_folder.FRAMES


def test_a_full_disk_leaves_whole_shards_alone_and_says_what_to_do(convert, nyu, records, tmp_path):
    # A limit on a file's size is what a test can do of a full disk: the same write fails.
    sizes = sorted(path.stat().st_size for path in records.glob("*.tfrecord"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((sizes[0] + sizes[1]) // 2, before[1]))
    try:
        with pytest.raises(InputError, match="test: cannot be written .*make room") as error:
            convert(nyu, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value)
    assert set(contents(tmp_path / "test")) == {"nyu-00000-of-00003.tfrecord", "plan.json"}
    convert(nyu, tmp_path)
    assert contents(tmp_path / "test") == contents(records)


def test_an_interrupt_says_how_to_go_on(convert, nyu, tmp_path, monkeypatch):
    from data_prep import sharded_records

    def interrupt(futures):
        next(iter(futures)).result()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sharded_records.concurrent.futures, "as_completed", interrupt)
        with pytest.raises(InputError, match="out/test: interrupted; run the same command again"):
            convert(nyu, tmp_path / "out")
    left = sorted(path.name for path in (tmp_path / "out" / "test").iterdir())
    assert "plan.json" in left and left[0].endswith(".tfrecord")
    assert not any("writing" in name for name in left)


def test_an_unreadable_frame_in_the_middle_is_named_and_finished_shards_kept(
    convert, copy, records, tmp_path
):
    bad = copy / "test" / "depth_2_0000004.png"
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="depth_2_0000004.png .*--skip_bad_frames") as error:
        convert(copy, tmp_path / "out")
    assert "\n" not in str(error.value)
    left = sorted(path.name for path in (tmp_path / "out" / "test").iterdir())
    assert left == [f"nyu-0000{shard}-of-00003.tfrecord" for shard in (0, 1)] + ["plan.json"]
    bad.write_bytes(whole)
    convert(copy, tmp_path / "out")
    assert contents(tmp_path / "out" / "test") == contents(records)


def test_bad_frames_are_skipped_counted_and_listed(convert, copy, records, tmp_path):
    folder = copy / "test"
    (folder / "depth_2_0000004.png").write_bytes(b"no PNG")
    (folder / "depth_1_0000002.png").unlink()
    shutil.copy(folder / "depth_3_0000001.png", folder / f"depth_3_{FRAMES + 1:07d}.png")
    Image.fromarray(np.zeros([10, 10, 3], np.uint8)).save(folder / "depth_3_0000005.png")
    xyz = nyu_folder.points(FRAMES, 1)
    xyz[2, 0, 7] = np.nan
    nyu_folder.write_labels(folder, xyz)
    description = convert(copy, tmp_path / "out", skip_bad_frames=True)
    files = {entry["file"]: entry["why"] for entry in description["skipped"]}
    assert set(files) == {
        "test/joint_data.mat",
        "test/depth_2_0000004.png",
        "test/depth_1_0000002.png",
        "test/depth_3_0000005.png",
        f"test/depth_3_{FRAMES + 1:07d}.png",
    }
    assert "index 1, camera 3" in files["test/joint_data.mat"]
    assert "not a PNG" in files["test/depth_2_0000004.png"]
    assert "no such file" in files["test/depth_1_0000002.png"]
    assert "10 x 10 pixels" in files["test/depth_3_0000005.png"]
    assert "without label" in files[f"test/depth_3_{FRAMES + 1:07d}.png"]
    assert description["views"] == 3 * FRAMES - 3
    assert description["keypoints_masked"] == 1
    steps = read_records(tmp_path / "out" / "test")
    valid = np.array([step["view_valid"] for step in steps])
    assert np.argwhere(valid == 0).tolist() == [[1, 0], [3, 1], [4, 2]]
    for row, view in np.argwhere(valid == 0):
        step = steps[row]
        assert not step["centre"][view].any() and step["depth"][view].tolist() == [[0]]
        assert step["keypoints_valid"][view].all()  # the label is there, its frame is not
    assert steps[0]["keypoints_valid"].sum() == 107
    assert not steps[0]["keypoints"][2, 7].any()
    # The whole views are as they are without bad frames.
    for step, whole in zip(steps, read_records(records), strict=True):
        for view in np.nonzero(step["view_valid"])[0]:
            np.testing.assert_array_equal(step["depth"][view], whole["depth"][view])
            np.testing.assert_array_equal(step["window"][view], whole["window"][view])
    # Again, from the finished set: nothing is lost.
    again = convert(copy, tmp_path / "out", skip_bad_frames=True)
    assert again["skipped"] == description["skipped"]


def _remove_camera(folder):
    for path in folder.glob("depth_2_*.png"):
        path.unlink()


def _remove_frame(folder):
    (folder / "depth_3_0000002.png").unlink()


def _add_frame(folder):
    shutil.copy(folder / "depth_1_0000001.png", folder / "depth_1_0000099.png")


def _nan(folder):
    xyz = nyu_folder.points()
    xyz[1, 2, 3] = np.nan
    nyu_folder.write_labels(folder, xyz)


def _other_shape(folder):
    nyu_folder.write_labels(folder, nyu_folder.points()[:, :, :21])


def _no_labels(folder):
    (folder / "joint_data.mat").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove_camera, r"test: no frame of camera 2 .*--cameras \(there are \[1, 3\]\)"),
        (_remove_frame, "depth_3_0000002.png: no such file, but a label.*--skip_bad_frames"),
        (_add_frame, "depth_1_0000099.png: a frame without label: joint_data.mat has 5 frames"),
        (_nan, "joint_data.mat: index 3, camera 2: joint_xyz of F1_KNU2_B is NaN.*--skip_bad"),
        (_other_shape, r"joint_data.mat: joint_xyz is \[3, 5, 21, 3\]"),
        (_no_labels, "joint_data.mat: no such file.*--center=joint.*--center=localiser"),
        (shutil.rmtree, "test: can't be listed .No such file.*--nyu_dir.*--splits"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(convert, copy, tmp_path, spoil, message):
    spoil(copy / "test")
    with pytest.raises(InputError, match=message) as error:
        convert(copy, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_another_runs_records_are_refused(convert, nyu, records, tmp_path):
    before = contents(records)
    for settings, what in (
        ({"cameras": (1, 2)}, "cameras"),
        ({"cube_mm": 250.0}, "cube_mm"),
        ({"use_labels": "extrinsics"}, "labels"),
        ({"center": "com"}, "centre"),
    ):
        with pytest.raises(InputError, match=f"other records .*{what}.*another --output_dir"):
            convert(nyu, records.parent, **settings)
    assert contents(records) == before
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "x.tfrecord").write_bytes(b"")
    with pytest.raises(InputError, match="x.tfrecord: records of unknown origin"):
        convert(nyu, tmp_path)


def test_two_runs_do_not_write_one_folder(convert, nyu, tmp_path):
    (tmp_path / "test").mkdir()
    handle = os.open(tmp_path / "test", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(InputError, match="another run is writing there"):
        convert(nyu, tmp_path)
    os.close(handle)
    convert(nyu, tmp_path)


def test_changed_labels_are_not_mixed_into_records_of_others(convert, copy, tmp_path):
    convert(copy, tmp_path / "out")
    nyu_folder.write_labels(copy / "test", nyu_folder.points(FRAMES, 1) + 1)
    with pytest.raises(InputError, match="other records .labels_sha256 differ"):
        convert(copy, tmp_path / "out")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--cameras=0,1", "--cameras=0,1: wanted different numbers"),
        ("--cameras=1,1", "--cameras=1,1"),
        ("--cameras=a", "--cameras=a"),
        ("--splits=val", "--splits=val: wanted train, test"),
        ("--center=file", "wants --center_file"),
        ("--center_file=x.txt", "add --center=file"),
    ],
)
def test_wrong_flags_are_named(argument, message, tmp_path):
    from absl import flags

    from data_prep import nyu_to_tfrecord

    flags.FLAGS(["x", f"--nyu_dir={tmp_path}", f"--output_dir={tmp_path}", argument])
    with pytest.raises(InputError, match=message):
        nyu_to_tfrecord.main([])
