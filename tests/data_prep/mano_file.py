"""A file of exactly MANO's structure: keys, shapes and the classes that its pickle asks for."""

import contextlib
import pickle
import sys
import types

import numpy as np
import scipy.sparse

from data_prep.mano import PARTS
from dgn_tf.template import load_template
from tests.data_prep.small_hand import decimated

VERTICES, FACES, BETAS, POSE_FEATURES = 778, 1538, 10, 135
_ROOT = 2**32 - 1  # uint32 of -1, what the root hangs on.


def model() -> dict:
    """MANO's arrays for a decimated MakeHuman hand, metres, every field an array."""
    template = load_template()
    kept, faces = decimated(template, VERTICES, border=16)
    vertices = template.vertices[kept].astype(np.float64) / 1000
    order = [template.part_names.index(part) for part in PARTS]
    joints = np.linalg.inv(template.bone_from_template.astype(np.float64))[order, :3, 3] / 1000
    regressor = np.zeros([16, VERTICES])
    for joint, row in zip(joints, regressor, strict=True):
        near = np.argsort(np.linalg.norm(vertices - joint, axis=1))[:40]
        system = np.concatenate([np.ones([1, 40]), vertices[near].T])
        row[near] = np.linalg.pinv(system) @ np.append(1, joint)
    rng = np.random.default_rng(3)
    shapes = np.concatenate([template.shape_basis[:, kept].transpose(1, 2, 0) / 1000] * 2, axis=2)
    parents = [_ROOT, *(0 if part.endswith("1") else PARTS.index(part) - 1 for part in PARTS[1:])]
    return {
        "v_template": vertices,
        "f": faces.astype(np.uint32),
        "weights": template.skinning_weights[kept][:, order].astype(np.float64),
        "J_regressor": regressor,
        "J": regressor @ vertices,
        "kintree_table": np.array([parents, range(16)], np.uint32),
        "shapedirs": shapes[..., :BETAS],
        "posedirs": rng.normal(size=[VERTICES, 3, POSE_FEATURES]) * 1e-4,
        "hands_components": np.eye(45),
        "hands_coeffs": rng.normal(size=[20, 45]),
        "hands_mean": np.zeros(45),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write_npz(path, arrays):
    np.savez(path, **arrays)


def write_pickle(path, arrays, protocol=2):
    """Pickles with chumpy's classes about the arrays that MANO has so, and a sparse regressor."""
    with _chumpy() as (ch, select):
        whole = ch(x=np.concatenate([arrays["shapedirs"].reshape(-1), np.zeros(50)]))
        chosen = select(
            a=whole,
            idxs=np.arange(arrays["shapedirs"].size),
            preferred_shape=arrays["shapedirs"].shape,
        )
        content = {
            **arrays,
            "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
            "shapedirs": chosen,
            "posedirs": arrays["posedirs"],
            "v_template": ch(x=arrays["v_template"]),
        }
        path.write_bytes(pickle.dumps(content, protocol=protocol))


@contextlib.contextmanager
def _chumpy():
    """Modules named like chumpy's, gone again when it is read."""

    class Base:
        def __init__(self, **state):
            self.__dict__.update(state)

    classes = []
    names = {"chumpy": None, "chumpy.ch": "Ch", "chumpy.reordering": "Select"}
    for module, name in names.items():
        sys.modules[module] = types.ModuleType(module)
        if name:
            kind = type(name, (Base,), {"__module__": module})
            setattr(sys.modules[module], name, kind)
            classes.append(kind)
    try:
        yield classes
    finally:
        for module in names:
            del sys.modules[module]
