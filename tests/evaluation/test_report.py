"""Keys, units and nulls of the figures that `evaluate --json` writes."""

import json

import numpy as np
import pytest

from dgn_tf.evaluation import report

NAMES = ["wrist", "tip"]
ERRORS = np.array([[5.0, 3.0], [20.0, 0.0], [10.0, 25.0], [60.0, 10.0]])
# What PROTOCOL fixes, written out: a reader of the JSON relies on it.
KEYS = {
    "frames",
    "mean_mm",
    "success_20",
    "success_30",
    "auc_0_50",
    "per_joint_mm",
    "subject1",
    "subject2",
    "keypoints36_mm",
    "vertices_ps_mm",
    "vertices_pr_mm",
    "surface_mm",
    "correspondence_mm",
}


def test_keys_are_those_of_the_protocol_in_all_and_in_each_subject():
    figures = report.report({"joints": ERRORS}, NAMES, subject1_frames=1)
    for part in (figures, figures["subject1"], figures["subject2"]):
        assert set(part) == KEYS == set(report.KEYS)


def test_figures_by_hand():
    figures = report.report({"joints": ERRORS, "vertices_pr_mm": np.array([1, 2, 3, 6])}, NAMES)
    assert figures["frames"] == 4
    assert figures["mean_mm"] == pytest.approx(133 / 8)
    assert figures["success_20"] == 50 and figures["success_30"] == 75
    assert figures["auc_0_50"] == pytest.approx(0.5)
    assert figures["per_joint_mm"] == {"wrist": 23.75, "tip": 9.5}
    assert figures["vertices_pr_mm"] == 3


def test_subjects_split_where_told():
    figures = report.report({"joints": ERRORS}, NAMES, subject1_frames=1)
    assert figures["subject1"]["mean_mm"] == 4 and figures["subject1"]["frames"] == 1
    assert figures["subject2"]["frames"] == 3
    few = report.report({"joints": ERRORS}, NAMES, subject1_frames=9)
    assert few["subject1"]["frames"] == 4 and few["subject2"] is None


def test_subjects_split_by_the_frames_numbers_where_frames_are_missing():
    found = {"joints": ERRORS, "index": np.array([1, 5, 6, 2])}
    figures = report.report(found, NAMES, subject1_frames=4)
    assert figures["subject1"]["frames"] == 2 and figures["subject1"]["mean_mm"] == 19.5
    assert figures["subject2"]["mean_mm"] == 13.75


def test_frames_without_any_truth_leave_null_figures_and_valid_json():
    figures = report.report({"joints": np.full([3, 2], np.nan)}, NAMES)
    json.dumps(figures, allow_nan=False)
    assert figures["frames"] == 3
    for name in ("mean_mm", "success_20", "success_30", "auc_0_50"):
        assert figures[name] is None
    assert figures["per_joint_mm"] == {"wrist": None, "tip": None}


def test_comparison_has_a_line_for_each_method_in_order():
    figures = {
        "ours": report.report({"joints": ERRORS}, NAMES, subject1_frames=1),
        "a longer name": report.report({"joints": ERRORS + 1}, NAMES),
    }
    lines = report.comparison_table(figures).splitlines()
    assert [line.split()[0] for line in lines] == ["method", "ours", "a"]
    assert "subject1, mm" in lines[0] and len({len(line) for line in lines}) == 1
    assert lines[1].split()[1:] == [
        "4",
        "16.625",
        "50.00",
        "%",
        "75.00",
        "%",
        "0.500",
        "4.000",
        "20.833",
    ]
    assert lines[2].split()[-2:] == ["-", "-"]


def test_no_truth_is_null_and_nan_frames_do_not_count():
    errors = {
        "joints": ERRORS,
        "correspondence_mm": np.array([2.0, np.nan, 4.0, np.nan]),
        "surface_mm": np.full(4, np.nan),
    }
    figures = json.loads(json.dumps(report.report(errors, NAMES), allow_nan=False))
    assert figures["correspondence_mm"] == 3
    for name in ("surface_mm", "vertices_ps_mm", "subject1", "subject2"):
        assert figures[name] is None


def test_a_prediction_that_is_not_finite_leaves_valid_json():
    errors = ERRORS.copy()
    errors[0, 0] = np.inf
    figures = report.report({"joints": errors}, NAMES)
    json.dumps(figures, allow_nan=False)
    assert figures["mean_mm"] is None and figures["success_20"] == 25
    assert "-" in report.table(figures)


def test_errors_of_the_wrong_shape_are_named():
    for wrong in (ERRORS[:0], ERRORS[:, :1]):
        with pytest.raises(ValueError, match=r"\[N, 2\]"):
            report.report({"joints": wrong}, NAMES)


def test_table_says_the_figures_with_their_units():
    figures = report.report({"joints": ERRORS}, NAMES, subject1_frames=1)
    text = report.table(figures, (12.0, 20.5))
    assert "16.62 mm" in text and "50.00 %" in text and "0.500" in text
    assert "12.00 .. 20.50" in text and "subject2" in text and "  tip" in text
