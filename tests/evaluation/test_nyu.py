"""The field's text files, and the published figures recomputed from them."""

import gzip

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.evaluation import joints, nyu
from dgn_tf.evaluation.report import report


def test_lifting_by_hand():
    uvd = np.array([[320.0, 240.0, 500.0], [320.0 + 588.036865, 240.0 - 587.075073, 2.0]])
    np.testing.assert_allclose(nyu.xyz_from_uvd(uvd), [[0, 0, 500], [2, -2, 2]])


def test_projecting_undoes_lifting_for_one_camera_and_for_one_a_frame():
    xyz = np.random.default_rng(1).uniform(-80, 80, size=[4, 14, 3]) + [0, 0, 700]
    np.testing.assert_allclose(nyu.xyz_from_uvd(nyu.uvd_from_xyz(xyz)), xyz, atol=1e-9)
    cameras = np.array([nyu.INTRINSICS, (475.0, 470.0, 310.0, 250.0)] * 2)
    uvd = nyu.uvd_from_xyz(xyz, cameras[:, np.newaxis])
    for frame, camera in enumerate(cameras):
        np.testing.assert_allclose(nyu.xyz_from_uvd(uvd[frame], camera), xyz[frame], atol=1e-9)


@pytest.mark.parametrize("name", ["new/a.txt", "a.txt.gz"])
def test_what_is_written_is_read_again_with_nan_and_infinity(tmp_path, name):
    uvd = np.random.default_rng(2).uniform(0, 800, size=[3, 14, 3])
    uvd[1] = np.nan
    uvd[2, 3] = np.inf
    for _ in range(2):
        nyu.write_uvd(tmp_path / name, uvd)
    np.testing.assert_allclose(nyu.read_uvd(tmp_path / name), uvd, atol=1e-6)
    assert len(list((tmp_path / name).parent.iterdir())) == 1


def test_a_place_that_cant_be_written_is_named_by_its_flag(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file/a.txt", ""):
        with pytest.raises(InputError, match="--predictions_out=.*can't be written"):
            nyu.write_uvd(tmp_path / place, np.zeros([1, 14, 3]))


def test_reads_plain_and_compressed_text(tmp_path):
    line = " ".join(str(i / 2) for i in range(6))
    plain, packed = tmp_path / "a.txt", tmp_path / "a.txt.gz"
    plain.write_text(f"{line}\n{line}\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for file in (plain, packed):
        uvd = nyu.read_uvd(file, joints=2)
        assert uvd.shape == (2, 2, 3)
        assert uvd[1, 1].tolist() == [1.5, 2.0, 2.5]


@pytest.mark.parametrize(
    "text, message",
    [
        ("1 2 3\n1 2\n", "line 2: wanted 3 numbers"),
        ("", "is empty"),
        ("1 2 x\n", "could not convert"),
    ],
)
def test_a_bad_text_is_named_with_its_fault(tmp_path, text, message):
    file = tmp_path / "bad.txt"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        nyu.read_uvd(file, joints=1)
    assert str(file) in str(caught.value)


def test_a_missing_or_truncated_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="none.txt"):
        nyu.read_uvd(tmp_path / "none.txt")
    packed = gzip.compress(b"1 2 3\n" * 1000)
    (tmp_path / "cut.txt.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match="cut.txt.gz"):
        nyu.read_uvd(tmp_path / "cut.txt.gz", joints=1)


@pytest.mark.parametrize(
    "file, mean, at_20, at_30", [("a2j", 8.610, 70.6, 85.2), ("awr_hourglass", 7.700, 76.9, 86.5)]
)
def test_published_predictions_score_what_is_published(shared_data, file, mean, at_20, at_30):
    truth = nyu.xyz_from_uvd(nyu.read_uvd(shared_data / "nyu" / "test_uvd_14.txt.gz"))
    predicted = nyu.xyz_from_uvd(nyu.read_uvd(shared_data / "nyu" / f"{file}.txt.gz"))
    errors = joints.joint_errors_mm(predicted, truth)
    figures = report({"joints": errors}, [str(i) for i in range(14)], nyu.SUBJECT1_FRAMES)
    assert figures["frames"] == nyu.TEST_FRAMES
    assert figures["mean_mm"] == pytest.approx(mean, abs=5e-4)
    assert figures["success_20"] == pytest.approx(at_20, abs=0.05)
    assert figures["success_30"] == pytest.approx(at_30, abs=0.05)
    # Progress is in the unseen subject: the seen one is easier for both.
    assert figures["subject1"]["frames"] == 2440 and figures["subject2"]["frames"] == 5812
    assert figures["subject1"]["mean_mm"] < figures["subject2"]["mean_mm"]
