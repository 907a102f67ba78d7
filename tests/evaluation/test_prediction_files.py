"""Scoring of the field's prediction files: names, missing lines and labels, published figures."""

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.evaluation import nyu
from dgn_tf.evaluation.prediction_files import (
    name_files,
    parse_intrinsics,
    read_labels,
    score_file,
)
from dgn_tf.evaluation.report import report

NAMES = [f"joint{number}" for number in range(14)]


def labels(frames=5, seed=0):
    """[frames, 14, 3] mm, camera frame."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-60, 60, size=[frames, 14, 3]) + [10, -20, 700]


def write(path, xyz):
    nyu.write_uvd(path, nyu.uvd_from_xyz(xyz))
    return path


@pytest.mark.parametrize(
    "file, mean, at_20, at_30", [("a2j", 8.610, 70.6, 85.2), ("awr_hourglass", 7.700, 76.9, 86.5)]
)
def test_published_predictions_score_what_is_published(shared_data, file, mean, at_20, at_30):
    truth = read_labels(shared_data / "nyu" / "test_uvd_14.txt.gz")
    scored = score_file(shared_data / "nyu" / f"{file}.txt.gz", truth)
    figures = report(scored.errors, NAMES, nyu.SUBJECT1_FRAMES)
    assert f"{figures['mean_mm']:.3f}" == f"{mean:.3f}"
    assert f"{figures['success_20']:.1f}" == f"{at_20:.1f}"
    assert f"{figures['success_30']:.1f}" == f"{at_30:.1f}"
    assert figures["subject1"]["frames"] == 2440 and figures["subject2"]["frames"] == 5812
    assert scored.left_out == 0 and scored.labels_missing == 0


def test_a_displacement_in_mm_is_found_whatever_the_camera(tmp_path):
    truth = labels()
    for intrinsics in (nyu.INTRINSICS, (475.0, 470.0, 310.0, 250.0)):
        nyu.write_uvd(tmp_path / "p.txt", nyu.uvd_from_xyz(truth + [2, 3, 6], intrinsics))
        scored = score_file(tmp_path / "p.txt", nyu.uvd_from_xyz(truth, intrinsics), intrinsics)
        np.testing.assert_allclose(scored.errors["joints"], 7.0, atol=1e-5)  # mm


def test_a_frame_without_prediction_is_left_out_and_the_subjects_stay_apart(tmp_path):
    truth = labels(6)
    predicted = truth + np.array([1, 1, 1, 5, 5, 5])[:, None, None] * [0, 0, 1]
    predicted[1] = np.nan
    scored = score_file(write(tmp_path / "p.txt", predicted), nyu.uvd_from_xyz(truth))
    assert scored.left_out == 1
    figures = report(scored.errors, NAMES, subject1_frames=3)
    assert figures["frames"] == 5 and figures["subject1"]["frames"] == 2
    assert figures["subject1"]["mean_mm"] == pytest.approx(1, rel=0.05)
    assert figures["subject2"]["mean_mm"] == pytest.approx(5, rel=0.05)


def test_a_prediction_that_is_not_finite_is_a_failure_and_not_left_out(tmp_path):
    truth = labels(4)
    predicted = truth.copy()
    predicted[0, 0] = np.nan
    predicted[1, :] = np.inf
    with np.errstate(invalid="ignore"):
        scored = score_file(write(tmp_path / "p.txt", predicted), nyu.uvd_from_xyz(truth))
    figures = report(scored.errors, NAMES)
    assert scored.left_out == 0 and scored.labels_missing == 0 and figures["frames"] == 4
    assert figures["success_20"] == 50 and figures["mean_mm"] is None


def test_labels_that_are_not_known_count_nowhere(tmp_path):
    truth = labels(3)
    predicted = truth + [0, 0, 4]
    predicted[0, 5] += 500
    missing = nyu.uvd_from_xyz(truth)
    missing[0, 5] = np.nan
    scored = score_file(write(tmp_path / "p.txt", predicted), missing)
    figures = report(scored.errors, NAMES)
    assert scored.labels_missing == 1
    assert figures["success_20"] == 100 and figures["mean_mm"] == pytest.approx(4, rel=0.05)


def test_files_are_called_by_their_name_or_by_the_one_given(tmp_path):
    odd = tmp_path / "a=b.txt"
    odd.write_text("")
    assert name_files(["x/a2j.txt.gz,AWR=y/awr.txt", "z.v2.txt", str(odd)]) == {
        "a2j": "x/a2j.txt.gz",
        "AWR": "y/awr.txt",
        "z.v2": "z.v2.txt",
        "a=b": str(odd),
    }


@pytest.mark.parametrize(
    "entries, message",
    [
        (["a.txt", "x/a.txt"], "both be called a"),
        (["a.txt,"], "FILE or NAME=FILE"),
        (["=a.txt"], "FILE or NAME=FILE"),
        (["A="], "FILE or NAME=FILE"),
    ],
)
def test_names_that_say_nothing_or_the_same_twice_are_refused(entries, message):
    with pytest.raises(InputError, match=message):
        name_files(entries)


def test_intrinsics_are_nyus_or_four_numbers():
    assert parse_intrinsics("nyu") == nyu.INTRINSICS
    assert parse_intrinsics("475,476,319.5,239.5") == (475, 476, 319.5, 239.5)
    for wrong in ("", "1,2,3", "0,1,2,3", "a,b,c,d", "nan,1,2,3"):
        with pytest.raises(InputError, match="--intrinsics="):
            parse_intrinsics(wrong)


def test_another_number_of_frames_is_named_with_both(tmp_path):
    file = write(tmp_path / "p.txt", labels(4))
    with pytest.raises(InputError, match=r"p\.txt: has 4 frames, --labels have 5"):
        score_file(file, nyu.uvd_from_xyz(labels(5)))


def test_a_file_of_nan_alone_holds_no_prediction(tmp_path):
    file = tmp_path / "p.txt"
    nyu.write_uvd(file, np.full([2, 14, 3], np.nan))
    with pytest.raises(InputError, match=r"p\.txt: every value is nan"):
        score_file(file, nyu.uvd_from_xyz(labels(2)))
    with pytest.raises(InputError, match=r"--labels=.*every label is nan"):
        read_labels(file)


def test_a_label_behind_the_camera_is_named_by_its_line(tmp_path):
    uvd = nyu.uvd_from_xyz(labels(3))
    uvd[1, 2, 2] = 0.0
    nyu.write_uvd(tmp_path / "l.txt", uvd)
    with pytest.raises(InputError, match=r"l\.txt, line 2: joint 3 is .* 0; wanted"):
        read_labels(tmp_path / "l.txt")


@pytest.mark.parametrize(
    ("signs", "words"), [((1, 1, 1), "x y z in mm"), ((1, -1, 1), "x y z with y up in mm")]
)
def test_a_file_of_x_y_z_is_refused_as_what_it_is(signs, words, tmp_path):
    truth = labels()
    near = truth + np.random.default_rng(1).normal(size=truth.shape, scale=8)
    nyu.write_uvd(tmp_path / "p.txt", near * signs)
    with pytest.raises(InputError, match=f"p.txt: its numbers are {words} .*project them first"):
        score_file(tmp_path / "p.txt", nyu.uvd_from_xyz(truth))
    bad = write(tmp_path / "q.txt", truth + [150, 0, 0])  # bad, and u v d all the same
    assert score_file(bad, nyu.uvd_from_xyz(truth)).errors["joints"].mean() > 100


def test_a_byte_order_mark_is_read_over_and_another_kind_of_file_is_named(tmp_path):
    truth = labels()
    plain = write(tmp_path / "p.txt", truth)
    marked = tmp_path / "marked.txt"
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n"))
    np.testing.assert_array_equal(nyu.read_uvd(marked), nyu.read_uvd(plain))
    for name, content, kind in [
        ("utf16.txt", plain.read_text().encode("utf-16"), "UTF-16 text"),
        ("array.txt", b"\x93NUMPY\x01\0" + bytes([255] * 9), "a numpy array"),
        ("words.txt.gz", b"<html>sign in</html>", "a web page"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: can't be read .*it is {kind}"):
            nyu.read_uvd(tmp_path / name)
