"""From per-frame errors to the figures of `evaluate --json` and the table that it prints."""

import numpy as np

from dgn_tf.evaluation import joints

# Per-frame means that `report` takes and gives under one name.
FRAME_MEANS = (
    "keypoints36_mm",
    "vertices_ps_mm",
    "vertices_pr_mm",
    "surface_mm",
    "correspondence_mm",
)
KEYS = (
    "frames",
    "mean_mm",
    "success_20",
    "success_30",
    "auc_0_50",
    "per_joint_mm",
    *FRAME_MEANS,
    "subject1",
    "subject2",
)


def report(errors: dict[str, np.ndarray], joint_names, subject1_frames: int | None = None) -> dict:
    """Figures of a split.

    Args:
        errors: joints [N, J] mm of the evaluated key points, and any of `FRAME_MEANS` [N] mm;
            a name left out, or NaN in every frame, is a figure without truth. With index [N], the
            frames' numbers in the split (from 1), frames may be missing or come in any order.
        joint_names: [J].
        subject1_frames: how many frames of the split, from the first on, show subject 1 (NYU);
            None where subjects mean nothing.

    Returns:
        JSON-able, with the keys `KEYS`: counts, mm, `success_*` in %, `auc_0_50` in 0..1; None
        where there is no truth, and for a mean over a prediction that is not finite.
    """
    figures = _figures(errors, joint_names)
    parts: dict[str, dict | None] = {"subject1": None, "subject2": None}
    if subject1_frames is not None:
        index = errors.get("index", np.arange(1, len(errors["joints"]) + 1))
        parts["subject1"] = _part(errors, joint_names, index <= subject1_frames)
        parts["subject2"] = _part(errors, joint_names, index > subject1_frames)
    return {**figures, **parts}


def _part(errors, joint_names, frames):
    if not frames.any():
        return None
    cut = {name: values[frames] for name, values in errors.items()}
    return {**_figures(cut, joint_names), "subject1": None, "subject2": None}


def _figures(errors, joint_names):
    per_frame = errors["joints"]
    if per_frame.ndim != 2 or per_frame.shape[1] != len(joint_names) or not len(per_frame):
        raise ValueError(
            f"report wants joint errors [N, {len(joint_names)}] of at least one frame, got "
            f"{per_frame.shape}."
        )
    return {
        "frames": len(per_frame),
        "mean_mm": _number(joints.mean_mm(per_frame)),
        "success_20": _number(joints.success_rate(per_frame, 20.0)),
        "success_30": _number(joints.success_rate(per_frame, 30.0)),
        "auc_0_50": _number(joints.success_auc(per_frame)),
        "per_joint_mm": {
            name: _number(joints.mean_mm(per_frame[:, number]))
            for number, name in enumerate(joint_names)
        },
        **{name: _mean(errors.get(name)) for name in FRAME_MEANS},
    }


def _mean(values):
    return None if values is None else _number(joints.mean_mm(values))


def _number(value):
    """JSON knows neither NaN nor infinity."""
    return float(value) if np.isfinite(value) else None


def table(figures: dict, interval_mm: tuple[float, float] | None = None) -> str:
    """The figures of `report` as lines to print; `interval_mm` is that of the mean."""
    columns = {"all": figures}
    columns |= {name: figures[name] for name in ("subject1", "subject2") if figures.get(name)}
    rows = [
        ("frames", "frames", "d"),
        ("14 key points, mean", "mean_mm", "mm"),
        ("largest error at most 20 mm", "success_20", "%"),
        ("largest error at most 30 mm", "success_30", "%"),
        ("area under that curve, 0..50 mm", "auc_0_50", ""),
        ("36 key points, mean", "keypoints36_mm", "mm"),
        ("vertices as sampled, P_s", "vertices_ps_mm", "mm"),
        ("vertices refined, P_r", "vertices_pr_mm", "mm"),
        ("surface, P_r", "surface_mm", "mm"),
        ("correspondence, at rest", "correspondence_mm", "mm"),
    ]
    lines = []
    if len(columns) > 1:
        lines.append(f"{'':32}" + "".join(f"{name:>14}" for name in columns))
    for title, key, unit in rows:
        if key in FRAME_MEANS and all(column[key] is None for column in columns.values()):
            continue
        values = "".join(f"{_text(column[key], unit):>14}" for column in columns.values())
        lines.append(f"{title:32}{values}")
        if key == "mean_mm" and interval_mm is not None and np.isfinite(interval_mm).all():
            low, high = interval_mm
            lines.append(f"{'  95 % interval (bootstrap)':32}  {low:.2f} .. {high:.2f}")
    lines.append("by joint, mm")
    for name in figures["per_joint_mm"]:
        values = "".join(
            f"{_text(column['per_joint_mm'][name], 'mm'):>14}" for column in columns.values()
        )
        lines.append(f"  {name:30}{values}")
    return "\n".join(lines)


def comparison_table(figures: dict[str, dict]) -> str:
    """Several methods' figures of `report`, a line each, in the order given (as Table 2 is)."""
    rows = [
        ("frames", "frames", "d"),
        ("mean, mm", "mean_mm", ""),
        ("<= 20 mm", "success_20", "%"),
        ("<= 30 mm", "success_30", "%"),
        ("area 0..50", "auc_0_50", ""),
    ]
    subjects = [part for part in ("subject1", "subject2") if any(f[part] for f in figures.values())]
    width = max(len("method"), *map(len, figures))
    head = [title for title, _, _ in rows] + [f"{part}, mm" for part in subjects]
    lines = [f"{'method':{width}}" + "".join(f"{title:>14}" for title in head)]
    for label, found in figures.items():
        texts = [_text(found[key], unit) for _, key, unit in rows]
        texts += [_text((found[part] or {}).get("mean_mm"), "") for part in subjects]
        lines.append(f"{label:{width}}" + "".join(f"{text:>14}" for text in texts))
    return "\n".join(lines)


def _text(value, unit):
    if value is None:
        return "-"
    if unit == "d":
        return f"{value}"
    return f"{value:.3f}" if unit == "" else f"{value:.2f} {unit}"
