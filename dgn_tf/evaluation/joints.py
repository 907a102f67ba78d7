"""Errors of key points, and the figures that the field makes of them.

An error that is NaN stands for a key point without truth and counts nowhere; a prediction that is
not finite errs by infinity and counts as a failure.
"""

import numpy as np


def joint_errors_mm(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Euclidean distances of points; also of the vertices of one template.

    Args:
        predicted, truth: [N, J, 3] mm, one frame of reference; truth is NaN where not known.

    Returns:
        [N, J] float64 mm; NaN where the truth is not known, else infinite where the prediction
        is not finite.

    Raises:
        ValueError: the shapes differ or are not [N, J, 3].
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or predicted.ndim != 3 or predicted.shape[-1] != 3:
        raise ValueError(
            "joint_errors_mm wants two arrays of one shape [N, J, 3], got "
            f"{predicted.shape} and {truth.shape}."
        )
    with np.errstate(invalid="ignore"):  # infinity less infinity
        errors = np.linalg.norm(predicted.astype(np.float64) - truth, axis=-1)
    known = ~np.isnan(truth).any(axis=-1)
    return np.where(known, np.nan_to_num(errors, nan=np.inf, posinf=np.inf), np.nan)


def largest_errors_mm(errors_mm: np.ndarray) -> np.ndarray:
    """Largest error of each frame that has any truth: [M] mm, M <= N, of [N, J] errors."""
    known = ~np.isnan(errors_mm)
    largest = np.where(known, errors_mm, -np.inf).max(axis=1)
    return largest[known.any(axis=1)]


def frame_means_mm(errors_mm: np.ndarray) -> np.ndarray:
    """Mean error of each frame over what is known: [N] mm of [N, J]; NaN where nothing is."""
    known = ~np.isnan(errors_mm)
    counts = known.sum(axis=1)
    sums = np.where(known, errors_mm, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def mean_mm(errors_mm: np.ndarray) -> float:
    """Mean over the frames and joints that are known; NaN where none is."""
    known = errors_mm[~np.isnan(errors_mm)]
    return float(known.mean()) if known.size else float("nan")


def success_rate(errors_mm: np.ndarray, threshold_mm: float) -> float:
    """Share of frames, in %, whose largest joint error is at most `threshold_mm`.

    `errors_mm` is [N, J]; NaN where no frame has truth.
    """
    largest = largest_errors_mm(errors_mm)
    return float(100.0 * np.mean(largest <= threshold_mm)) if len(largest) else float("nan")


def success_curve(errors_mm: np.ndarray, thresholds_mm: np.ndarray) -> np.ndarray:
    """`success_rate` of [N, J] errors at each of [T] thresholds: [T], %."""
    largest = np.sort(largest_errors_mm(errors_mm))
    if not len(largest):
        return np.full(len(thresholds_mm), np.nan)
    return 100.0 * np.searchsorted(largest, thresholds_mm, side="right") / len(largest)


def success_auc(errors_mm: np.ndarray, up_to_mm: float = 50.0) -> float:
    """Area under the success curve from 0 to `up_to_mm`, relative to that of perfection: 0..1.

    Exact: a frame succeeds from its largest error on, so it adds what is left of the interval. A
    frame with an infinite error adds nothing. NaN where no frame has truth.
    """
    largest = largest_errors_mm(errors_mm)
    if not len(largest):
        return float("nan")
    return float(np.mean(np.clip(1.0 - largest / up_to_mm, 0.0, 1.0)))


def mean_interval_mm(
    errors_mm: np.ndarray, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval over frames of the mean joint error; frames taken as independent.

    `errors_mm` is [N, J]. Returns the lower and the upper end in mm; NaN where no frame has truth.
    """
    known = ~np.isnan(errors_mm)
    kept = known.any(axis=1)
    if not kept.any():
        return float("nan"), float("nan")
    counts = known[kept].sum(axis=1)
    sums = np.where(known, errors_mm, 0.0)[kept].sum(axis=1)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for number in range(resamples):  # an index matrix of 1000 x 20,000 would take 160 MB
        drawn = rng.integers(len(sums), size=len(sums))
        means[number] = sums[drawn].sum() / counts[drawn].sum()
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], method="inverted_cdf")
    return float(low), float(high)
