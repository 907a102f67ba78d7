"""What a frame is like, and the errors of frames alike: the breakdown of a model's card."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.evaluation.joints import frame_means_mm, mean_interval_mm, mean_mm, success_rate
from dgn_tf.layers import SimilarityFit
from experiments.visibility import HIDDEN, hidden_share, surface_points, visibility


class Condition(NamedTuple):
    """A quantity by which frames are told apart; a bin holds values from its lower edge on."""

    title: str
    edges: tuple[float, ...]  # the last bin holds its upper edge too
    labels: tuple[str, ...]  # one fewer than edges


def _ranges(title, unit, edges):
    texts = [f"{edge:g}" for edge in edges]
    labels = [f"{low} to {high} {unit}" for low, high in zip(texts, texts[1:], strict=False)]
    labels[0] = f"below {texts[1]} {unit}"
    if math.isinf(edges[-1]):
        labels[-1] = f"{texts[-2]} {unit} and more"
    return Condition(title, tuple(edges), tuple(labels))


CONDITIONS = {
    "view_degrees": Condition(
        "Angle between the palm's normal and the way to the camera",
        (0, 45, 90, 135, 180),
        ("palm seen, 0 to 45 degrees", "45 to 90", "90 to 135", "back seen, 135 to 180"),
    ),
    "axis_degrees": Condition(
        "Angle between the palm's axis and the way to the camera",
        (0, 45, 70, 110, 135, 180),
        (
            "fingers to the camera, 0 to 45 degrees",
            "45 to 70",
            "across, 70 to 110",
            "110 to 135",
            "wrist to the camera, 135 to 180",
        ),
    ),
    "hidden_pixels": _ranges(
        "Share of the hand's own pixels that do not show it", "%", (0, 10, 25, 50, 100)
    ),
    "hidden_vertices": _ranges(
        "Share of the vertices to whose cells no pixel leads", "%", (0, 10, 20, 30, 50, 100)
    ),
    "noise_mm": _ranges(
        "Deviation of the measured depth from the true", "mm", (0, 1, 2, 4, math.inf)
    ),
    "distance_mm": _ranges("Distance", "mm", (0, 475, 650, 825, math.inf)),
    "shape_mm": _ranges(
        "Hand shape: mean distance of the vertices at rest from the template's",
        "mm",
        (0, 3, 5, 7, math.inf),
    ),
    "uniform_angles": Condition(
        "Articulation",
        (0, 0.5, 1),
        ("synergies", "uniform within the joint limits"),
    ),
}


def frame_conditions(batch: dict, template) -> dict[str, np.ndarray]:
    """What rendered frames are like, as far as their truth tells.

    Args:
        batch: records' names: depth, face, barycentric, vertices, intrinsics, palm_axis.
        template: HandTemplate that they were rendered with.

    Returns:
        The names of `CONDITIONS` but shape_mm and uniform_angles -> [B]; NaN where not known.
    """
    batch = {name: np.asarray(value) for name, value in batch.items()}
    vertices = batch["vertices"].astype(np.float64)
    to_camera = -_unit(vertices.mean(axis=1))
    found = {
        "view_degrees": _degrees(palm_normals(vertices, template), to_camera),
        "axis_degrees": _degrees(_unit(batch["palm_axis"]), to_camera),
        "distance_mm": np.linalg.norm(vertices.mean(axis=1), axis=-1),
    }
    rows: dict[str, list[float]] = {"hidden_pixels": [], "hidden_vertices": [], "noise_mm": []}
    for number, frame in enumerate(vertices):
        depth, face, barycentric = (batch[k][number] for k in ("depth", "face", "barycentric"))
        shown = visibility(template, depth, face, barycentric)
        hidden = hidden_share(template, frame, batch["intrinsics"][number], depth, face)
        rows["hidden_pixels"].append(100.0 * hidden)
        rows["hidden_vertices"].append(100.0 * float((shown == HIDDEN).mean()))
        rows["noise_mm"].append(depth_noise_mm(template, frame, depth, face, barycentric))
    return found | {name: np.array(values) for name, values in rows.items()}


def palm_normals(vertices, template) -> np.ndarray:
    """Unit normals [B, 3] that leave the palm on its inner side, of true vertices [B, V, 3] mm."""
    parents = np.asarray(template.parents)
    root = int(np.flatnonzero(parents == np.arange(len(parents)))[0])
    fit = SimilarityFit(template)(tf.constant(vertices, tf.float32)).numpy()[:, root, :3, :3]
    # A bone's y axis points to the back of the hand: a turn about x curls z into the palm.
    inwards = -np.asarray(template.bone_from_template, np.float64)[root, 1, :3]
    return _unit(fit @ inwards)


def depth_noise_mm(template, vertices, depth, face, barycentric) -> float:
    """Robust deviation (1.48 MAD) of the hand's measured depth from its surface's, mm."""
    shows = (face >= 0) & (depth > 0)
    if not shows.any():
        return float("nan")
    points = surface_points(vertices, template.faces, face[shows], barycentric[shows])
    away = depth[shows] - points[:, 2]
    return float(1.4826 * np.median(np.abs(away - np.median(away))))


def breakdown(conditions: dict, joints: np.ndarray, means: dict) -> dict[str, list[dict]]:
    """Errors of the frames in each bin of each condition.

    Args:
        conditions: names of `CONDITIONS` -> [N], NaN where not known.
        joints: [N, J] mm of the evaluated key points.
        means: name -> [N] mm, means over a frame.

    Returns:
        name -> a row for each bin that has frames, and one labelled "not known" where some are
        not: `label`, `frames`, `mean_mm`, its `interval_mm`, `success_30` in %, and those of
        `means`. Each frame is in one row of each condition.
    """
    result = {}
    for name, condition in CONDITIONS.items():
        if name not in conditions:
            continue
        values = np.asarray(conditions[name], np.float64)
        places = np.digitize(values, condition.edges[1:-1])  # NaN goes into the last
        places = np.where(np.isnan(values), len(condition.labels), places)
        rows = []
        for place, label in enumerate((*condition.labels, "not known")):
            here = places == place
            if here.any():
                rows.append(
                    {
                        "label": label,
                        "frames": int(here.sum()),
                        "mean_mm": mean_mm(joints[here]),
                        "interval_mm": list(mean_interval_mm(joints[here])),
                        "success_30": success_rate(joints[here], 30.0),
                        **{
                            key: mean_mm(column[here][:, np.newaxis])
                            for key, column in means.items()
                        },
                    }
                )
        result[name] = rows
    return result


def markdown(rows: dict[str, list[dict]]) -> str:
    """The tables of `breakdown` as one, with P_r from `vertices_pr_mm`."""
    lines = [
        "| frames with | number | 14 key points, mm | P_r, mm | all within 30 mm |",
        "|---|---|---|---|---|",
    ]
    for name, bins in rows.items():
        lines.append(f"| **{CONDITIONS[name].title}** | | | | |")
        for row in bins:
            low, high = row["interval_mm"]
            lines.append(
                f"| {row['label']} | {row['frames']} | {row['mean_mm']:.2f} "
                f"({low:.2f} .. {high:.2f}) | {row['vertices_pr_mm']:.2f} | "
                f"{row['success_30']:.1f} % |"
            )
    return "\n".join(lines)


def worst_frames(joints: np.ndarray, share: float = 0.01) -> np.ndarray:
    """The frames of largest mean error, worst first: a share of all, rounded up.

    Args:
        joints: [N, J] mm; a frame without truth is none of them.
        share: 0..1.
    """
    means = frame_means_mm(joints)
    order = np.argsort(-np.where(np.isnan(means), -np.inf, means), kind="stable")
    count = math.ceil(share * len(means) - 1e-9)
    return order[: min(count, int((~np.isnan(means)).sum()))]


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _degrees(a, b):
    return np.degrees(np.arccos(np.clip((a * b).sum(axis=-1), -1.0, 1.0)))
