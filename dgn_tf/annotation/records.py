"""Annotates a split's records into a folder, shard by shard: resumable, and never half written.

A shard of the result has the name and the steps of its source's. It is written beside its place and
then renamed; description.json is written last, from the finished shards: where it lies, the folder
is complete.
"""

import hashlib
import os
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tqdm

from dgn_tf import writing
from dgn_tf.annotation import schema
from dgn_tf.errors import InputError, input_error_within, reason
from dgn_tf.json_file import write_json
from dgn_tf.records import view_schema
from dgn_tf.records.feature_scan import scan_feature
from dgn_tf.records.reader import RecordStore
from dgn_tf.records.record_folder import PLAN_FILE, claim, hand_of, is_whole
from dgn_tf.records.schema import DESCRIPTION_FILE
from dgn_tf.records.views import ViewRecords, labelled_steps

_ESTIMATES = "estimates of a network, no human labels; errors unknown, confidence uncalibrated"


def knows_rig(records: ViewRecords) -> bool:
    """Whether every step's cameras know where they stand."""
    return bool(np.all(np.array(scan_feature(records.store, "rig_known"), np.int64)))


def make_plan(records: ViewRecords, settings: dict, limit: int) -> dict:
    """What the result depends on, as JSON values: a folder with another plan is not gone on with.

    Args:
        records: the source.
        settings: of the annotation, among them the model's hash.
        limit: time steps at most, evenly spread; 0: all.
    """
    return {
        "format_version": view_schema.FORMAT_VERSION,
        "kind": view_schema.KIND,
        "source": schema.SOURCE,
        "labels_are": _ESTIMATES,
        "annotated_records": records.description.get("content_hash"),
        "annotation": settings,
        "frames": min(limit or len(records.store), len(records.store)),
    }


def write_annotated(records: ViewRecords, annotator, folder, plan: dict, batch_size: int) -> dict:
    """Writes what is missing of the result, then its description.json.

    Args:
        records: the source.
        annotator: see `annotator.Annotator`.
        folder: of the result, made if need be; not the source's.
        plan: of `make_plan`.
        batch_size: time steps at once.

    Returns:
        The description.

    Raises:
        InputError: the folder holds something else, or can't be written.
    """
    folder = pathlib.Path(folder)
    if folder.resolve() == pathlib.Path(records.folder).resolve():
        raise InputError(f"--output_dir={folder} is --records; name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with writing.alone(folder):
            claim(folder, plan)
            shards = _shards(records, plan["frames"])
            _write_missing(records, annotator, folder, shards, batch_size)
            return _describe(records, folder, plan, list(shards))
    except OSError as error:
        raise InputError(
            f"--output_dir={folder} can't be written ({writing.reason_of(error)}); make room or "
            "name another, then run again: finished shards are kept."
        ) from error


def read_annotated(folder, files: list[str]) -> Iterator[bytes]:
    """The records of an annotation's shards, in their order."""
    return iter(RecordStore([os.path.join(folder, name) for name in files], schema.WRITER))


def _shards(records, frames):
    """{file name: rows of its records} of `frames` time steps, evenly spread."""
    total = len(records.store)
    rows = labelled_steps(np.arange(total), frames / total)
    owner = records.store.owner[rows]
    return {
        os.path.basename(path): rows[owner == number]
        for number, path in enumerate(records.store.files)
        if (owner == number).any()
    }


def _write_missing(records, annotator, folder, shards, batch_size):
    missing = {
        name: rows for name, rows in shards.items() if not is_whole(folder / name, len(rows))
    }
    total = sum(map(len, shards.values()))
    bar = tqdm.tqdm(
        total=total,
        initial=total - sum(map(len, missing.values())),
        desc="annotate",
        unit="step",
        disable=None,
    )
    with bar:
        for name, rows in missing.items():
            annotated: list[bytes] = []
            for first in range(0, len(rows), batch_size):
                part = rows[first : first + batch_size]
                try:
                    annotated.extend(_annotated(records, annotator, part, batch_size))
                except tf.errors.InvalidArgumentError as error:
                    places = f"{records.store.where(part[0])} to {records.store.where(part[-1])}"
                    why = input_error_within(error) or f"{places}: {reason(error)}"
                    raise InputError(why) from None
                bar.update(len(part))
            _write_shard(folder / name, annotated)


def _write_shard(path, annotated):
    with writing.os_errors(), writing.whole_file(path) as beside:
        with tf.io.TFRecordWriter(str(beside)) as writer:
            for record in annotated:
                writer.write(record)


def _annotated(records, annotator, rows, batch_size):
    serialized = [records.store.read(row) for row in rows]
    steps: list[dict] = []
    for row, record in zip(rows, serialized, strict=True):
        steps.append({name: value.numpy() for name, value in records.parse(record, row).items()})
    # Always as many: another size is another graph, whose sums round differently, and a run that
    # goes on is to give what an unbroken one gives.
    labels = annotator(steps + steps[-1:] * (batch_size - len(steps)))
    for number, record in enumerate(serialized):
        yield schema.annotated_step(record, {name: v[number] for name, v in labels.items()})


def _describe(records, folder, plan, names):
    """Hashes and counts all records and writes description.json, which marks the end."""
    content, tally, files = hashlib.sha256(), Tally(records.cameras), []
    for name in names:
        data = (folder / name).read_bytes()
        count = 0
        for record in read_annotated(folder, [name]):
            content.update(hashlib.sha256(record).digest())
            tally.add(schema.parse_labels(record, records.keypoints))
            count += 1
        digest = hashlib.sha256(data).hexdigest()
        files.append({"name": name, "records": count, "bytes": len(data), "sha256": digest})
    source = records.description
    facts = tally.facts()
    joints = records.keypoints
    description = {
        **{key: value for key, value in source.items() if key not in ("count", "shards")},
        **plan,
        "hand": hand_of(source),
        "labels": True,
        "labels_sha256": None,
        "keypoints_valid": (facts["views_annotated"] - facts["views_masked"]) * joints,
        "keypoints_masked": facts["views_masked"] * joints,
        "centre": _centre(source["centre"], plan["annotation"]["passes"]),
        "content_hash": content.hexdigest(),
        "annotated": facts,
        "files": files,
    }
    write_json(description, folder / DESCRIPTION_FILE, "--output_dir")
    (folder / PLAN_FILE).unlink(missing_ok=True)
    return description


def _centre(before, passes):
    if passes == 1:
        return before
    return f"estimate of dgn_tf.annotate, pass {passes - 1}; first: {before}"


# What became of an annotation: counts, and cameras that contradict the others.


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
