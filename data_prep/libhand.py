"""Reads the paper's mesh, LibHand's right hand of 1721 vertices, from `right_hand.pkl`."""

import pathlib

import numpy as np

from data_prep import hand_parts, mesh_repair, restricted_pickle
from data_prep.source_hand import SourceHand
from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json
from dgn_tf.template import nyu_keypoint_names

# The file has no unit. 58 makes an adult's hand of it (92 mm from wrist to little finger's knuckle
# joint); NYU's first subject was labelled at 57.986, the second at about 48.3.
MM_PER_UNIT = 58.0
MARKERS = "nyu_markers.json"  # Is looked for beside the mesh.
LICENCE = "CC BY 3.0 (LibHand, Marin Saric)"
SOURCE = "LibHand's right hand, 1721 vertices (right_hand.pkl of sphereHand), 58 mm a unit"
_FINGERS = {
    "finger5": "thumb",
    "finger4": "index",
    "finger3": "middle",
    "finger2": "ring",
    "finger1": "little",
}  # LibHand counts from the little finger, as NYU does.
_PALM_BONES = {"Bone": "little0", "Bone_001": "ring0", "Bone_002": "middle0", "Bone_003": "index0"}


def part_of_bone(bone: str, palm_bones: bool = False) -> str:
    """Returns the canonical part of a LibHand bone; wrist and palm make one.

    With palm_bones the four bones that carry the fingers' roots are parts of their own.
    """
    finger, _, number = bone.partition("joint")
    if finger in _FINGERS:
        return _FINGERS[finger] + number
    return _PALM_BONES.get(bone, "palm") if palm_bones else "palm"


def read_libhand(path, palm_bones: bool = False, markers=None) -> SourceHand:
    """Returns the hand of `right_hand.pkl`: 1721 vertices, 16 parts, or 20 with palm_bones.

    Args:
        path: the pickle; only arrays and plain containers are read from it.
        palm_bones: see `part_of_bone`.
        markers: JSON of NYU's 36 key points on it; None: `nyu_markers.json` beside the mesh, or,
            where there is none, the key points are placed.

    Raises:
        InputError: a file is not what it should be.
    """
    content = restricted_pickle.load(path)
    try:
        names = hand_parts.ordered(
            {part_of_bone(bone["name"], palm_bones) for bone in content["bones"]}
        )
        corners = np.asarray(content["vertices"], np.float64)
        first, welded = mesh_repair.weld(corners)
        faces = welded[np.asarray(content["faces"], np.int64)]
        weights, joints = np.zeros([len(first), len(names)]), np.zeros([len(names), 3])
        for bone in content["bones"]:
            part = names.index(part_of_bone(bone["name"], palm_bones))
            # A vertex's corners all carry its weight: put it down once for each bone.
            column = np.zeros(len(first))
            column[welded[np.asarray(bone["weight_vertexid"], np.int64)]] = np.asarray(
                bone["weight_coeff"], np.float64
            )
            weights[:, part] += column
            if part:  # The palm's origin, that of `metacarpals`, is the file's.
                rest = np.linalg.inv(np.asarray(bone["offset_matrix"], np.float64))
                joints[part] = rest[:3, 3] * MM_PER_UNIT
        weights = weights / weights.sum(axis=1, keepdims=True)
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
        np.linalg.LinAlgError,
    ) as error:
        raise InputError(
            f"{path}: is not LibHand's right_hand.pkl ({error!r}); use the original file."
        ) from None
    beside = pathlib.Path(path).with_name(MARKERS)
    if markers is None and beside.is_file():
        markers = beside
    return SourceHand(
        where=str(path),
        name="libhand_right" + ("_palm_bones" if palm_bones else ""),
        licence=LICENCE,
        source=SOURCE,
        left=False,
        vertices=corners[first] * MM_PER_UNIT,
        faces=faces,
        weights=weights,
        part_names=names,
        joints=joints,
        markers=None if markers is None else read_markers(markers),
    )


def read_markers(path) -> dict[str, tuple[str, np.ndarray]]:
    """Returns name to (canonical part, [3] mm) of NYU's 36 key points, in NYU's order."""
    try:
        rows = read_json(path)["markers"]
        markers = {
            name: (
                part_of_bone(rows[name]["bone"]),
                np.array(rows[name]["position"], np.float64) * MM_PER_UNIT,
            )
            for name in nyu_keypoint_names()
        }
        if not all(
            np.isfinite(point).all() and point.shape == (3,) for _, point in markers.values()
        ):
            raise ValueError("a position is not three numbers")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"--markers={path}: is no table of NYU's 36 key points ({error!r}); pass {MARKERS}."
        ) from None
    return markers
