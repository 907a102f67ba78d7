"""Fits and measures a `Calibration`."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import optimize

from dgn_tf.confidence.calibration import WITHIN_MM, Calibration
from dgn_tf.metrics import calibration as metrics
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


def collect(network, batches) -> Cases:
    """Runs a network over synthetic batches, with true vertices and key points in mm."""
    kept = []

    @tf.function
    def run(inputs):
        outputs = network(inputs, training=False)
        return {**outputs, "seen": network.confidence_features(outputs, inputs)}

    for batch in batches:
        outputs = run({name: tf.constant(batch[name]) for name in NETWORK_INPUTS})
        right = [
            np.linalg.norm(outputs[name] - np.asarray(batch[name]), axis=-1) < WITHIN_MM
            for name in ("vertices", "keypoints")
        ]
        kept.append((outputs["seen"].numpy(), outputs["confidence"].numpy(), *right))
    return Cases(*(np.concatenate(parts) for parts in zip(*kept, strict=True)))


def fit(cases: Cases, neighbours: np.ndarray, weights_sha256: str) -> Calibration:
    """The most likely calibration: logistic regressions, the vertices', then the key points'.

    Args:
        cases: of `collect`.
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
    return Calibration(
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


def measure(calibration: Calibration, cases: Cases, neighbours: np.ndarray):
    """Figures and reliability curves of the calibrated and the raw confidence.

    Returns:
        what -> `metrics.summary`, and what -> `metrics.reliability`, for vertices, key points and
        the raw confidence of vertices.
    """
    found = calibration(tf.constant(cases.features), neighbours)
    pairs = {
        "vertices": (found["confidence"].numpy(), cases.vertices_right),
        "key points": (found["keypoint_confidence"].numpy(), cases.keypoints_right),
        "vertices, uncalibrated": (cases.raw, cases.vertices_right),
    }
    return (
        {name: metrics.summary(*pair) for name, pair in pairs.items()},
        {name: metrics.reliability(*pair) for name, pair in pairs.items()},
    )
