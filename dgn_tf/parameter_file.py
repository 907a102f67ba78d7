"""A recording's parameters in one file, JSON or NPZ: `predict` writes it, `animate` reads it."""

import json
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dgn_tf.errors import InputError
from dgn_tf.frame_table import FOUND
from dgn_tf.joint_angles import freedoms
from dgn_tf.json_file import read_json
from dgn_tf.npz_file import read_arrays
from dgn_tf.output_files import check_ending
from dgn_tf.parameters import HandParameters, hand_parameters
from dgn_tf.writing import output_file, write_output

ENDINGS = (".json", ".npz")
FORMAT, FORMAT_VERSION = "dgn_parameters", 1
_SECONDS = re.compile(r"\d{9,}\.\d+")  # a frame's name that is a time stamp, as TUM RGB-D has them

# What a file tells of itself, once.
HEADER = {
    "format": f"always {FORMAT}",
    "format_version": "of this file; it grows where a field changes its meaning",
    "template_name": "the hand model that the parameters move",
    "template_hash": "its sha256, by which `animate` knows it",
    "part_names": "P moving parts, the palm first",
    "parents": "[P] what each part hangs on; the palm on itself",
    "shape_names": "K shapes of the template; empty: it has none",
    "joint_names": "Q angles by name, such as index_mcp_flexion",
    "joint_limits_rad": "[Q, 2] lowest and highest, from the template's rest pose",
    "fields": "this description",
}
# Of each frame; all but the first five only where the frame is valid.
FRAME = {
    "frame_name": "the depth file's stem",
    "valid": "a hand was found, of --min_confidence at least; the following are there only then "
    "(NPZ: NaN elsewhere)",
    "status": "found, low_confidence, no_hand or unreadable",
    "hand": "right or left; empty where none was found",
    "time_s": "when it was taken, where the file's name tells (seconds, such as "
    "1305031102.160407.png); else missing",
    "confidence": "mean over the vertices, 0 to 1",
    "global_rotation": "[3, 3] camera_from_template of the palm (camera: x right, y down, z "
    "forward; a left hand's template is mirrored, x negated)",
    "translation_mm": "[3] where the template's origin, the wrist, is, camera frame",
    "local": "[P, 4, 4] L of Eq. 12, mm: each part's motion in its bone's frame; a similarity",
    "axis_angle": "[P, 3] rad, the rotations of L; the first is the whole hand's",
    "quaternion": "[P, 4] x, y, z, w, the same",
    "scale": "[P] of each part against its parent, of the palm against the template",
    "bone_lengths_mm": "[P] from the parent's joint to the part's own; 0 for the palm",
    "shape": "[K] coefficients of the template's shapes, standard deviations from the template, "
    "at most 2: least squares on the bones with a normal prior",
    "joint_angles_rad": "[Q] as estimated, from the template's rest pose, also beyond the limits; "
    "flexion is positive towards the palm, abduction towards the thumb, on both hands",
}
_OF_HAND = tuple(FRAME)[5:]  # of valid frames alone


class ParameterTable:
    """Parameters of a recording's hands, in its order; `add` is that of a `FrameTable`.

    Args:
        file: what `write` makes; its ending is one of `ENDINGS`.
        template: `HandTemplate` that the meshes' transforms move.
        hands: of a frame, at most; of several the files' names end in _0, _1.

    Raises:
        InputError: another ending.
    """

    def __init__(self, file: str, template, hands: int = 1):
        check_ending("parameters", file, ENDINGS)
        self._file, self._template, self._hands = file, template, hands
        self._rows: list[dict] = []

    def add(self, file, status: str, mesh=None, warnings: Sequence[str] = ()) -> None:
        """A hand of a frame, or a frame without one."""
        del warnings  # they are in the frame's own files
        stem = pathlib.Path(file).stem
        if mesh is not None and self._hands > 1:
            stem = stem.rpartition("_")[0]
        row = {
            "frame_name": stem,
            "valid": status == FOUND,
            "status": status,
            "hand": mesh.hand if mesh is not None else "",
            "time_s": float(stem) if _SECONDS.fullmatch(stem) else None,
        }
        if row["valid"]:
            row["confidence"] = float(mesh.confidence.mean())
            row |= _values(hand_parameters(mesh, self._template))
        self._rows.append(row)

    def write(self) -> None:
        """Writes the file whole; InputError where it can't be written."""
        template, moves = self._template, freedoms(self._template)
        header = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "template_name": template.name,
            "template_hash": template.hash,
            "part_names": list(template.part_names),
            "parents": template.parents.tolist(),
            "shape_names": list(template.shape_names),
            "joint_names": [move.name for move in moves],
            "joint_limits_rad": np.reshape([move.limits for move in moves], [-1, 2]).round(6),
            "fields": {**HEADER, **FRAME},
        }
        if pathlib.Path(self._file).suffix.lower() == ".json":
            write_output(self._file, _json(header, self._rows), "--parameters")
            return
        header["fields"] = json.dumps(header["fields"])
        columns = _columns(self._rows, header)
        with output_file(self._file, "--parameters") as beside, open(beside, "wb") as out:
            np.savez_compressed(out, **{k: np.asarray(v) for k, v in {**header, **columns}.items()})


def _values(found: HandParameters) -> dict[str, np.ndarray]:
    named = {"joint_angles_rad": found.joint_angles}
    return {
        name: named[name] if name in named else getattr(found, name)
        for name in _OF_HAND
        if name != "confidence"
    }


def _json(header: dict, rows: list[dict]) -> str:
    """A line for each field of the header and for each frame."""
    lines = [f" {json.dumps(key)}: {json.dumps(_plain(value))}" for key, value in header.items()]
    frames = ",\n".join(
        "  " + json.dumps({k: _plain(v) for k, v in row.items() if v is not None}, allow_nan=False)
        for row in rows
    )
    return "{\n" + ",\n".join(lines) + ',\n "frames": [\n' + frames + "\n ]\n}\n"


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.round(6).tolist()
    return round(value, 6) if isinstance(value, float) else value


def _columns(rows: list[dict], header: dict) -> dict[str, np.ndarray]:
    parts, shapes, joints = (
        len(header[name]) for name in ("part_names", "shape_names", "joint_names")
    )
    nothing = {
        "confidence": np.nan,
        "global_rotation": np.full([3, 3], np.nan),
        "translation_mm": np.full(3, np.nan),
        "local": np.full([parts, 4, 4], np.nan),
        "axis_angle": np.full([parts, 3], np.nan),
        "quaternion": np.full([parts, 4], np.nan),
        "scale": np.full(parts, np.nan),
        "bone_lengths_mm": np.full(parts, np.nan),
        "shape": np.full(shapes, np.nan),
        "joint_angles_rad": np.full(joints, np.nan),
    }
    columns = {
        name: np.array([row.get(name, none) for row in rows]) for name, none in nothing.items()
    }
    for name in ("frame_name", "valid", "status", "hand"):
        columns[name] = np.array([row[name] for row in rows])
    columns["time_s"] = np.array([np.nan if (t := row["time_s"]) is None else t for row in rows])
    return columns


class Recorded(NamedTuple):
    """What `read_parameters` returns: N hands of a recording's frames, of P parts.

    Attributes:
        file: where they are from.
        template_name, template_hash: of the template that they move.
        part_names: P.
        frame_names, hands: N each; "" is no hand.
        valid: [N] bool.
        times: [N] s, NaN where not told.
        local: [N, P, 4, 4] L of Eq. 12, similarities; the identity where not valid.
    """

    file: str
    template_name: str
    template_hash: str
    part_names: tuple[str, ...]
    frame_names: tuple[str, ...]
    hands: tuple[str, ...]
    valid: np.ndarray
    times: np.ndarray
    local: np.ndarray


def read_parameters(file: str) -> Recorded:
    """Reads what `ParameterTable` wrote; nothing in it runs.

    Raises:
        InputError: no such file, another ending, or a damaged or foreign file; names it.
    """
    ending = check_ending("input", file, ENDINGS)
    try:
        return _checked(file, _fields_of_json(file) if ending == ".json" else read_arrays(file))
    except OSError as error:
        raise InputError(f"--input={file}: cannot read ({error.strerror or error}).") from None
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        told = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"--input={file}: no parameters of dgn_tf.predict ({' '.join(told.split())[:200]})"
            "; write them anew by python -m dgn_tf.predict --parameters=FILE."
        ) from None


def _fields_of_json(file) -> dict:
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise ValueError("it has no frames")
    rows = content["frames"]
    parts = len(content["part_names"])
    columns = {name: [row[name] for row in rows] for name in ("frame_name", "hand", "valid")}
    columns["time_s"] = [row.get("time_s", np.nan) for row in rows]
    none = np.tile(np.eye(4), [parts, 1, 1])
    columns["local"] = [row["local"] if row["valid"] else none for row in rows]
    return {**content, **columns}


def _checked(file, fields) -> Recorded:
    text = {name: str(np.asarray(fields[name])) for name in ("format", "format_version")}
    if text != {"format": FORMAT, "format_version": str(FORMAT_VERSION)}:
        raise ValueError(
            f"its format is {text['format']} {text['format_version']}, wanted {FORMAT} "
            f"{FORMAT_VERSION}"
        )
    names = {name: _texts(fields[name], name) for name in ("part_names", "frame_name", "hand")}
    parts, count = len(names["part_names"]), len(names["frame_name"])
    if not count:
        raise ValueError("it holds no frame")
    valid, times = np.asarray(fields["valid"]), np.asarray(fields["time_s"], np.float64)
    local = np.array(fields["local"], np.float64)
    if valid.dtype != bool or valid.shape != (count,) or times.shape != (count,):
        raise ValueError("valid or time_s is not one for each frame")
    if len(names["hand"]) != count or local.shape != (count, parts, 4, 4):
        raise ValueError(f"local is {list(local.shape)}, wanted [{count}, {parts}, 4, 4]")
    if not {names["hand"][row] for row in np.flatnonzero(valid)} <= {"right", "left"}:
        raise ValueError("a hand is neither right nor left")
    local[~valid] = np.eye(4)
    for row in np.flatnonzero(valid):
        if not _similarities(local[row]):
            raise ValueError(f"local of {names['frame_name'][row]} are no similarities")
    return Recorded(
        file=str(file),
        template_name=str(np.asarray(fields["template_name"])),
        template_hash=str(np.asarray(fields["template_hash"])),
        part_names=names["part_names"],
        frame_names=names["frame_name"],
        hands=names["hand"],
        valid=valid,
        times=times,
        local=local,
    )


def _texts(values, name) -> tuple[str, ...]:
    values = np.asarray(values)
    if values.ndim != 1 or (values.size and values.dtype.kind != "U"):
        raise ValueError(f"{name} are no names")
    return tuple(values.tolist())


def _similarities(local: np.ndarray) -> bool:
    """Whether [P, 4, 4] are finite scales and rotations that can be taken apart."""
    if not np.isfinite(local).all() or np.abs(local).max() > 1e6:
        return False
    linear = local[:, :3, :3]
    determinant = np.linalg.det(linear)
    if (determinant < 1e-9).any():
        return False
    scale = np.cbrt(determinant)[:, None, None]
    square = np.swapaxes(linear, 1, 2) @ linear / scale**2
    return bool(np.abs(square - np.eye(3)).max() < 1e-2) and np.array_equal(
        local[:, 3], np.tile([0.0, 0, 0, 1], [len(local), 1])
    )
