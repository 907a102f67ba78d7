"""joint_data.mat and centre files: what they hold, and what is refused."""

import numpy as np
import pytest

from data_prep.multi_view import centres
from data_prep.nyu import labels
from dgn_tf.errors import InputError
from dgn_tf.evaluation.nyu import uvd_from_xyz
from tests.data_prep.nyu_folder import FRAMES, points, write_labels

CAMERAS = (1, 2, 3)


def test_labels_are_turned_to_y_down_and_checked_against_uvd(tmp_path):
    write_labels(tmp_path, points())
    found = labels.read_labels(tmp_path / "joint_data.mat", CAMERAS)
    np.testing.assert_allclose(found.xyz, points(), rtol=1e-6)
    assert found.valid.all()
    assert found.reprojection_px["3"]["max"] < 0.001
    shifted = points()
    shifted[..., 0] += 10  # about 7 px at 0.8 m
    write_labels(tmp_path, points(), joint_xyz=shifted * [1, -1, 1])
    off = labels.read_labels(tmp_path / "joint_data.mat", CAMERAS).reprojection_px["1"]
    assert 6 < off["mean"] < 9


def test_labels_of_impossible_values_or_units_are_not_believed(tmp_path):
    xyz = points()
    xyz[1, 2, 7] = 1e30
    xyz[1, 2, 8, 0] = -10_001
    write_labels(tmp_path, xyz, joint_uvd=points())
    found = labels.read_labels(tmp_path / "joint_data.mat", CAMERAS)
    assert np.argwhere(~found.valid).tolist() == [[1, 2, 7], [1, 2, 8]]
    (entry,) = labels.bad_labels(found, CAMERAS, np.arange(FRAMES))
    assert "index 3, camera 2" in entry["why"] and "beyond 10 m" in entry["why"]
    write_labels(tmp_path, points() / 1000)
    with pytest.raises(InputError, match="median depth of joint_xyz is 0.8.*, wanted mm"):
        labels.read_labels(tmp_path / "joint_data.mat", CAMERAS)


def test_uvd_of_other_frames_is_refused_by_the_camera(tmp_path):
    write_labels(tmp_path, points())
    labels.check_same_frames(labels.read_labels(tmp_path / "joint_data.mat", CAMERAS))
    write_labels(tmp_path, points(), joint_uvd=uvd_from_xyz(points(seed=1)))
    found = labels.read_labels(tmp_path / "joint_data.mat", CAMERAS)
    with pytest.raises(InputError, match="joint_uvd of camera 1 lies .* px on average"):
        labels.check_same_frames(found)


def test_the_centre_joint_is_the_palms_third_point():
    from dgn_tf.template.hand_template import nyu_keypoint_names

    assert nyu_keypoint_names()[labels.CENTRE_JOINT] == "PALM_3"


def test_points_that_are_not_numbers_in_front_of_the_camera_are_masked_and_listed(tmp_path):
    xyz = points()
    xyz[0, 1, 5] = np.nan
    xyz[0, 1, 6, 0] = np.inf
    xyz[2, 3, :, 2] *= -1
    write_labels(tmp_path, xyz, joint_uvd=points())
    found = labels.read_labels(tmp_path / "joint_data.mat", CAMERAS)
    assert np.sum(~found.valid) == 38
    listed = labels.bad_labels(found, CAMERAS, np.arange(FRAMES))
    assert [entry["why"].split(":")[0] for entry in listed] == [
        "index 2, camera 1",
        "index 4, camera 3",
    ]
    assert "F1_KNU1_B, F2_KNU3_A is" in listed[0]["why"]
    assert "and 33 more" in listed[1]["why"]
    assert labels.bad_labels(found, (2,), np.arange(FRAMES)) == []
    assert labels.bad_labels(found, CAMERAS, np.array([0, 2, 4])) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"joint_xyz": points()[..., :35, :]}, r"joint_xyz is \[3, 5, 35, 3\], wanted"),
        ({"joint_xyz": np.zeros([5, 36, 3])}, r"joint_xyz is \[5, 36, 3\]"),
        ({"joint_xyz": points()[:2], "joint_uvd": points()[:2]}, "has 2 cameras; leave 3 out"),
        ({"joint_uvd": points()[:, :4]}, r"joint_uvd is \[3, 4, 36, 3\], joint_xyz \[3, 5"),
        ({"joint_xyz": None}, "has no joint_xyz"),
        ({"joint_xyz": np.full([3, 5, 36, 3], "a")}, "wanted"),
        ({"joint_names": np.array([["A"] * 36], object)}, r"not NYU's 36 .*first other: A"),
        ({"joint_names": np.array([["F1_KNU3_A"] * 2], object)}, "joint_names are 2"),
    ],
)
def test_labels_of_another_kind_are_refused_with_their_reason(tmp_path, changed, message):
    write_labels(tmp_path, points(), **changed)
    with pytest.raises(InputError, match=message) as error:
        labels.read_labels(tmp_path / "joint_data.mat", CAMERAS)
    assert "joint_data.mat" in str(error.value) and "\n" not in str(error.value)


def test_labels_without_names_or_uvd_will_do(tmp_path):
    write_labels(tmp_path, points(), joint_names=None, joint_uvd=None)
    found = labels.read_labels(tmp_path / "joint_data.mat", CAMERAS)
    assert found.valid.all() and found.reprojection_px is None


def test_damaged_label_files_are_named(tmp_path):
    path = tmp_path / "joint_data.mat"
    write_labels(tmp_path, points())
    whole = path.read_bytes()
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"  # how HDF5 files say so
    contents = {"": "can't be read", "hello": "can't be read", "7.3": "save it .* with -v7"}
    for content, message in contents.items():
        path.write_bytes(header + bytes(400) if content == "7.3" else content.encode())
        with pytest.raises(InputError, match=f"joint_data.mat.*{message}"):
            labels.read_labels(path, CAMERAS)
    rng = np.random.default_rng(0)
    for cut in (60, 130, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="joint_data.mat"):
            labels.read_labels(path, CAMERAS)
    for _ in range(20):  # any error is an InputError; damage that zlib misses may pass
        damaged = bytearray(whole)
        for place in rng.integers(128, len(whole), size=3):
            damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            labels.read_labels(path, CAMERAS)
        except InputError as error:
            assert "joint_data.mat" in str(error)
    path.unlink()
    with pytest.raises(InputError, match="joint_data.mat: no such file"):
        labels.read_labels(path, CAMERAS)


def test_a_centre_file_is_read_with_its_invalid_lines(tmp_path):
    path = tmp_path / "center_test_refined.txt"
    path.write_text("1.5 -2 700\ninvalid invalid invalid\n0 0 1e3\n")
    found, digest = centres.read_centres(path)
    np.testing.assert_array_equal(found[[0, 2]], [[1.5, -2, 700], [0, 0, 1000]])
    assert np.isnan(found[1]).all() and len(digest) == 64


@pytest.mark.parametrize("line", ["1 2", "a b c", "1 2 nan", "1 2 -5", "", "1 2 3 4"])
def test_a_wrong_line_of_a_centre_file_is_named(tmp_path, line):
    path = tmp_path / "centres.txt"
    path.write_text(f"1 2 700\n{line}\n1 2 700\n")
    with pytest.raises(InputError, match="--center_file=.*centres.txt, line 2: wanted `x y z`"):
        centres.read_centres(path)


def test_centres_of_another_split_camera_or_frame_are_refused():
    palm = points(frames=50)[0, :, 32] + [0, 60, 0]
    centres.check_centres("c.txt", palm + 20, 50, palm)
    centres.check_centres("c.txt", palm, 50, None)
    with pytest.raises(InputError, match="c.txt: 50 lines for 51 frames"):
        centres.check_centres("c.txt", palm, 51, None)
    with pytest.raises(InputError, match="with y negated"):
        centres.check_centres("c.txt", palm * [1, -1, 1], 50, palm)
    with pytest.raises(InputError, match="wanted mm, camera frame"):
        centres.check_centres("c.txt", palm / 1000, 50, palm)


def test_one_centre_file_does_not_serve_two_cameras_or_splits():
    both = ("train", "test")
    centres.check_pattern("c_{split}_{camera}.txt", both, (1, 2))
    centres.check_pattern("c.txt", ("test",), (2,))
    assert centres.centre_file("c_{split}_{camera}.txt", "test", 2).name == "c_test_2.txt"
    with pytest.raises(InputError, match="--cameras=1,2; write {camera}"):
        centres.check_pattern("c_{split}.txt", both, (1, 2))
    with pytest.raises(InputError, match="--splits=train,test; write {split}"):
        centres.check_pattern("c.txt", both, (1,))
    with pytest.raises(InputError, match="wants --center_file"):
        centres.check_pattern("", ("test",), (1,))
