"""How good probabilities are: ranking, calibration, and a plot of the latter."""

import numpy as np
from scipy import stats

BINS = 10


def area_under_roc(probability: np.ndarray, truth: np.ndarray) -> float:
    """Chance that a true case has the higher probability, ties counted half; NaN without both."""
    probability, truth = np.ravel(probability), np.ravel(truth).astype(bool)
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    ranks = stats.rankdata(probability)
    return float((ranks[truth].mean() - (positive + 1) / 2) / negative)


def reliability(probability: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Rows of (mean probability, share that is true, share of all cases) for each tenth of 0 to 1
    that has any, [at most 10, 3]."""
    probability, truth = np.ravel(probability), np.ravel(truth).astype(float)
    place = np.clip((probability * BINS).astype(int), 0, BINS - 1)
    rows = [
        (probability[place == b].mean(), truth[place == b].mean(), (place == b).mean())
        for b in range(BINS)
        if (place == b).any()
    ]
    return np.array(rows)


def summary(probability: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """auc; calibration_error: mean |probability - share true| over the tenths, by their share;
    brier: mean squared difference; base: share true."""
    rows = reliability(probability, truth)
    return {
        "auc": area_under_roc(probability, truth),
        "calibration_error": float((np.abs(rows[:, 0] - rows[:, 1]) * rows[:, 2]).sum()),
        "brier": float(np.mean((np.ravel(probability) - np.ravel(truth)) ** 2)),
        "base": float(np.mean(truth)),
    }
