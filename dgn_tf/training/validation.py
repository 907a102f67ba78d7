"""Errors in mm on frames that no step learns from: what chooses checkpoints."""

import numpy as np
import tensorflow as tf

from dgn_tf.network_config import NETWORK_INPUTS


def validate(network, batches) -> dict[str, float]:
    """Mean errors over `batches`, a list of example batches with targets.

    Returns:
        `keypoints_mm` (the 14 evaluated), `keypoints36_mm`, `vertices_ps_mm`,
        `vertices_pr_mm`: mean Euclidean distances, mm.
    """
    evaluated = tf.constant(network.template.evaluated)

    @tf.function(reduce_retracing=True)
    def distances(batch):
        outputs = network(batch, training=False)
        keypoints = tf.norm(outputs["keypoints"] - batch["keypoints"], axis=-1)
        return {
            "keypoints_mm": tf.reduce_mean(tf.gather(keypoints, evaluated, axis=1)),
            "keypoints36_mm": tf.reduce_mean(keypoints),
            "vertices_ps_mm": _mean_distance(outputs["vertices_sampled"], batch["vertices"]),
            "vertices_pr_mm": _mean_distance(outputs["vertices"], batch["vertices"]),
        }

    sums: dict[str, float] = {}
    frames = 0
    for batch in batches:
        count = int(batch["cube"].shape[0])
        frames += count
        for name, value in distances(batch).items():
            sums[name] = sums.get(name, 0.0) + count * float(value)
    return {name: total / frames for name, total in sums.items()}


def validate_labels(network, batches) -> dict[str, float]:
    """Mean errors of the labelled key points over `batches` of `view_dataset`.

    Returns:
        `real_keypoints_mm` (the 14 evaluated) and `real_keypoints36_mm`: mean Euclidean
        distances over the frames' valid key points, mm; NaN where there is none.
    """
    evaluated = tf.constant(network.template.evaluated)

    @tf.function(reduce_retracing=True)
    def sums(batch):
        outputs = network(batch, training=False)
        valid = batch["keypoints_valid"]
        distance = tf.norm(outputs["keypoints"] - batch["keypoints"], axis=-1) * valid
        return [
            (tf.reduce_sum(distance), tf.reduce_sum(valid)),
            (
                tf.reduce_sum(tf.gather(distance, evaluated, axis=1)),
                tf.reduce_sum(tf.gather(valid, evaluated, axis=1)),
            ),
        ]

    total = np.zeros([2, 2])
    for batch in batches:
        inputs = {name: batch[name] for name in (*NETWORK_INPUTS, "keypoints", "keypoints_valid")}
        total += np.array(tf.nest.map_structure(float, sums(inputs)))
    with np.errstate(invalid="ignore"):
        means = total[:, 0] / total[:, 1]
    return {"real_keypoints_mm": float(means[1]), "real_keypoints36_mm": float(means[0])}


def _mean_distance(points, truth):
    return tf.reduce_mean(tf.norm(points - truth, axis=-1))
