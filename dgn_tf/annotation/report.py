"""What became of an annotation: counts, and cameras that contradict the others."""

import numpy as np

# A camera is told where its views lie more than so many times as far off as the median of the
# other cameras', and more than so many mm: the two views' own errors explain no more.
_TIMES, _LEAST_MM = 2.0, 15.0


class Tally:
    """Sums up records, see `add`."""

    def __init__(self, cameras: tuple[int, ...]):
        self._cameras = cameras
        self._distance: list[np.ndarray] = []
        self._residual: list[np.ndarray] = []
        self._confidence: list[float] = []
        self._counts = {"records": 0, "views_annotated": 0, "views_masked": 0}

    def add(self, labels: dict) -> None:
        """Counts one record, as `schema.parse_labels` gives it."""
        self._distance.append(labels["view_distance"])
        self._residual.append(labels["pixel_distance"])
        annotated = labels["annotated"] > 0
        known = labels["keypoints_valid"].all(axis=1)
        self._confidence.extend(labels["confidence"][annotated].tolist())
        self._counts["records"] += 1
        self._counts["views_annotated"] += int(annotated.sum())
        self._counts["views_masked"] += int((annotated & ~known).sum())

    def facts(self) -> dict:
        """JSON-able: the counts, quartiles of the confidence and `residuals` of each camera.

        A camera's `view_distance_mm` is the median over the steps of how far its own estimate
        lies from the result, `pixel_distance_mm` that of its pixels; None where it has no view.
        """
        confidence = self._confidence or [0.0]
        residuals = {}
        for view, camera in enumerate(self._cameras):
            entry = {}
            for name, values in (("view", self._distance), ("pixel", self._residual)):
                own = np.stack(values)[:, view]
                own = own[own >= 0]
                entry[f"{name}_distance_mm"] = round(float(np.median(own)), 2) if len(own) else None
            entry["views"] = int(sum(values[view] >= 0 for values in self._distance))
            residuals[str(camera)] = entry
        return {
            **self._counts,
            "confidence_quartiles": [
                round(float(np.quantile(confidence, part)), 4) for part in (0.25, 0.5, 0.75)
            ],
            "residuals": residuals,
        }


def warnings(residuals: dict[str, dict]) -> list[str]:
    """Lines about cameras whose place seems wrong, from `Tally.facts`' residuals."""
    found = {
        camera: entry["view_distance_mm"]
        for camera, entry in residuals.items()
        if entry["view_distance_mm"] is not None
    }
    lines = []
    if len(found) == 2:
        (first, one), (second, other) = found.items()
        if one + other > 4 * _LEAST_MM:
            lines.append(
                f"cameras {first} and {second} contradict each other by {one + other:.0f} mm "
                "(median): the extrinsics of one seem wrong; two cameras don't tell which."
            )
    if len(found) > 2:
        for camera, distance in found.items():
            others = float(np.median([value for name, value in found.items() if name != camera]))
            if distance > max(_TIMES * others, others + _LEAST_MM):
                lines.append(
                    f"camera {camera} contradicts the others: its estimates lie {distance:.0f} mm "
                    f"(median) from the fused hand, the others' {others:.0f} mm; check its "
                    "extrinsics in the calibration."
                )
    return lines
