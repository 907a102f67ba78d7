"""What a fit to key points came to: a table of residuals, and pictures of the hands."""

import numpy as np

from dgn_tf.geometry.kinematics import skin
from dgn_tf.visualize import tiles
from dgn_tf.visualize.panels import compose

_TILE, _CUBE_MM, _DISTANCE_MM = 300, 240.0, 1500.0


def summary(residual_mm: np.ndarray) -> dict:
    """Mean, median, 95 % and largest of residuals [...] mm, NaN left out."""
    known = residual_mm[np.isfinite(residual_mm)]
    if not known.size:
        return dict.fromkeys(("mean", "median", "p95", "max"))
    figures = (known.mean(), np.median(known), np.percentile(known, 95), known.max())
    return dict(
        zip(("mean", "median", "p95", "max"), (round(float(f), 4) for f in figures), strict=True)
    )


def residual_report(fit, labels, template) -> dict:
    """Residuals by subject and by key point, mm, and the scales; JSON-able."""
    report = {
        "template": template.name,
        "template_hash": template.hash,
        "source": labels.source,
        "status": labels.status,
        "frames": len(labels.frames),
        "fitted": int(fit.fitted.sum()),
        "all": summary(fit.residual_mm),
        "subjects": {},
        "per_keypoint": {
            name: summary(fit.residual_mm[:, j]) for j, name in enumerate(labels.names)
        },
    }
    for subject in np.unique(labels.subjects):
        own = (labels.subjects == subject) & fit.fitted
        bones = fit.bone_scales[own]
        report["subjects"][str(subject)] = {
            "frames": int(own.sum()),
            "residual": summary(fit.residual_mm[own]),
            "palm_residual": summary(fit.palm_residual_mm[own]),
            "scale": {
                name: [round(float(figure(bones[:, p])), 5) for figure in (np.mean, np.std)]
                for p, name in enumerate(template.part_names)
            }
            if own.any()
            else {},
        }
    return report


def format_report(report: dict) -> str:
    """The report as tables."""
    lines = [
        f"{report['fitted']} of {report['frames']} frames fitted; residual, mm",
        f"{'':16}{'mean':>9}{'median':>9}{'95 %':>9}{'max':>9}",
    ]

    def row(name, figures):
        if figures["mean"] is not None:
            numbers = "".join(f"{figures[key]:9.3f}" for key in ("mean", "median", "p95", "max"))
            lines.append(f"{name:16}{numbers}")

    row("all", report["all"])
    for subject, figures in report["subjects"].items():
        row(f"subject {subject}", figures["residual"])
        row("  palm alone", figures["palm_residual"])
    for name, figures in report["per_keypoint"].items():
        row(name, figures)
    for subject, figures in report["subjects"].items():
        fingers = [
            f"{part} {mean:.4f} +- {spread:.4f}"
            for part, (mean, spread) in figures["scale"].items()
            if part == "palm" or part[-1] == "2"
        ]
        lines.append(f"subject {subject}, scale of the template: " + ", ".join(fingers))
    return "\n".join(lines)


def fit_pictures(fit, labels, template, count: int = 8) -> np.ndarray:
    """Hands as fitted over their key points, from the camera and from its right.

    Half of the frames are spread over all, half are those of the largest mean residual.

    Returns:
        uint8 RGB.
    """
    rows = np.flatnonzero(fit.fitted)
    by_frame = np.full(len(fit.fitted), np.nan)
    by_frame[rows] = np.nanmean(fit.residual_mm[rows], axis=1)
    worst = rows[np.argsort(-by_frame[rows], kind="stable")[: count // 2]]
    spread = rows[np.linspace(0, len(rows) - 1, min(len(rows), count - len(worst))).astype(int)]
    pictures = []
    for row in [*spread, *worst]:
        vertices = skin(
            fit.transforms[row : row + 1].astype(np.float32),
            template.vertices,
            template.skinning_weights,
        )[0].numpy()
        keypoints = labels.keypoints[row]
        known = np.isfinite(keypoints).all(axis=-1)
        names = [name for name, there in zip(labels.names, known, strict=True) if there]
        centre = vertices.mean(axis=0)
        label = f"frame {labels.frames[row]}: {by_frame[row]:.2f} mm"
        for view, side in ((label, False), ("", True)):
            pictures.append(
                (
                    view,
                    _tile(
                        vertices - centre, keypoints[known] - centre, names, template.faces, side
                    ),
                )
            )
    return compose(pictures, columns=4, title=f"{template.name}, {labels.source[:60]}")


def _tile(vertices, keypoints, names, faces, side):
    """One hand about the origin, from the front or turned to show its right."""
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]) if side else np.eye(3)
    away = np.array([0.0, 0.0, _DISTANCE_MM])
    focal = _TILE * _DISTANCE_MM / _CUBE_MM
    camera = (focal, focal, (_TILE - 1) / 2, (_TILE - 1) / 2)
    mesh = tiles.mesh_tile(vertices @ turn.T + away, faces, camera, _TILE)
    dim = (0.7 * mesh).astype(np.uint8)
    return tiles.keypoint_tile(keypoints @ turn.T + away, names, camera, dim)
