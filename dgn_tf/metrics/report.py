"""From per-frame errors to the figures of `evaluate --json` and the table that it prints."""

import numpy as np

from dgn_tf.metrics import joints

# Per-frame means that `report` takes and gives under one name.
FRAME_MEANS = (
    "keypoints36_mm", "vertices_ps_mm", "vertices_pr_mm", "surface_mm", "correspondence_mm",
)
KEYS = (
    "frames", "mean_mm", "success_20", "success_30", "auc_0_50", "per_joint_mm", *FRAME_MEANS,
    "subject1", "subject2",
)


def report(errors: dict[str, np.ndarray], joint_names, subject1_frames: int | None = None) -> dict:
    """Figures of a split.

    Args:
        errors: joints [N, J] mm of the evaluated key points, and any of `FRAME_MEANS` [N] mm;
            a name left out, or NaN in every frame, is a figure without truth.
        joint_names: [J].
        subject1_frames: how many frames, from the first on, show subject 1 (NYU); None where
            subjects mean nothing.

    Returns:
        JSON-able, with the keys `KEYS`: counts, mm, `success_*` in %, `auc_0_50` in 0..1; None
        where there is no truth.
    """
    figures = _figures(errors, joint_names)
    parts: dict[str, dict | None] = {"subject1": None, "subject2": None}
    if subject1_frames is not None:
        parts["subject1"] = _part(errors, joint_names, slice(None, subject1_frames))
        parts["subject2"] = _part(errors, joint_names, slice(subject1_frames, None))
    return {**figures, **parts}


def _part(errors, joint_names, frames):
    cut = {name: values[frames] for name, values in errors.items()}
    if not len(cut["joints"]):
        return None
    return {**_figures(cut, joint_names), "subject1": None, "subject2": None}


def _figures(errors, joint_names):
    per_frame = errors["joints"]
    if per_frame.ndim != 2 or per_frame.shape[1] != len(joint_names) or not len(per_frame):
        raise ValueError(
            f"report wants joint errors [N, {len(joint_names)}] of at least one frame, got "
            f"{per_frame.shape}."
        )
    per_joint = per_frame.mean(axis=0)
    return {
        "frames": len(per_frame),
        "mean_mm": _number(per_frame.mean()),
        "success_20": joints.success_rate(per_frame, 20.0),
        "success_30": joints.success_rate(per_frame, 30.0),
        "auc_0_50": _number(joints.success_auc(per_frame)),
        "per_joint_mm": {
            name: _number(value) for name, value in zip(joint_names, per_joint, strict=True)
        },
        **{name: _mean(errors.get(name)) for name in FRAME_MEANS},
    }


def _mean(values):
    if values is None or np.isnan(values).all():
        return None
    return _number(np.nanmean(values))


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
        values = "".join(f"{_text(column[key], unit):>14}" for column in columns.values())
        lines.append(f"{title:32}{values}")
        if key == "mean_mm" and interval_mm is not None:
            low, high = interval_mm
            lines.append(f"{'  95 % interval (bootstrap)':32}  {low:.2f} .. {high:.2f}")
    lines.append("by joint, mm")
    for name in figures["per_joint_mm"]:
        values = "".join(
            f"{_text(column['per_joint_mm'][name], 'mm'):>14}" for column in columns.values()
        )
        lines.append(f"  {name:30}{values}")
    return "\n".join(lines)


def _text(value, unit):
    if value is None:
        return "-"
    if unit == "d":
        return f"{value}"
    return f"{value:.3f}" if unit == "" else f"{value:.2f} {unit}"
