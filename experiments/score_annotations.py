"""Scores what dgn_tf.annotate wrote against labels that it never saw.

    python -m experiments.score_annotations --annotations=single=DIR,fused=DIR,refined=DIR \\
        --labels=../shared/data/nyu_like/train/joint_data.mat \\
        --truth=../shared/data/nyu_like/truth/train_vertices.npz \\
        --truth_template=../shared/data/nyu_like/truth/template.npz

Errors are over the frames that every annotation has a label for, so that the lines compare.
"""

import os

import numpy as np
from absl import flags

from data_prep.nyu.labels import read_labels
from dgn_tf import errors
from dgn_tf.errors import InputError

_ANNOTATIONS = flags.DEFINE_list(
    "annotations", None, "NAME=DIR of each: folders of dgn_tf.annotate.", required=True
)
_LABELS = flags.DEFINE_string("labels", None, "True joint_data.mat.", required=True)
_TRUTH = flags.DEFINE_string(
    "truth", "", "True meshes, see --truth of dgn_tf.evaluate; empty: no surface error."
)
_TRUTH_TEMPLATE = flags.DEFINE_string("truth_template", "", "Mesh of --truth.")
_TEMPLATE = flags.DEFINE_string(
    "template", "saved_models/dgn/template.npz", "Template of the annotated vertices."
)
_CAMERA = flags.DEFINE_integer("camera", 1, "The camera whose labels are scored.", lower_bound=1)
_JSON = flags.DEFINE_string("json", "", "File for the figures; empty: none.")


def read_annotations(folder: str, camera: int) -> dict[int, dict]:
    """{index: label of a camera}: keypoints [J, 3], vertices [V, 3], confidence."""
    from dgn_tf.annotation import records, schema
    from dgn_tf.records.views import open_views

    views = open_views(folder)
    place = views.places((camera,))[0]
    names = [os.path.basename(path) for path in views.store.files]
    found = {}
    for record in records.read_annotated(folder, names):
        schema.check_example(record, folder)
        labels = schema.in_camera(schema.parse_labels(record, views.keypoints))
        if labels["annotated"][place] and labels["keypoints_valid"][place].all():
            found[int(labels["index"])] = {
                name: labels[name][place] for name in ("keypoints", "vertices", "confidence")
            }
    return found


def surface_errors(found: dict[int, dict], indices, truth, template) -> np.ndarray:
    """Distance of the labelled surface from the true one, mm, of those frames that have truth."""
    from dgn_tf.evaluation.surface import surface_distance_mm

    result = []
    for index in indices:
        true = truth.vertices_mm(np.array([index]), np.eye(4)[np.newaxis])[0]
        if np.isfinite(true).all():
            mesh = (found[index]["vertices"], template.faces, template.wrist_loop)
            result.append(surface_distance_mm(mesh, (true, truth.faces, truth.wrist_loop)))
    return np.array(result)


def figures(found: dict[int, dict], indices, true, truth, template) -> dict[str, float]:
    """Errors in mm of one annotation over frames `indices`; `true` [N, 36, 3] by index - 1."""
    from scipy.stats import spearmanr

    points = np.stack([found[index]["keypoints"] for index in indices])
    off = np.linalg.norm(points - true[np.array(indices) - 1], axis=-1)[:, template.evaluated]
    frames = off.mean(axis=1)
    confidence = np.array([found[index]["confidence"] for index in indices])
    result = {
        "frames": len(indices),
        "mean_mm": float(frames.mean()),
        "median_mm": float(np.median(frames)),
        "p90_mm": float(np.quantile(frames, 0.9)),
        "success_20mm": float((off.max(axis=1) <= 20).mean()),
        # Of confidence against error: -1 where it ranks the frames perfectly.
        "confidence_rank_correlation": float(spearmanr(confidence, frames).statistic),
        "mean_mm_of_surest_half": float(
            frames[np.argsort(-confidence)[: -(-len(frames) // 2)]].mean()
        ),
    }
    if truth is not None:
        surface = surface_errors(found, indices, truth, template)
        result |= {"surface_frames": len(surface), "surface_mean_mm": float(surface.mean())}
        result["surface_median_mm"] = float(np.median(surface))
    return result


def main(_):
    from dgn_tf.evaluation.mesh_truth import MeshTruth
    from dgn_tf.json_file import write_json
    from dgn_tf.template import HandTemplate

    if any("=" not in entry for entry in _ANNOTATIONS.value):
        raise InputError(f"--annotations={','.join(_ANNOTATIONS.value)}: wanted NAME=DIR of each.")
    if not (_CAMERA.value == 1 or not _TRUTH.value):
        raise InputError("--truth is in camera 1's frame; use --camera=1.")
    folders = dict(entry.split("=", 1) for entry in _ANNOTATIONS.value)
    found = {name: read_annotations(folder, _CAMERA.value) for name, folder in folders.items()}
    true = read_labels(_LABELS.value, (_CAMERA.value,)).xyz[_CAMERA.value - 1]
    whole = 1 + np.flatnonzero(np.isfinite(true).all(axis=(1, 2)))
    common = sorted(set(whole.tolist()).intersection(*found.values()))
    if not common:
        raise InputError("--annotations: no frame has a label in all of them and in --labels.")
    truth = MeshTruth(_TRUTH.value, _TRUTH_TEMPLATE.value) if _TRUTH.value else None
    template = HandTemplate.load(_TEMPLATE.value)
    table = {name: figures(labels, common, true, truth, template) for name, labels in found.items()}
    names = list(next(iter(table.values())))
    print(f"{'':28}" + "".join(f"{name:>12}" for name in table))
    for name in names:
        print(f"{name:28}" + "".join(f"{row[name]:12.3f}" for row in table.values()))
    if _JSON.value:
        write_json(table, _JSON.value)


if __name__ == "__main__":
    errors.run(main)
