"""Errors of each frame of a data set, whatever predicts it."""

from collections.abc import Callable, Iterable

import numpy as np
from scipy.spatial import cKDTree

from dgn_tf.evaluation.joints import frame_means_mm, joint_errors_mm
from dgn_tf.evaluation.surface import surface_distance_mm

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
        For `dgn_tf.evaluation.report.report`: joints [N, 14] and keypoints36_mm, vertices_ps_mm,
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


# Error of per-pixel mesh coordinates, measured on the rest surface so that embeddings compare.


class RestSurface:
    """Finds the point of the template at rest that mesh coordinates stand for.

    A cell of one embedding is not as wide as a cell of another, and in some (folded) embeddings
    one pair of coordinates stands for several points; the distance in mm between two points of the
    surface at rest means the same in all. The nearest of many surface points, by mesh coordinates
    within the layer, is the answer; its spacing is about a third of an edge (1 to 2 mm).

    Args:
        template: HandTemplate with the embedding in use. Faces on its seams are not sampled.
        subdivisions: pieces that an edge of a face is divided into.
    """

    def __init__(self, template, subdivisions: int = 3):
        self._vertices = np.asarray(template.vertices, np.float64)
        self._faces = np.asarray(template.faces)
        weights = _barycentric_grid(subdivisions)  # [S, 3]
        kept = ~np.asarray(template.face_is_seam, bool)
        points = weights @ self._vertices[self._faces[kept]]  # [F, S, 3]
        coords = weights @ np.asarray(template.face_coords, np.float64)[kept]  # [F, S, 2]
        layers = np.asarray(template.face_layer)[kept]
        self._points, self._trees = {}, {}
        for layer in np.unique(layers):
            here = layers == layer
            self._points[layer] = points[here].reshape(-1, 3)
            self._trees[layer] = cKDTree(coords[here].reshape(-1, 2))

    def at_coords(self, coords: np.ndarray, layer: np.ndarray | None = None) -> np.ndarray:
        """The rest points of mesh coordinates.

        Args:
            coords: [N, 2] column and row, cells.
            layer: [N] layer of each; None where the template has one.

        Returns:
            [N, 3] mm, template at rest; NaN where the coordinates are not finite.
        """
        coords = np.asarray(coords, np.float64)
        layer = np.zeros(len(coords), int) if layer is None else np.asarray(layer)
        result = np.full([len(coords), 3], np.nan)
        finite = np.isfinite(coords).all(axis=1)
        for number, tree in self._trees.items():
            here = finite & (layer == number)
            if here.any():
                result[here] = self._points[number][tree.query(coords[here])[1]]
        return result

    def at_faces(self, face: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
        """Rest points [N, 3] mm of faces [N] and their corners' weights [N, 2] (1 and 2)."""
        first, second, third = np.moveaxis(self._vertices[self._faces[face]], -2, 0)
        u, v = np.moveaxis(np.asarray(barycentric, np.float64)[..., np.newaxis], -2, 0)
        return (1.0 - u - v) * first + u * second + v * third


def correspondence_errors_mm(
    surface: RestSurface,
    coords: np.ndarray,
    layer: np.ndarray | None,
    face: np.ndarray,
    barycentric: np.ndarray,
    mask: np.ndarray,
) -> np.ndarray:
    """Mean distance at rest between predicted and true surface points, for each frame.

    Args:
        surface: of the template whose faces the records name.
        coords: [N, S, S, 2] predicted mesh coordinates, cells.
        layer: [N, S, S] predicted layer (a number, not a probability), or None.
        face: [N, S, S] true face.
        barycentric: [N, S, S, 2] weights of the true face's corners 1 and 2.
        mask: [N, S, S] bool, the pixels that count.

    Returns:
        [N] mm; NaN for a frame without such pixels.
    """
    mask = np.asarray(mask, bool)
    found = surface.at_coords(coords[mask], None if layer is None else layer[mask])
    true = surface.at_faces(face[mask], barycentric[mask])
    distances = np.linalg.norm(found - true, axis=-1)
    frame = np.nonzero(mask)[0]
    counts = np.bincount(frame, minlength=len(mask))
    sums = np.bincount(frame, distances, minlength=len(mask))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _barycentric_grid(n: int) -> np.ndarray:
    """[(n + 1)(n + 2) / 2, 3] weights of a triangle's corners, evenly spread."""
    steps = [(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]
    return np.asarray(steps, np.float64) / n
