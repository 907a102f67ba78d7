"""Reads any skinned hand that a file of arrays holds as MANO's does, whatever its joints are.

`v_template` [V, 3], `f` [F, 3], `weights` [V, J] and `J` [J, 3] or `J_regressor` [J, V], in an
.npz or a pickle, which runs nothing; `joint_names` [J] and `shapedirs` [V, 3, K] where it has them.
A map from joints to canonical parts says what each joint is, so that their tree is not asked.
"""

import pathlib

import numpy as np

from data_prep import hand_parts, mano, restricted_pickle
from data_prep.rest_hand import Shapes
from data_prep.source_hand import SourceHand
from dgn_tf.errors import InputError

_FIELDS = ("v_template", "f", "weights", "J", "J_regressor", "joint_names", "shapedirs")


def read_skinned_arrays(
    path,
    bone_map: dict[str, str],
    left: bool | None = None,
    palm_bones: bool = False,
    unit_mm: float = 1000.0,
) -> SourceHand:
    """Returns the hand.

    Args:
        path: of the .npz or .pkl.
        bone_map: joint name to part, see `skinned_gltf.read_bone_map`; a joint without a name is
            its number, "0" the first. Joints that it leaves out may move no vertex.
        left: it is a left hand; None: its thumb tells.
        palm_bones: keep parts such as 'index0'; else they make one with the palm.
        unit_mm: of the file's unit of length, mm.

    Raises:
        InputError: the file has another structure, or the map does not fit it.
    """
    found = _checked(path)
    vertices, weights, names = found["vertices"], found["weights"], found["names"]
    strange = [name for name in bone_map if name not in names]
    if strange:
        raise InputError(
            f"--bone_map: {path} has no joint {', '.join(strange[:5])}; its joints are "
            f"{', '.join(names[:60])}."
        )
    parts = {
        joint: "palm" if part in hand_parts.PALM_BONES and not palm_bones else part
        for joint, part in bone_map.items()
    }
    part_names = hand_parts.ordered(set(parts.values()))
    # Of each part, its joints in the map's order: the first is where it turns.
    own = {part: [names.index(j) for j, p in parts.items() if p == part] for part in part_names}
    moved = np.stack([weights[:, joints].sum(axis=1) for joints in own.values()], axis=1)
    total = moved.sum(axis=1, keepdims=True)
    adrift = total < 0.5 * weights.sum(axis=1, keepdims=True)
    if adrift.any():
        raise InputError(
            f"{path}: {adrift.sum()} vertices move with joints that the bone map "
            "leaves out; map them to 'palm' or to the part that carries them (--bone_map)."
        )
    first = [joints[0] for joints in own.values()]
    ends = [own[f"{finger}3"] for finger in hand_parts.FINGERS]
    tips = [joints[-1] for joints in ends] if min(map(len, ends)) > 1 else None
    return SourceHand(
        where=str(path),
        name=f"{pathlib.Path(path).stem}_hand",
        licence="not told by its file",
        source=f"{pathlib.Path(path).name}, skinned arrays",
        left=left,
        vertices=vertices * unit_mm,
        faces=found["faces"],
        weights=moved / total,
        part_names=part_names,
        joints=found["joints"][first] * unit_mm,
        shapes=_shapes(found, first, unit_mm),
        tips=found["joints"][tips] * unit_mm if tips else None,
    )


def _shapes(found, first, unit_mm) -> Shapes | None:
    """The file's own shapes where it also says how they move the joints."""
    if found["shapedirs"] is None or found["regressor"] is None:
        return None
    basis = found["shapedirs"].transpose(2, 0, 1) * unit_mm  # [K, V, 3]
    joints = np.einsum("jv,kvi->kji", found["regressor"], basis)[:, first]
    return Shapes(tuple(f"shape_{k + 1}" for k in range(len(basis))), basis, joints)


def _checked(path) -> dict:
    model = mano.read_model(path, _FIELDS)
    try:
        vertices, weights = mano.values_of(model["v_template"]), mano.values_of(model["weights"])
        faces = np.asarray(model["f"]).astype(np.int64)
        regressor = None
        if "J_regressor" in model:
            regressor = restricted_pickle.sparse_matrix(model["J_regressor"]).astype(np.float64)
        joints = mano.values_of(model["J"]) if regressor is None else regressor @ vertices
        count = len(joints)
        names = [str(name) for name in model.get("joint_names", range(count))]
        shapedirs = mano.values_of(model["shapedirs"]) if "shapedirs" in model else None
        wanted: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {
            "v_template": (vertices, (len(vertices), 3)),
            "weights": (weights, (len(vertices), count)),
            "J": (joints, (count, 3)),
            "f": (faces, (len(faces), 3)),
        }
        if shapedirs is not None:
            wanted["shapedirs"] = (shapedirs, (len(vertices), 3, shapedirs.shape[-1]))
        for name, (array, shape) in wanted.items():
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.shape}, wanted {shape} of finite numbers")
        if len(set(names)) != count:
            raise ValueError(f"{len(set(names))} different joint_names for {count} joints")
        if not len(faces) or faces.min() < 0 or faces.max() >= len(vertices):
            raise ValueError("f names vertices that it does not have")
        if weights.min() < 0 or (weights.sum(axis=1) <= 0).any():
            raise ValueError("weights are negative, or a vertex has none")
    except (
        *(KeyError, TypeError, ValueError, IndexError, AttributeError, MemoryError),
        *(OverflowError, RecursionError),
    ) as error:
        told = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path}: no skinned hand of arrays ({told}); v_template, f, weights and J or "
            "J_regressor are wanted."
        ) from None
    return {
        "vertices": vertices,
        "weights": weights,
        "faces": faces,
        "joints": joints,
        "names": names,
        "regressor": regressor,
        "shapedirs": shapedirs,
    }
