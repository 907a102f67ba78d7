"""Multi-view records as frames to measure: one camera's views, with the true meshes if known."""

import pathlib
import re
from collections.abc import Iterator

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.evaluation import nyu
from dgn_tf.evaluation.mesh_truth import MeshTruth, columns_by_name, in_order
from dgn_tf.geometry import mirror
from dgn_tf.json_file import read_json
from dgn_tf.records.batches import Batching
from dgn_tf.records.schema import DESCRIPTION_FILE
from dgn_tf.records.view_schema import KIND, WITHOUT_LABEL
from dgn_tf.records.views import view_dataset, view_description


def find_view_records(records: str, split: str, split_asked: bool) -> pathlib.Path | None:
    """The folder of a split's multi-view records; None where `records` are of another kind.

    Args:
        records: the folder that data_prep.nyu_to_tfrecord wrote, one of its splits, or anything
            else that --records takes.
        split: name of the split.
        split_asked: the user named it, so a folder without it is an error.

    Raises:
        InputError: `records` hold other splits, or the split is unfinished.
    """
    folder = pathlib.Path(records)
    if _kind(folder) == KIND:
        own = view_description(str(folder)).get("split")
        if split_asked and own != split:
            raise InputError(f"--records={records} is the split {own}, --split={split} is wanted.")
        return folder
    if not folder.is_dir() and _kind(folder.parent) == KIND:
        raise InputError(
            f"--records={records}: multi-view records are named by their folder, "
            f"--records={folder.parent}."
        )
    if _kind(folder / split) == KIND:
        return folder / split
    splits = sorted(
        part.parent.name
        for part in folder.glob(f"*/{DESCRIPTION_FILE}")
        if _kind(part.parent) == KIND
    )
    if (folder / split).is_dir():
        raise InputError(
            f"{folder / split}: no {DESCRIPTION_FILE}, which is written when all records are; let "
            "data_prep.nyu_to_tfrecord finish."
        )
    if splits or split_asked:
        raise InputError(
            f"--records={records} has no split {split}; it has {', '.join(splits) or 'none'}. "
            "data_prep.nyu_to_tfrecord --splits writes them."
        )
    return None


class ViewFrames:
    """One camera of a split; a left hand's frames are mirrored, truth and all.

    Args:
        folder: of the split, from `find_view_records`.
        camera: number from 1; 0 for every camera in turn.
        template: HandTemplate of what is measured; key points meet by name.
        truth: true meshes, or None.

    Attributes:
        description: the records' description.json.

    Raises:
        InputError: the records lack the camera, label no evaluated key point, or don't know where
            it stood though true meshes are to be moved there.
    """

    def __init__(self, folder: pathlib.Path, camera: int, template, truth: MeshTruth | None = None):
        self.folder, self.camera, self.template = folder, camera, template
        self.description = view_description(str(folder))
        cameras = self.description["cameras"]
        if camera and camera not in cameras:
            raise InputError(
                f"{folder}: no camera {camera}; --camera is one of "
                f"{', '.join(map(str, cameras))}, or 0 for each in turn."
            )
        self._columns = columns_by_name(self.description["keypoints"], template, str(folder))
        source = (self.description.get("extrinsics") or {}).get("source", "none")
        if truth is not None and camera != 1 and source == "none":
            raise InputError(
                f"{folder}: where camera {camera} stood is not known, and --truth is in camera 1's "
                "frame; use --camera=1, or convert with labels or --calibration."
            )
        self._truth = truth
        self._truth_name = ""
        if truth is not None:
            self._truth_name = "vertices" if truth.is_of(template) else "other_vertices"

    def batches(self, batch_size: int, size: int) -> Iterator[dict[str, np.ndarray]]:
        """One pass in the records' order, crops of side `size`; see `frame_errors`."""
        dataset = view_dataset(
            str(self.folder),
            camera=self.camera,
            augment=None,
            size=size,
            batching=Batching(batch_size=batch_size, shuffle=False, repeat=False),
        )
        for batch in dataset:
            arrays = in_order({name: value.numpy() for name, value in batch.items()}, self._columns)
            if self._truth is not None:
                arrays[self._truth_name] = self._truth.vertices_mm(
                    arrays["index"], arrays["camera_from_rig"], arrays["left"]
                )
            yield arrays

    @property
    def views(self) -> int:
        """How many views there are to predict, usable or not."""
        cameras = 1 if self.camera else len(self.description["cameras"])
        return self.last_frame * cameras

    @property
    def last_frame(self) -> int:
        """Number of the split's last frame, as far as the description tells, skipped ones too.

        Frames beyond the labels don't count: the field's files have no line for them.
        """
        skipped = self.description.get("skipped") or []
        numbers = [
            re.search(r"(\d+)\.png$", entry["file"])
            for entry in skipped
            if not entry["why"].startswith(WITHOUT_LABEL)
        ]
        return max([self.description["frames"], *(int(found[1]) for found in numbers if found)])


class KeptPredictions:
    """Passes predictions on and keeps the 14 evaluated key points of each, with their labels.

    Args:
        predict: see `dgn_tf.evaluation.predictions`.
        template: HandTemplate.
    """

    def __init__(self, predict, template):
        self._predict, self._evaluated = predict, template.evaluated
        self._index: list[np.ndarray] = []
        self._uvd: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def __call__(self, batch) -> dict[str, np.ndarray]:
        outputs = self._predict(batch)
        predicted = self._uvd_in_frame(outputs["keypoints"], batch)
        # A line of nan is a frame without a prediction; this one has one, however bad.
        predicted = np.where(np.isfinite(predicted), predicted, np.inf)
        labels = self._uvd_in_frame(batch["keypoints"], batch)
        known = batch["keypoints_valid"][:, self._evaluated, np.newaxis] > 0
        self._index.append(np.asarray(batch["index"]))
        self._uvd.append(predicted)
        self._labels.append(np.where(known, labels, np.nan))
        return outputs

    def _uvd_in_frame(self, keypoints, batch):
        """[B, 14, 3] evaluated key points in the frames as the camera took them, not mirrored."""
        points = np.asarray(keypoints)[:, self._evaluated]
        intrinsics = np.array(batch["frame_intrinsics"])  # [B, 4]
        left = np.asarray(batch["left"]) > 0
        points[left] = mirror.mirror_points(points[left])
        width = np.asarray(batch["frame_width"])[left]
        intrinsics[left] = mirror.mirror_intrinsics(intrinsics[left], width)
        return nyu.uvd_from_xyz(points, intrinsics[:, np.newaxis])

    def write(self, file, frames: int, limit: int = 0) -> None:
        """Writes the field's prediction file.

        Args:
            file: see `dgn_tf.evaluation.nyu.write_uvd`.
            frames: lines at least: frame number n is line n; frames not predicted are nan.
            limit: predictions at most, from the first on; 0 for all.
        """
        nyu.write_uvd(file, self._lines(self._uvd, frames, limit))

    def write_labels(self, file, frames: int, limit: int = 0) -> None:
        """Writes the truth in the same form, for `--labels`; see `write`."""
        nyu.write_uvd(file, self._lines(self._labels, frames, limit), "--labels_out")

    def _lines(self, values, frames, limit):
        index = np.concatenate(self._index)[: limit or None]
        lines = np.full([max(frames, int(index.max())), len(self._evaluated), 3], np.nan)
        lines[index - 1] = np.concatenate(values)[: limit or None]
        return lines


def _kind(folder: pathlib.Path) -> str:
    """The description's kind; empty where there is no description that says one."""
    try:
        return str(read_json(folder / DESCRIPTION_FILE).get("kind", ""))
    except (OSError, ValueError, AttributeError):
        return ""
