"""Fits and measures a `ConfidenceModel`."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import optimize, stats

from dgn_tf.confidence.probability import WITHIN_MM, ConfidenceModel
from dgn_tf.network_config import NETWORK_INPUTS

# Of squared weights and offsets, against the mean cross entropy: a vertex's offset is learnt from
# some hundred frames only.
_PENALTY = 1e-4


class Cases(NamedTuple):
    """What is known of the points of N frames, and whether they were right."""

    features: np.ndarray  # [N, V, 14]
    raw: np.ndarray  # [N, V] uncalibrated confidence
    vertices_right: np.ndarray  # [N, V] bool
    keypoints_right: np.ndarray  # [N, J] bool


def collector(network):
    """A function that runs a network over synthetic batches, with true vertices and key points.

    It takes batches, mm, and returns their `Cases`; it is traced once for all calls.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def run(inputs):
        outputs = network(inputs, training=False)
        return {**outputs, "seen": network.confidence_features(outputs, inputs)}

    def collect(batches) -> Cases:
        kept = []
        for batch in batches:
            outputs = run({name: tf.constant(batch[name]) for name in NETWORK_INPUTS})
            right = [
                np.linalg.norm(outputs[name] - np.asarray(batch[name]), axis=-1) < WITHIN_MM
                for name in ("vertices", "keypoints")
            ]
            kept.append((outputs["seen"].numpy(), outputs["confidence"].numpy(), *right))
        return Cases(*(np.concatenate(parts) for parts in zip(*kept, strict=True)))

    return collect


def fit(cases: Cases, neighbours: np.ndarray, weights_sha256: str) -> ConfidenceModel:
    """The most likely model: logistic regressions, the vertices', then the key points'.

    Args:
        cases: of `collector`.
        neighbours: [J, V] of `keypoint_neighbours`.
        weights_sha256: of the network.
    """
    count = cases.features.shape[-1]
    flat = cases.features.reshape(-1, count).astype(np.float64)
    middle, spread = flat.mean(axis=0), flat.std(axis=0) + 1e-6
    scaled = (cases.features - middle) / spread
    weights, bias = _logistic(scaled, cases.vertices_right)
    bias = bias - (weights * middle / spread).sum()
    weights = weights / spread
    logits = cases.features @ weights + bias
    near = (logits @ neighbours.T)[..., np.newaxis]
    keypoint_weight, keypoint_bias = _logistic(near, cases.keypoints_right)
    return ConfidenceModel(
        weights.astype(np.float32),
        bias.astype(np.float32),
        float(keypoint_weight[0]),
        keypoint_bias.astype(np.float32),
        weights_sha256,
    )


def _logistic(seen, right):
    """Weights [F] and offsets [V] of seen [N, V, F] for right [N, V]."""
    right = right.astype(np.float64)
    points, count = seen.shape[1:]
    common = np.log((right.mean() + 1e-3) / (1 - right.mean() + 1e-3))

    def loss(values):
        weights, offsets = values[:count], values[count:]
        logits = seen @ weights + offsets + common
        off = 1 / (1 + np.exp(-logits)) - right
        value = np.mean(np.logaddexp(0, logits) - right * logits)
        slope = np.concatenate([np.tensordot(off, seen, 2), off.sum(axis=0)]) / off.size
        # Of offsets the mean: as many as there are points, each seen as often as the frames.
        scale = np.concatenate([np.full(count, _PENALTY), np.full(points, _PENALTY / points)])
        return value + (scale * values**2).sum(), slope + 2 * scale * values

    start = np.zeros(count + points)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return found.x[:count], found.x[count:] + common


def measure(model: ConfidenceModel, cases: Cases, neighbours: np.ndarray):
    """Figures and reliability curves of the calibrated and the raw confidence.

    Returns:
        what -> `summary`, and what -> `reliability`, for vertices, key points and
        the raw confidence of vertices.
    """
    found = model(tf.constant(cases.features), neighbours)
    pairs = {
        "vertices": (found["confidence"].numpy(), cases.vertices_right),
        "key points": (found["keypoint_confidence"].numpy(), cases.keypoints_right),
        "vertices, uncalibrated": (cases.raw, cases.vertices_right),
    }
    return (
        {name: summary(*pair) for name, pair in pairs.items()},
        {name: reliability(*pair) for name, pair in pairs.items()},
    )


# How good probabilities are: ranking, calibration, and a plot of the latter.


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
