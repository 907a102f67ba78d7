"""What a model says of its hand beside the numbers, and whether both make sense.

One validator for a model's files and a server's answers: names, sizes and faces index and allocate
in whatever uses them, so that nothing of them is believed.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping

import numpy as np

from dgn_tf.errors import InputError, reason
from dgn_tf.geometry.faces import checked_faces
from dgn_tf.geometry.mirror import mirror_faces
from dgn_tf.json_file import read_json
from dgn_tf.npz_file import read_arrays

_NAMES = {"keypoint_names": 512, "part_names": 256}  # at most
_SIZES = {"grid_size": 4096, "num_layers": 8}
_CUBE_MM = (10.0, 10_000.0)  # what the served model's crops may have
_MOST_VERTICES = 200_000
_MAX_ASSET_BYTES = 2**27
_FARTHEST_MM = 1e5
# Outputs of a model: their shape, and the bounds of their values. P_s of vertices that no pixel
# shows is an extrapolation, hence no bound but _FARTHEST_MM.
_POINT = (-_FARTHEST_MM, _FARTHEST_MM)
_ANY, _SHARE = (-1e6, 1e6), (-0.01, 1.01)
_OUTPUTS: dict[str, tuple[tuple, tuple[float, float]]] = {
    "vertices": (("V", 3), _POINT),
    "vertices_sampled": (("V", 3), _POINT),
    "keypoints": (("J", 3), _POINT),
    "transforms": (("P", 4, 4), _ANY),
    "joint_angles": (("P", 3), (-100.0, 100.0)),
    "confidence": (("V",), _SHARE),
    "keypoint_confidence": (("J",), _SHARE),
    "mesh_coords": (("S", "S", 2), _ANY),
    "mesh_layer": (("S", "S"), _SHARE),
    "valid": (("S", "S"), _SHARE),
    "centre": ((3,), _POINT),
    "crop_intrinsics": ((4,), (-1e9, 1e9)),
    "found": ((), _SHARE),
}
_BOOLEAN = ("valid", "found")
OUTPUT_NAMES = frozenset(_OUTPUTS)


@dataclasses.dataclass(frozen=True, eq=False)
class HandDescription:
    """What a model says of its hand beside the numbers; of `describe`, which has checked it.

    Attributes:
        info: `assets/hand.json`.
        faces: "right" and "left" to [F, 3] corners, anticlockwise as seen from outside.
    """

    info: dict
    faces: dict[str, np.ndarray]

    @property
    def vertices(self) -> int:
        """V: each of them is a corner of a face."""
        return int(self.faces["right"].max()) + 1

    def sizes(self) -> dict[str, int]:
        """V, J and P, and S where the model says it."""
        sizes = {
            "V": self.vertices,
            "J": len(self.info["keypoint_names"]),
            "P": len(self.info["part_names"]),
        }
        return {**sizes, "S": self.info["image_size"]} if "image_size" in self.info else sizes


def describe(info, right, left=None) -> HandDescription:
    """Checks a description and returns it.

    Args:
        info: what `assets/hand.json` holds, of any kind.
        right: faces of the right hand, of any kind.
        left: of the left hand; None: the mirrored ones.

    Raises:
        ValueError: what is wrong, in words.
    """
    if not isinstance(info, dict):
        raise ValueError(f"the description is a {type(info).__name__}, no object")
    for key in (*_NAMES, *_SIZES, "cube_mm", "confidence"):
        if key not in info:
            raise ValueError(f"the description has no {key}")
    for key, most in _NAMES.items():
        _check_names(key, info[key], most)
    for key, most in (*_SIZES.items(), ("image_size", 4096)):
        size = info.get(key, 1)
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= most:
            raise ValueError(f"{key} is {str(size)[:40]}, wanted a whole number of 1 to {most}")
    cube = info["cube_mm"]
    if isinstance(cube, bool) or not isinstance(cube, int | float) or not _within(cube, _CUBE_MM):
        raise ValueError(f"cube_mm is {str(cube)[:40]}, wanted {_CUBE_MM[0]:g} to {_CUBE_MM[1]:g}")
    if not isinstance(info["confidence"], str):
        raise ValueError("confidence is no text")
    right = _checked(right)
    mirrored = mirror_faces(right)
    if left is not None and not np.array_equal(left, mirrored):
        raise ValueError("the left hand's faces are not the right hand's, mirrored")
    return HandDescription(info, {"right": right, "left": mirrored})


def read_description(folder) -> HandDescription:
    """Reads the assets of the exported model's version `folder`; raises InputError."""
    assets = pathlib.Path(folder) / "assets"
    try:
        info = read_json(assets / "hand.json")
        return describe(
            info, read_arrays(assets / "mesh.npz", ["faces"], _MAX_ASSET_BYTES)["faces"]
        )
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"--saved_model {folder}: {assets} lacks the hand's names and faces or "
            f"is damaged ({reason(error)}); export the model anew."
        ) from None


def check_shapes(outputs: Mapping, description: HandDescription) -> None:
    """Checks that outputs are those of one frame of the hand that is described.

    Args:
        outputs: name to array [1, ...], or to whatever has `shape` and `dtype`.
        description: whose sizes they must have.

    Raises:
        ValueError: one is missing, or of another shape or kind; says which.
    """
    sizes = description.sizes()
    for name, (wanted, _) in _OUTPUTS.items():
        if name not in outputs:
            raise ValueError(f"it gave no {name}")
        shape = tuple(outputs[name].shape)
        if "S" in wanted and "S" not in sizes and len(shape) > 1:
            sizes["S"] = min(int(shape[1]), 4096)
        if shape != (1, *(sizes.get(size, size) for size in wanted)):
            raise ValueError(f"its {name} is {list(shape)}, wanted [1, {_shown(wanted, sizes)}]")
        if np.dtype(outputs[name].dtype) != (bool if name in _BOOLEAN else np.float32):
            raise ValueError(f"its {name} is of the type {outputs[name].dtype}")


def check_values(outputs: Mapping[str, np.ndarray]) -> None:
    """Checks that outputs, whose shapes are known to be right, hold numbers of a hand.

    Raises:
        ValueError: one is NaN, infinite or out of all bounds; says which.
    """
    for name, (_, bounds) in _OUTPUTS.items():
        values = outputs[name]
        if values.dtype != bool and not (
            _within(values.min(), bounds) and _within(values.max(), bounds)
        ):
            raise ValueError(
                f"its {name} has values that are NaN or out of {bounds[0]:g} to {bounds[1]:g}"
            )


def _shown(wanted, sizes):
    return ", ".join(str(sizes.get(size, size)) for size in wanted)


def _within(value, bounds) -> bool:
    return math.isfinite(value) and bounds[0] <= value <= bounds[1]


def _check_names(key, names, most):
    if not isinstance(names, list) or not 1 <= len(names) <= most:
        raise ValueError(f"{key} is no list of 1 to {most} names")
    if not all(isinstance(name, str) and 0 < len(name) <= 100 for name in names):
        raise ValueError(f"{key} are not all names")
    if len(set(names)) < len(names):
        raise ValueError(f"{key} names one twice")


def _checked(faces) -> np.ndarray:
    faces = checked_faces(faces, _MOST_VERTICES)
    if not 1 <= len(faces) <= 2 * _MOST_VERTICES:
        raise ValueError(f"there are {len(faces)} faces")
    # Every vertex is some face's, or faces are missing.
    corners = np.unique(faces)
    if len(corners) != corners[-1] + 1:
        raise ValueError("faces are missing: a vertex is no face's corner")
    if (faces == np.roll(faces, 1, axis=1)).any():
        raise ValueError("a face has the same corner twice")
    return np.ascontiguousarray(faces, np.int32)
