"""Errors in mm on a validation split: what chooses checkpoints."""

import tensorflow as tf


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


def _mean_distance(points, truth):
    return tf.reduce_mean(tf.norm(points - truth, axis=-1))
