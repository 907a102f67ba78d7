"""Reads a skinned hand from a binary glTF file, by a map from its bones to canonical parts."""

import pathlib

import numpy as np

from data_prep import hand_parts, mesh_repair
from data_prep.gltf_file import GltfFile
from data_prep.source_hand import SourceHand
from dgn_tf.errors import InputError
from dgn_tf.json_file import read_json

MM_PER_UNIT = 1000.0  # glTF counts in metres.
_DECIMALS = 5  # Of a metre, to which corners that are one vertex agree.

# The joints of the WebXR Hand Input specification; tips move with the last bone.
_WEBXR_BONES = {
    "thumb": ("metacarpal", "phalanx-proximal", "phalanx-distal", "tip"),
    "index": ("metacarpal", "phalanx-proximal", "phalanx-intermediate", "phalanx-distal", "tip"),
}
_WEBXR_FINGERS = {
    "index": "index-finger",
    "middle": "middle-finger",
    "ring": "ring-finger",
    "little": "pinky-finger",
}
WEBXR = {
    "wrist": "palm",
    **{
        f"thumb-{bone}": f"thumb{min(number, 3)}"
        for number, bone in enumerate(_WEBXR_BONES["thumb"], start=1)
    },
    **{
        f"{theirs}-{bone}": f"{ours}{min(number, 3)}"
        for ours, theirs in _WEBXR_FINGERS.items()
        for number, bone in enumerate(_WEBXR_BONES["index"])
    },
}


def read_bone_map(path) -> dict[str, str]:
    """Returns bone name to canonical part of a JSON file {"bone": "part", ..}.

    Several bones may name one part: they move as one, its joint is that of the first in the map,
    and the last of a fingertip's is the tip.
    """
    try:
        table = read_json(path)
        if not isinstance(table, dict) or not all(isinstance(part, str) for part in table.values()):
            raise ValueError("no object of bone names and parts")
        hand_parts.ordered(dict.fromkeys(table.values()))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--bone_map={path}: {error}; give each bone of the hand one of palm, "
            "thumb1 .. little3 (and index0 .. little0 within the palm)."
        ) from None
    return table


def read_glb(
    path, bone_map=None, left: bool | None = None, palm_bones: bool = False, weld_mm: float = 0.0
) -> SourceHand:
    """Returns the hand of a .glb file in its bind pose.

    Args:
        path: of the file.
        bone_map: bone name to part, see `read_bone_map`; None: `WEBXR`. Bones that it leaves out
            move nothing.
        left: it is a left hand; None: its thumb tells.
        palm_bones: keep parts such as 'index0'; else they make one with the palm.
        weld_mm: corners that lie closer together make one vertex; 0: at one place only.

    Raises:
        InputError: the file is not readable, has no skinned mesh or lacks a bone.
    """
    file = GltfFile(path)
    corners, faces, joint_index, weight, skin = _skinned_mesh(file)
    bone_map = WEBXR if bone_map is None else bone_map
    part_of_bone = _parts_of_skin(file, skin, bone_map, palm_bones)
    try:
        names = hand_parts.ordered({part for part in part_of_bone if part})
    except ValueError as error:
        raise InputError(
            f"{path}: {error}; pass --bone_map=FILE with its bones' names, which are "
            f"{', '.join(_bone_names(file, skin)[:30])}."
        ) from None
    first, welded = mesh_repair.weld(corners, _DECIMALS)
    if weld_mm:
        first, welded = mesh_repair.weld_near(corners, weld_mm / MM_PER_UNIT)
    weights = np.zeros([len(first), len(names)])
    for slot in range(joint_index.shape[1]):
        parts = np.array([names.index(part) if part else -1 for part in part_of_bone])
        part, share = parts[joint_index[first, slot]], weight[first, slot]
        np.add.at(weights, (np.flatnonzero(part >= 0), part[part >= 0]), share[part >= 0])
    total = weights.sum(axis=1, keepdims=True)
    if (total <= 0).any():
        raise InputError(
            f"{path}: {(total <= 0).sum()} vertices move with bones that the bone "
            "map leaves out; cut the hand off behind the wrist, or map them to "
            "'palm' (--bone_map)."
        )
    bind = np.linalg.inv(_bind_matrices(file, skin, len(part_of_bone)))
    # Files order bones as they like, some from the tips: the map's order counts.
    bones = _bone_names(file, skin)
    order = sorted(
        range(len(bones)),
        key=lambda bone: list(bone_map).index(bones[bone]) if bones[bone] in bone_map else -1,
    )
    origins = {
        part: np.stack([bind[bone, :3, 3] for bone in order if part_of_bone[bone] == part])
        * MM_PER_UNIT
        for part in names
    }
    last = [origins[f"{finger}3"] for finger in hand_parts.FINGERS]
    return SourceHand(
        where=str(path),
        name=pathlib.Path(path).stem + "_hand",
        left=left,
        licence=_licence(file),
        source=f"{pathlib.Path(path).name}, skinned glTF",
        vertices=corners[first] * MM_PER_UNIT,
        faces=welded[faces],
        weights=weights / total,
        part_names=names,
        joints=np.stack([origins[part][0] for part in names]),
        tips=np.stack([own[-1] for own in last]) if min(map(len, last)) > 1 else None,
    )


def _skinned_mesh(file):
    """Returns corners [N, 3] m, faces [F, 3], joints [N, S] and weights [N, S] and the skin."""
    skinned = [
        node
        for node in file.items("nodes")
        if isinstance(node, dict) and "mesh" in node and "skin" in node
    ]
    if len({node["skin"] for node in skinned if isinstance(node["skin"], int)}) != 1:
        raise file.fault(
            f"has {len(skinned)} skinned meshes, wanted one skin; export the hand "
            "alone, with its armature"
        )
    corners, faces, joints, weights, count = [], [], [], [], 0
    for node in skinned:
        for primitive in file.items("meshes", node["mesh"], "primitives"):
            try:
                attributes = primitive["attributes"]
                slots = sum(f"JOINTS_{slot}" in attributes for slot in range(4))
                faces.append(file.triangles(primitive) + count)
                corners.append(file.accessor(attributes["POSITION"]))
                joints.append(
                    np.concatenate(
                        [file.accessor(attributes[f"JOINTS_{slot}"]) for slot in range(slots)],
                        axis=1,
                    )
                )
                weights.append(
                    np.concatenate(
                        [file.accessor(attributes[f"WEIGHTS_{slot}"]) for slot in range(slots)],
                        axis=1,
                    )
                )
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise file.fault(f"its mesh lacks or contradicts {error}") from None
            count += len(corners[-1])
    try:
        result = [np.concatenate(arrays) for arrays in (corners, faces, joints, weights)]
    except ValueError as error:
        raise file.fault(f"its meshes do not go together ({error})") from None
    corners, faces, joints, weights = result
    bones = len(file.items("skins", skinned[0]["skin"], "joints"))
    if (
        corners.shape[1] != 3
        or joints.shape != weights.shape
        or len(joints) != len(corners)
        or joints.dtype.kind != "i"
        or joints.min() < 0
        or joints.max() >= bones
        or weights.min() < 0
    ):
        raise file.fault("its positions, joints and weights contradict each other")
    return corners, faces, joints, weights, skinned[0]["skin"]


def _licence(file):
    asset = file.json.get("asset")
    told = asset.get("copyright") if isinstance(asset, dict) else None
    return str(told or "not told by its file")


def _bone_names(file, skin):
    nodes = [file.get("nodes", node) for node in file.items("skins", skin, "joints")]
    return [str(node.get("name")) if isinstance(node, dict) else "" for node in nodes]


def _parts_of_skin(file, skin, bone_map, palm_bones):
    """Returns the part of each bone of the skin, None for one that the map leaves out."""
    parts = [bone_map.get(name) for name in _bone_names(file, skin)]
    if not palm_bones:
        parts = ["palm" if part in hand_parts.PALM_BONES else part for part in parts]
    return parts


def _bind_matrices(file, skin, bones):
    """Returns [bones, 4, 4] bone_from_mesh of the bind pose."""
    matrices = file.accessor(file.get("skins", skin, "inverseBindMatrices"))
    if matrices.shape != (bones, 16):
        raise file.fault(f"has bind matrices of shape {matrices.shape}, wanted ({bones}, 16)")
    matrices = matrices.reshape(-1, 4, 4).transpose(0, 2, 1)  # Stored by columns.
    if (np.abs(np.linalg.det(matrices)) < 1e-12).any():
        raise file.fault("has a bind matrix that can't be inverted")
    return matrices
