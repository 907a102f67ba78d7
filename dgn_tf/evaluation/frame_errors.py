"""Errors of each frame of a data set, whatever predicts it."""

from collections.abc import Callable, Iterable

import numpy as np

from dgn_tf.metrics.correspondence import RestSurface, correspondence_errors_mm
from dgn_tf.metrics.joints import frame_means_mm, joint_errors_mm
from dgn_tf.metrics.surface import surface_distance_mm

Mesh = tuple[np.ndarray, np.ndarray]  # faces [F, 3] and wrist loop [L]


def frame_errors(
    predict: Callable[[dict], dict[str, np.ndarray]],
    batches: Iterable[dict],
    template,
    limit: int = 0,
    surface: bool = True,
    true_mesh: Mesh | None = None,
) -> dict[str, np.ndarray]:
    """Runs `predict` over `batches` and measures what both sides know.

    Args:
        predict: batch -> outputs, see `dgn_tf.evaluation.predictions`.
        batches: dicts with the crop and its truth: keypoints [B, 36, 3] and, where it is known,
            keypoints_valid [B, 36], index [B], vertices [B, V, 3], other_vertices [B, W, 3] of
            `true_mesh`, face, barycentric and correspondence_mask (the record's names). A mesh of
            NaN is a frame without that truth.
        template: HandTemplate of predictions and truth.
        limit: frames at most; 0 for all.
        surface: measure the distance of surfaces too (20 ms a frame).
        true_mesh: faces and wrist loop of other_vertices.

    Returns:
        For `dgn_tf.metrics.report.report`: joints [N, 14] and keypoints36_mm, vertices_ps_mm,
        vertices_pr_mm, surface_mm, correspondence_mm [N], mm, as far as there is truth (NaN where
        a frame has none, infinity where the prediction is not finite); index [N] if batches have.
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
        found = _batch_errors(outputs, truth, template, rest_surface, surface, true_mesh)
        for name, values in found.items():
            gathered.setdefault(name, []).append(values)
        frames += count
        if limit and frames >= limit:
            break
    return {name: np.concatenate(values) for name, values in gathered.items()}


def _batch_errors(outputs, truth, template, rest_surface, surface, true_mesh):
    keypoints = truth["keypoints"]
    if "keypoints_valid" in truth:
        keypoints = np.where(truth["keypoints_valid"][..., np.newaxis] > 0, keypoints, np.nan)
    keypoints = joint_errors_mm(outputs["keypoints"], keypoints)  # [B, 36]
    errors = {
        "joints": keypoints[:, template.evaluated],
        "keypoints36_mm": frame_means_mm(keypoints),
    }
    if "index" in truth:
        errors["index"] = truth["index"]
    own_mesh = (template.faces, template.wrist_loop)
    if "vertices" in truth:
        pairs = {"vertices_ps_mm": "vertices_sampled", "vertices_pr_mm": "vertices"}
        for name, output in pairs.items():
            if output in outputs:
                distances = joint_errors_mm(outputs[output], truth["vertices"])
                errors[name] = frame_means_mm(distances)
        if surface:
            errors["surface_mm"] = _surface_errors(
                outputs["vertices"], own_mesh, truth["vertices"], own_mesh
            )
    elif "other_vertices" in truth and surface:
        errors["surface_mm"] = _surface_errors(
            outputs["vertices"], own_mesh, truth["other_vertices"], true_mesh
        )
    if "correspondence_mask" in truth and "mesh_coords" in outputs:
        layer = None
        if template.num_layers > 1 and "mesh_layer" in outputs:
            layer = (outputs["mesh_layer"] > 0.5).astype(int)
        if template.num_layers == 1 or layer is not None:
            errors["correspondence_mm"] = correspondence_errors_mm(
                rest_surface,
                outputs["mesh_coords"],
                layer,
                truth["face"],
                truth["barycentric"],
                truth["correspondence_mask"],
            )
    return errors


def _surface_errors(predicted, mesh, truth, true_mesh):
    """[B] mm between vertices [B, V, 3] and [B, W, 3] of two meshes; see `frame_errors`."""
    errors = np.full(len(truth), np.nan)
    for frame, (vertices, true) in enumerate(zip(predicted, truth, strict=True)):
        if np.isnan(true).any():
            continue
        errors[frame] = np.inf
        if np.isfinite(vertices).all():
            errors[frame] = surface_distance_mm((vertices, *mesh), (true, *true_mesh))
    return errors
