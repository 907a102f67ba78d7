"""Errors of key points, and the figures that the field makes of them."""

import numpy as np


def joint_errors_mm(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Euclidean distances of points; also of the vertices of one template.

    Args:
        predicted, truth: [N, J, 3] mm, one frame of reference.

    Returns:
        [N, J] float64 mm.

    Raises:
        ValueError: the shapes differ or are not [N, J, 3].
    """
    predicted, truth = np.asarray(predicted), np.asarray(truth)
    if predicted.shape != truth.shape or predicted.ndim != 3 or predicted.shape[-1] != 3:
        raise ValueError(
            "joint_errors_mm wants two arrays of one shape [N, J, 3], got "
            f"{predicted.shape} and {truth.shape}."
        )
    return np.linalg.norm(predicted.astype(np.float64) - truth, axis=-1)


def success_rate(errors_mm: np.ndarray, threshold_mm: float) -> float:
    """Share of frames, in %, whose largest joint error is at most `threshold_mm`.

    `errors_mm` is [N, J]; a frame with an error that is not finite is no success.
    """
    return float(100.0 * np.mean(np.max(errors_mm, axis=1) <= threshold_mm))


def success_curve(errors_mm: np.ndarray, thresholds_mm: np.ndarray) -> np.ndarray:
    """`success_rate` of [N, J] errors at each of [T] thresholds: [T], %."""
    largest = np.sort(np.max(errors_mm, axis=1))
    return 100.0 * np.searchsorted(largest, thresholds_mm, side="right") / len(largest)


def success_auc(errors_mm: np.ndarray, up_to_mm: float = 50.0) -> float:
    """Area under the success curve from 0 to `up_to_mm`, relative to that of perfection: 0..1.

    Exact: a frame succeeds from its largest error on, so it adds what is left of the interval. A
    frame with an error that is not finite adds nothing.
    """
    largest = np.nan_to_num(np.max(errors_mm, axis=1), nan=np.inf)
    return float(np.mean(np.clip(1.0 - largest / up_to_mm, 0.0, 1.0)))


def mean_interval_mm(
    errors_mm: np.ndarray, confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval over frames of the mean joint error; frames taken as independent.

    `errors_mm` is [N, J]. Returns the lower and the upper end in mm.
    """
    frames = errors_mm.mean(axis=1)
    rng = np.random.default_rng(seed)
    # One resample at a time: an index matrix of 1000 x 20,000 would take 160 MB.
    means = [frames[rng.integers(len(frames), size=len(frames))].mean() for _ in range(resamples)]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)
