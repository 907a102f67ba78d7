import numpy as np
import pytest

from dgn_tf.confidence.fitting import area_under_roc, reliability, summary


def test_area_agrees_with_counting_pairs():
    rng = np.random.default_rng(0)
    probability = rng.integers(0, 20, 200) / 20  # with ties
    truth = rng.random(200) < probability
    above = probability[truth][:, None] - probability[~truth]
    counted = ((above > 0) + 0.5 * (above == 0)).mean()
    assert area_under_roc(probability, truth) == pytest.approx(counted)
    assert area_under_roc(truth.astype(float), truth) == 1
    assert np.isnan(area_under_roc(probability, np.ones(200, bool)))


def test_probabilities_that_mean_what_they_say_have_no_calibration_error():
    rng = np.random.default_rng(1)
    probability = rng.random([300, 200])
    truth = rng.random([300, 200]) < probability
    assert summary(probability, truth)["calibration_error"] < 0.01
    rows = reliability(probability, truth)
    np.testing.assert_allclose(rows[:, 0], rows[:, 1], atol=0.02)
    assert rows[:, 2].sum() == pytest.approx(1)
    # Twice as sure as one may be: the error is that of the mean.
    off = summary(probability, rng.random([300, 200]) < probability / 2)
    assert off["calibration_error"] == pytest.approx(0.25, abs=0.01)
