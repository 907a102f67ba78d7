"""Errors in mm on frames that no step learns from: what chooses checkpoints."""

import numpy as np
import tensorflow as tf

from dgn_tf.network_config import NETWORK_INPUTS
from dgn_tf.visualize import panels, tiles


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


# Pictures of a training example for TensorBoard: what goes in, what is true, what comes out.


TILE = 160  # pixels


def training_panel(template, example: dict, outputs: dict) -> np.ndarray:
    """Depth, I_m true and predicted; P_s and P_r shaded over depth, and the true mesh.

    Args:
        template: HandTemplate of both.
        example: one example with targets, no batch axis.
        outputs: of `DualGridNet` for it, likewise.

    Returns:
        uint8 RGB, 3 tiles wide.
    """
    depth, middle = example["depth"], float(example["centre"][2])
    large = tiles.enlarge(depth, TILE)
    camera = tiles.enlarged_intrinsics(example["intrinsics"], len(depth), TILE)
    grey = tiles.depth_tile(large, middle, float(example["cube"]) / 2)

    def correspondences(source):
        layer = source.get("mesh_layer")
        picture = tiles.correspondence_tile(
            source["mesh_coords"], example["correspondence_mask"], template.grid_size, layer
        )
        return tiles.enlarge(picture, TILE)

    def mesh(vertices):
        return tiles.mesh_tile(vertices, template.faces, camera, TILE, grey, 0.7)

    return panels.compose(
        [
            ("depth", grey),
            ("I_m true", correspondences(example)),
            ("I_m predicted", correspondences(outputs)),
            ("P_s", mesh(outputs["vertices_sampled"])),
            ("P_r", mesh(outputs["vertices"])),
            ("true", mesh(example["vertices"])),
        ],
        columns=3,
    )
