"""Errors of each frame of a data set, whatever predicts it."""

from collections.abc import Callable, Iterable

import numpy as np

from dgn_tf.metrics.correspondence import RestSurface, correspondence_errors_mm
from dgn_tf.metrics.joints import joint_errors_mm
from dgn_tf.metrics.surface import surface_distance_mm


def frame_errors(
    predict: Callable[[dict], dict[str, np.ndarray]],
    batches: Iterable[dict],
    template,
    limit: int = 0,
    surface: bool = True,
) -> dict[str, np.ndarray]:
    """Runs `predict` over `batches` and measures what both sides know.

    Args:
        predict: batch -> outputs, see `dgn_tf.evaluation.predictions`.
        batches: dicts with the crop and its truth: keypoints [B, 36, 3] and, where it is known,
            vertices [B, V, 3], face, barycentric and correspondence_mask (the record's names).
        template: HandTemplate of predictions and truth.
        limit: frames at most; 0 for all.
        surface: measure the distance of surfaces too (20 ms a frame).

    Returns:
        For `dgn_tf.metrics.report.report`: joints [N, 14] and keypoints36_mm, vertices_ps_mm,
        vertices_pr_mm, surface_mm, correspondence_mm [N], mm, as far as there is truth.
    """
    rest_surface = RestSurface(template)
    gathered: dict[str, list[np.ndarray]] = {}
    frames = 0
    for batch in batches:
        truth = {name: np.asarray(value) for name, value in batch.items()}
        outputs = predict(batch)
        count = len(truth["keypoints"])
        if limit:
            count = min(count, limit - frames)
        truth = {name: value[:count] for name, value in truth.items()}
        outputs = {name: value[:count] for name, value in outputs.items()}
        found = _batch_errors(outputs, truth, template, rest_surface, surface)
        for name, values in found.items():
            gathered.setdefault(name, []).append(values)
        frames += count
        if limit and frames >= limit:
            break
    return {name: np.concatenate(values) for name, values in gathered.items()}


def _batch_errors(outputs, truth, template, rest_surface, surface):
    keypoints = joint_errors_mm(outputs["keypoints"], truth["keypoints"])  # [B, 36]
    errors = {
        "joints": keypoints[:, template.evaluated],
        "keypoints36_mm": keypoints.mean(axis=1),
    }
    if "vertices" in truth:
        pairs = {"vertices_ps_mm": "vertices_sampled", "vertices_pr_mm": "vertices"}
        for name, output in pairs.items():
            if output in outputs:
                distances = joint_errors_mm(outputs[output], truth["vertices"])
                errors[name] = distances.mean(axis=1)
        if surface:
            errors["surface_mm"] = np.asarray(
                [
                    surface_distance_mm(
                        (predicted, template.faces, template.wrist_loop),
                        (true, template.faces, template.wrist_loop),
                    )
                    for predicted, true in zip(
                        outputs["vertices"], truth["vertices"], strict=True
                    )
                ]
            )
    if "correspondence_mask" in truth and "mesh_coords" in outputs:
        layer = None
        if template.num_layers > 1 and "mesh_layer" in outputs:
            layer = (outputs["mesh_layer"] > 0.5).astype(int)
        if template.num_layers == 1 or layer is not None:
            errors["correspondence_mm"] = correspondence_errors_mm(
                rest_surface, outputs["mesh_coords"], layer, truth["face"],
                truth["barycentric"], truth["correspondence_mask"],
            )
    return errors
