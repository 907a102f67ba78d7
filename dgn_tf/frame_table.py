"""All frames of a recording in one file: CSV, NPZ or Parquet, a row a frame."""

import csv
import io
from collections.abc import Sequence

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.output_files import check_ending
from dgn_tf.writing import output_file, write_output

ENDINGS = (".csv", ".npz", ".parquet")
FOUND, LOW, NO_HAND, UNREADABLE = "found", "low_confidence", "no_hand", "unreadable"


class FrameTable:
    """Rows of a recording, in its order.

    Args:
        file: what `write` makes; its ending is one of `ENDINGS`.

    Raises:
        InputError: another ending, or Parquet without pyarrow.
    """

    def __init__(self, file: str):
        self._file, self._rows = file, []  # type: str, list[tuple]
        self._ending = check_ending("table", file, ENDINGS)
        if self._ending == ".parquet":
            _parquet()

    def add(self, file, status: str, mesh=None, warnings: Sequence[str] = ()) -> None:
        """A frame: its status, and what is known of its hand where there is one."""
        self._rows.append((str(file), status, _Hand(mesh) if mesh else None, "; ".join(warnings)))

    def write(self) -> None:
        """Writes the file whole; InputError where it can't be written."""
        hands = [hand for *_, hand, _ in self._rows if hand]
        names = hands[0].names if hands else ()
        empty = _Hand(None, len(names))
        rows = [hand or empty for *_, hand, _ in self._rows]
        columns = {
            "file": [row[0] for row in self._rows],
            "status": [row[1] for row in self._rows],
            "hand": [hand.side for hand in rows],
            "confidence": np.array([hand.confidence for hand in rows], np.float32),
            "centre_mm": np.reshape([hand.centre for hand in rows], [-1, 3]).astype(np.float32),
            "keypoints_mm": np.reshape([hand.keypoints for hand in rows], [-1, len(names), 3]),
            "confidence_keypoints": np.reshape(
                [hand.keypoint_confidence for hand in rows], [-1, len(names)]
            ),
            "warnings": [row[3] for row in self._rows],
        }
        if self._ending == ".npz":
            columns["keypoint_names"] = list(names)
            columns["files"] = columns.pop("file")  # numpy's own name of an argument
            arrays = {key: np.asarray(value) for key, value in columns.items()}
            with output_file(self._file, "--table") as beside, open(beside, "wb") as out:
                np.savez_compressed(out, **arrays)
            return
        flat = _flat(columns, names)
        if self._ending == ".csv":
            write_output(self._file, _csv(flat), "--table")
            return
        arrow, parquet = _parquet()
        with output_file(self._file, "--table") as beside:
            parquet.write_table(arrow.table(flat), beside)


class _Hand:
    """What a row keeps of a mesh; nan where there is none."""

    def __init__(self, mesh, keypoints: int = 0):
        if mesh is None:
            self.side, self.confidence, self.names = "", np.nan, ()
            self.centre = np.full(3, np.nan, np.float32)
            self.keypoints = np.full([keypoints, 3], np.nan, np.float32)
            self.keypoint_confidence = np.full(keypoints, np.nan, np.float32)
            return
        self.side, self.names = mesh.hand, mesh.keypoint_names
        self.confidence = float(mesh.confidence.mean())
        self.centre, self.keypoints = mesh.centre, mesh.keypoints
        self.keypoint_confidence = mesh.keypoint_confidence


def _flat(columns: dict, names) -> dict:
    """Name -> column of one number or text a row."""
    flat = {key: columns[key] for key in ("file", "status", "hand", "confidence")}
    for axis, letter in enumerate("xyz"):
        flat[f"centre_{letter}_mm"] = columns["centre_mm"][:, axis]
    for place, name in enumerate(names):
        for axis, letter in enumerate("xyz"):
            flat[f"{name}_{letter}_mm"] = columns["keypoints_mm"][:, place, axis]
    for place, name in enumerate(names):
        flat[f"{name}_confidence"] = columns["confidence_keypoints"][:, place]
    return {**flat, "warnings": columns["warnings"]}


def _csv(flat: dict) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(flat)
    for row in zip(*flat.values(), strict=True):
        rows.writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value) -> str:
    """A number with its four useful digits behind the point; an empty cell for nan."""
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else f"{value:.4f}"


def _parquet():
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            "--table: Parquet wants pyarrow: install the extra `table`, or write .csv or .npz."
        ) from None
    return pyarrow, parquet
