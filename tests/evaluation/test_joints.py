"""Joint errors and what is made of them: cases worked by hand."""

import numpy as np
import pytest

from dgn_tf.evaluation import joints

# Four frames of two joints, mm; the largest of a frame: 5, 20, 25, 60.
ERRORS = np.array([[5.0, 3.0], [20.0, 0.0], [10.0, 25.0], [60.0, 10.0]])


def test_error_is_the_euclidean_distance():
    truth = np.zeros([1, 2, 3])
    predicted = np.array([[[3.0, 4.0, 0.0], [1.0, 2.0, 2.0]]])
    np.testing.assert_allclose(joints.joint_errors_mm(predicted, truth), [[5.0, 3.0]])


def test_error_does_not_change_under_a_common_rigid_motion():
    rng = np.random.default_rng(1)
    predicted, truth = rng.normal(size=[2, 4, 5, 3]) * 50
    rotation, _ = np.linalg.qr(rng.normal(size=[3, 3]))
    moved = joints.joint_errors_mm(predicted @ rotation + 700, truth @ rotation + 700)
    np.testing.assert_allclose(moved, joints.joint_errors_mm(predicted, truth), atol=1e-9)


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 2), (3, 4, 3)])
def test_shapes_that_do_not_fit_are_named(shape):
    with pytest.raises(ValueError, match=r"\[N, J, 3\].*\(2, 4, 3\)"):
        joints.joint_errors_mm(np.zeros(shape), np.zeros([2, 4, 3]))


@pytest.mark.parametrize(
    "threshold, share", [(4.9, 0), (5, 25), (19.9, 25), (20, 50), (25, 75), (59, 75), (60, 100)]
)
def test_a_frame_succeeds_by_its_largest_error_and_at_most_means_at_most(threshold, share):
    assert joints.success_rate(ERRORS, threshold) == share


def test_curve_is_the_success_rate_at_each_threshold():
    thresholds = np.array([0.0, 5.0, 20.0, 24.0, 25.0, 100.0])
    expected = [joints.success_rate(ERRORS, t) for t in thresholds]
    np.testing.assert_allclose(joints.success_curve(ERRORS, thresholds), expected)


def test_area_by_hand_and_by_summing_the_curve():
    # (45 + 30 + 25 + 0) / 50 / 4
    assert joints.success_auc(ERRORS) == pytest.approx(0.5)
    fine = (np.arange(50_000) + 0.5) / 1000
    assert joints.success_auc(ERRORS) == pytest.approx(
        joints.success_curve(ERRORS, fine).mean() / 100, abs=1e-4
    )


def test_a_frame_without_a_finite_prediction_is_a_failure_everywhere():
    truth = np.zeros([2, 2, 3])
    predicted = truth.copy()
    predicted[1, 0] = [np.nan, 1, np.inf]
    errors = joints.joint_errors_mm(predicted, truth)
    assert joints.mean_mm(errors) == np.inf
    assert joints.success_rate(errors, 1e9) == 50
    assert joints.success_auc(errors) == 0.5
    np.testing.assert_allclose(joints.success_curve(errors, np.array([0.0, 50.0])), [50, 50])


def test_a_key_point_without_truth_counts_nowhere():
    truth = np.zeros([3, 2, 3])
    truth[0, 1, 2] = truth[1] = np.nan
    predicted = np.full_like(truth, np.nan)
    predicted[[0, 2], 0] = [3.0, 4.0, 0.0]
    predicted[2, 1] = [0.0, 0.0, 9.0]
    errors = joints.joint_errors_mm(predicted, truth)
    np.testing.assert_array_equal(errors, [[5, np.nan], [np.nan, np.nan], [5, 9]])
    assert joints.mean_mm(errors) == pytest.approx(19 / 3)
    np.testing.assert_array_equal(joints.frame_means_mm(errors), [5, np.nan, 7])
    np.testing.assert_array_equal(joints.largest_errors_mm(errors), [5, 9])
    assert joints.success_rate(errors, 5) == 50
    np.testing.assert_allclose(joints.success_curve(errors, np.array([5.0, 9.0])), [50, 100])
    assert joints.success_auc(errors, 10) == pytest.approx(0.3)
    low, high = joints.mean_interval_mm(errors)
    assert 5 <= low < high <= 7


def test_no_truth_at_all_is_no_figure():
    errors = np.full([3, 2], np.nan)
    for figure in (joints.mean_mm, joints.success_auc):
        assert np.isnan(figure(errors))
    assert np.isnan(joints.success_rate(errors, 20))
    assert np.isnan(joints.mean_interval_mm(errors)).all()
    assert np.isnan(joints.success_curve(errors, np.array([20.0]))).all()


def test_interval_holds_the_mean_and_narrows_with_frames():
    rng = np.random.default_rng(2)
    errors = rng.gamma(2.0, 5.0, size=[1600, 14])
    widths = []
    for count in (100, 1600):
        low, high = joints.mean_interval_mm(errors[:count])
        assert low < errors[:count].mean() < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.4)
