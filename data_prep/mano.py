"""Reads MANO's hand (Romero, Tzionas, Black, 2017) from MANO_RIGHT or MANO_LEFT, .pkl or .npz.

Its pose blend shapes (`posedirs`) are left out: the network's refit and every template pose by
linear blend skinning alone. Its shape blend shapes are the template's shape basis; one coefficient
is one standard deviation in both. The pickles hold chumpy and scipy objects: they are read without
either, see `restricted_pickle`.
"""

import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from data_prep import hand_parts, restricted_pickle
from data_prep.rest_hand import Shapes
from data_prep.source_hand import SourceHand
from dgn_tf.errors import InputError
from dgn_tf.npz_file import read_arrays

MM_PER_UNIT = 1000.0  # MANO counts in metres.
SHAPES = 10
LICENCE = "MANO licence (mano.is.tue.mpg.de), non-commercial research; not to be passed on"
# MANO's joints in its order, and what each hangs on.
PARTS = (
    "palm",
    *(
        f"{finger}{bone}"
        for finger in ("index", "middle", "little", "ring", "thumb")
        for bone in (1, 2, 3)
    ),
)
_PARENTS = hand_parts.parents(PARTS)
_FIELDS = ("v_template", "f", "weights", "J_regressor", "kintree_table", "shapedirs")


def read_mano(path, left: bool | None = None) -> SourceHand:
    """Returns MANO's hand: 778 vertices, 16 parts, its first ten shapes.

    Args:
        path: of the .pkl or .npz.
        left: which hand it is; None: told by its geometry.

    Raises:
        InputError: a pickle that asks for more than arrays, or a file of another structure.
    """
    model = read_model(path, _FIELDS)
    try:
        missing = [field for field in _FIELDS if field not in model]
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        vertices = values_of(model["v_template"])
        regressor = restricted_pickle.sparse_matrix(model["J_regressor"])
        shapedirs = values_of(model["shapedirs"])[..., :SHAPES]
        weights, faces = values_of(model["weights"]), np.asarray(model["f"]).astype(np.int64)
        parents = np.asarray(model["kintree_table"]).astype(np.int64)[0, 1:]
        count = len(vertices)
        shapes = {
            "v_template": (vertices, (count, 3)),
            "weights": (weights, (count, len(PARTS))),
            "J_regressor": (regressor, (len(PARTS), count)),
            "f": (faces, (len(faces), 3)),
            "shapedirs": (shapedirs, (count, 3, shapedirs.shape[-1])),
        }
        for name, (array, shape) in shapes.items():
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.shape}, wanted {shape} of finite numbers")
        if faces.min() < 0 or faces.max() >= count:
            raise ValueError("f names vertices that it does not have")
        if (parents != _PARENTS[1:]).any():
            raise ValueError("its kintree_table is not MANO's")
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        MemoryError,
        OverflowError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path}: is not MANO's model ({error}); use MANO_RIGHT.pkl as it came."
        ) from None
    order = hand_parts.of_merged(np.arange(len(PARTS)), PARTS)
    basis = shapedirs.transpose(2, 0, 1) * MM_PER_UNIT  # [K, V, 3]
    return SourceHand(
        where=str(path),
        name="mano",
        licence=LICENCE,
        left=left,
        source=f"MANO ({pathlib.Path(path).name}), without pose blend shapes",
        vertices=vertices * MM_PER_UNIT,
        faces=faces,
        weights=(weights / weights.sum(axis=1, keepdims=True))[:, order],
        part_names=hand_parts.PART_NAMES,
        joints=(regressor @ vertices)[order] * MM_PER_UNIT,
        shapes=Shapes(
            tuple(f"mano_{k + 1}" for k in range(len(basis))),
            basis,
            np.einsum("pv,kvi->kpi", regressor, basis)[:, order],
        ),
    )


def read_hands_mean(path) -> np.ndarray:
    """[45] rad, the mean pose that MANO adds unless it is told `flat_hand_mean`; InputError."""
    try:
        mean = values_of(read_model(path, ["hands_mean"])["hands_mean"])
        if mean.shape != (3 * (len(PARTS) - 1),) or not np.isfinite(mean).all():
            raise ValueError(f"it is {mean.shape}")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path}: hands_mean can't be read ({error}); use MANO_RIGHT.pkl as it came, or "
            "--flat_hand_mean."
        ) from None
    return mean


def read_model(path, fields: Sequence[str]) -> dict:
    """What a .npz or .pkl holds by name, of the former `fields` alone; nothing in it runs.

    Raises:
        InputError: it can't be read, or is a pickle that asks for more than arrays.
    """
    if not zipfile.is_zipfile(path):
        model = restricted_pickle.load(path, stand_ins=("chumpy", "scipy.sparse"))
        if not isinstance(model, dict):
            raise InputError(f"{path}: refused, it holds no arrays by name; use the original file.")
        return model
    try:
        return read_arrays(path, fields)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot read ({error}); an .npz of plain arrays is wanted."
        ) from None


def values_of(value) -> np.ndarray:
    """Returns the float64 numbers of an array, or of the stand-in for chumpy's Ch or Select."""
    if isinstance(value, restricted_pickle.StandIn):
        state = value.state
        if value.kind.endswith(".Select"):
            chosen = values_of(state["a"]).reshape(-1)[np.asarray(state["idxs"], np.int64)]
            return chosen.reshape([int(size) for size in state["preferred_shape"]])
        if "x" not in state:
            raise ValueError(f"it holds a {value.kind}, which is no array")
        return values_of(state["x"])
    return np.asarray(value, np.float64)
