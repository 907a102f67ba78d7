"""What `predict` and `serving_client` say of a recording, on the terminal and in its table."""

import pathlib
from collections.abc import Sequence

from dgn_tf import plausibility
from dgn_tf.errors import InputError
from dgn_tf.frame_table import FOUND, LOW, UNREADABLE

LOW_CONFIDENCE = 0.5  # mean over the vertices; below it a mesh is not to be trusted


class Seen:
    """What is said of a recording: a line a frame, a summary, a row of each table.

    Args:
        tables: of all frames, each with the `add` of a `FrameTable`.
        min_confidence: below it frames are left out.
        warnings: of the whole recording, said already: they go into each frame's files.
    """

    def __init__(self, tables: Sequence, min_confidence: float, warnings: tuple[str, ...] = ()):
        self._tables, self._least, self._warnings = tables, min_confidence, warnings
        self._left_out: list[tuple[pathlib.Path, str, str]] = []
        self._found, self._unsure = 0, 0
        self._said: set[str] = set()

    def add(self, file, frame, mesh) -> tuple[str, ...] | None:
        """Says the frame's line; its warnings, or None where --min_confidence leaves it out."""
        self._say_once(frame)
        own = (*frame.warnings, *plausibility.mesh_warnings(mesh))
        warnings = (*self._warnings, *frame.camera_warnings, *own)
        confidence = float(mesh.confidence.mean())
        low = confidence < self._least
        self._row(file, LOW if low else FOUND, mesh, warnings)
        _say(frame_line(file, mesh, own))
        if low:
            self._left_out.append((file, LOW, f"confidence {confidence:.2f}"))
            return None
        self._found += 1
        self._unsure += confidence < LOW_CONFIDENCE
        return warnings

    def leave_out(self, file, status: str, why: str, frame=None) -> None:
        """Notes a frame that has no mesh."""
        self._left_out.append((file, status, why))
        self._row(file, status, None, frame.warnings if frame else (why,))

    def check(self) -> None:
        """Refuses a recording of which nothing is left."""
        if self._found:
            return
        kinds = {status for _, status, _ in self._left_out}
        count = len(self._left_out)
        if kinds == {UNREADABLE}:
            raise InputError(f"none of the {count} frames can be read; {self._left_out[0][2]}")
        if LOW in kinds:
            raise InputError(
                f"no hand of --min_confidence={self._least:g} was found in any of the "
                f"{count} frames; lower it, or check --depth_unit and --intrinsics."
            )
        raise InputError(
            f"no hand was found in any of the {count} frames; check "
            "--depth_unit and --intrinsics, or give --center_mm."
        )

    def summarise(self, output, format: str, pictures: bool) -> None:
        """Prints the last lines: found, low confidence, skipped."""
        kinds = f".{format}, .json and .png" if pictures else f".{format} and .json"
        count = self._found + len(self._left_out)
        print(
            f"{output}: {self._found} frames, each {kinds}; of {count}: {self._found} found, "
            f"{self._unsure} of them of low confidence, {len(self._left_out)} skipped"
        )
        if self._unsure:
            print(
                f"  low confidence (below {LOW_CONFIDENCE:g}) in {self._unsure} of {self._found}: "
                "look at their pictures before you use them"
            )
        for file, _, why in self._left_out:
            print(f"  left out, {why}: {file}")

    def _say_once(self, frame) -> None:
        """What files and camera are, and what hardly can be of the camera, when it is new."""
        usual = frame.kind == "a 16-bit PNG" and frame.camera == "--intrinsics"
        if not usual:
            self._say_new(f"each file is {frame.kind}; camera: {frame.camera}")
        for warning in frame.camera_warnings:
            self._say_new(f"WARNING: {warning}")

    def _say_new(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            _say(line)

    def _row(self, file, status, mesh, warnings) -> None:
        for table in self._tables:
            table.add(file, status, mesh, warnings)


def _say(line: str) -> None:
    """Prints, above a progress bar where there is one."""
    import tqdm

    tqdm.tqdm.write(line)


def frame_line(file, mesh, warnings=()) -> str:
    """What is said of one predicted frame."""
    confidence = float(mesh.confidence.mean())
    line = f"{file}: {mesh.hand} hand at {mesh.centre[2]:.0f} mm, confidence {confidence:.2f}"
    if mesh.confidence_is.startswith("uncalibrated"):
        line += " (uncalibrated)"
    line += ", LOW" if confidence < LOW_CONFIDENCE else ""
    return "; WARNING: ".join([line, *warnings])


def picture_title(name: str, mesh) -> str:
    """The line above a picture."""
    confidence = f"mean confidence {mesh.confidence.mean():.2f}"
    if mesh.confidence_is.startswith("uncalibrated"):
        confidence += " (uncalibrated)"
    return f"{name}   {mesh.hand} hand, {confidence}"
