"""MANO's files: both formats give one template, chumpy is not needed, hostile pickles don't run."""

import json
import os
import pickle
import sys

import numpy as np
import pytest
import trimesh
from absl import flags

from data_prep import (
    build_template,
    hand_parts,
    mano,
    restricted_pickle,
    source_hand,
    template_assembly,
)
from data_prep.template_quality import format_mesh
from dgn_tf.errors import InputError
from dgn_tf.template import EVALUATED, HandTemplate
from tests.data_prep import mano_file


@pytest.fixture(scope="module")
def arrays():
    return mano_file.model()


@pytest.fixture(autouse=True)
def one_embedding(monkeypatch):
    monkeypatch.setattr(template_assembly, "EMBEDDINGS", ("layered",))  # Scaling takes seconds.


@pytest.fixture(params=["npz", "protocol 0", "protocol 2", "protocol 4"])
def path(request, arrays, tmp_path):
    kind, _, protocol = request.param.partition(" ")
    if kind == "npz":
        mano_file.write_npz(tmp_path / "MANO_RIGHT.npz", arrays)
        return tmp_path / "MANO_RIGHT.npz"
    mano_file.write_pickle(tmp_path / "MANO_RIGHT.pkl", arrays, int(protocol))
    return tmp_path / "MANO_RIGHT.pkl"


def test_every_format_gives_manos_mesh_skeleton_and_shapes(path, arrays):
    hand = mano.read_mano(path)
    assert "chumpy" not in sys.modules
    assert hand.vertices.shape == (778, 3) and hand.faces.shape == (1538, 3)
    np.testing.assert_allclose(hand.vertices, 1000 * arrays["v_template"])
    np.testing.assert_array_equal(hand.faces, arrays["f"])
    for part, name in enumerate(mano.PARTS):
        own = hand.part_names.index(name)
        np.testing.assert_allclose(hand.joints[own], 1000 * arrays["J"][part], atol=1e-9)
        np.testing.assert_allclose(hand.weights[:, own], arrays["weights"][:, part], atol=1e-6)
    np.testing.assert_allclose(
        hand.shapes.vertices, 1000 * arrays["shapedirs"].transpose(2, 0, 1), atol=1e-9
    )


def test_template_has_16_parts_and_the_shapes_move_its_joints_as_manos(arrays, tmp_path):
    mano_file.write_npz(tmp_path / "MANO_RIGHT.npz", arrays)
    template = source_hand.build_template(mano.read_mano(tmp_path / "MANO_RIGHT.npz"))
    assert template.part_names == hand_parts.PART_NAMES and "mirrored" not in template.source
    assert len(template.vertices) == 778 and len(template.wrist_loop) == 16
    assert template.shape_names == tuple(f"mano_{k}" for k in range(1, 11))
    np.testing.assert_array_equal(template.evaluated, EVALUATED)
    # MANO: J(beta) = J_regressor v(beta). Distances do not depend on the frame.
    betas = np.linspace(-1, 1, 10)
    wanted = 1000 * arrays["J_regressor"] @ (arrays["v_template"] + arrays["shapedirs"] @ betas)
    joints = np.linalg.inv(template.bone_from_template.astype(np.float64))[:, :3, 3]
    joints = joints + np.einsum("k,kpi->pi", betas, template.shape_joints)
    joints = joints[[template.part_names.index(part) for part in mano.PARTS]]
    np.testing.assert_allclose(
        np.linalg.norm(joints[:, None] - joints, axis=-1),
        np.linalg.norm(wanted[:, None] - wanted, axis=-1),
        atol=2e-3,
    )  # mm.


def test_left_hand_is_mirrored_to_the_right_one_and_says_so(arrays, tmp_path):
    left = {
        **arrays,
        "v_template": arrays["v_template"] * [-1, 1, 1],
        "f": arrays["f"][:, ::-1],
        "shapedirs": arrays["shapedirs"] * np.array([-1, 1, 1])[:, None],
    }
    mano_file.write_npz(tmp_path / "R.npz", arrays)
    mano_file.write_pickle(tmp_path / "L.pkl", left)
    right = source_hand.build_template(mano.read_mano(tmp_path / "R.npz"))
    mirrored = source_hand.build_template(mano.read_mano(tmp_path / "L.pkl"))
    assert mirrored.source.endswith("a left hand, mirrored")
    assert (right.handedness, mirrored.handedness) == ("right", "left")
    for field in ("vertices", "keypoints", "bone_from_template", "joint_limits", "shape_basis"):
        np.testing.assert_allclose(getattr(mirrored, field), getattr(right, field), atol=2e-4)
    with pytest.raises(InputError, match="looks like a left hand; pass --handedness=left"):
        source_hand.build_template(mano.read_mano(tmp_path / "L.pkl", left=False))


def test_a_left_hands_mesh_is_the_sources_turned_not_mirrored(arrays, tmp_path):
    left = {
        **arrays,
        "v_template": arrays["v_template"] * [-1, 1, 1],
        "f": arrays["f"][:, ::-1],
        "shapedirs": arrays["shapedirs"] * np.array([-1, 1, 1])[:, None],
    }
    mano_file.write_npz(tmp_path / "L.npz", left)
    flags.FLAGS.unparse_flags()
    flags.FLAGS(
        [
            "build_template",
            "--source=mano",
            f"--input={tmp_path / 'L.npz'}",
            "--poses=0",
            f"--output={tmp_path / 'left.npz'}",
            f"--mesh={tmp_path / 'left.obj'}",
            f"--report={tmp_path / 'left.json'}",
        ]
    )
    build_template.main([])
    sheet = json.loads((tmp_path / "left.json").read_text())["mesh"]
    assert sheet["handedness"] == "left" == HandTemplate.load(tmp_path / "left.npz").handedness
    assert format_mesh(sheet).startswith("a left hand, mirrored to a right one: 778 vertices")
    mesh = trimesh.load(tmp_path / "left.obj", process=False)
    moved, source = (v - v.mean(axis=0) for v in (mesh.vertices, 1000 * left["v_template"]))
    u, _, vt = np.linalg.svd(moved.T @ source)
    assert np.linalg.det(u @ vt) > 0
    np.testing.assert_allclose(source @ (u @ vt).T, moved, atol=2e-3)  # mm
    np.testing.assert_array_equal(np.sort(mesh.faces), np.sort(left["f"]))
    assert mesh.volume > 0


def test_same_file_gives_the_same_bytes(arrays, tmp_path):
    mano_file.write_pickle(tmp_path / "MANO_RIGHT.pkl", arrays)
    first, second = (
        source_hand.build_template(mano.read_mano(tmp_path / "MANO_RIGHT.pkl")) for _ in range(2)
    )
    assert first.to_bytes() == second.to_bytes()


class _Run:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_pickle_that_runs_code_is_refused_unrun(arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mano_file.write_pickle(tmp_path / "MANO_RIGHT.pkl", {**arrays, "bs_style": _Run()})
    with pytest.raises(InputError, match="MANO_RIGHT.pkl: refused.*mkdir"):
        mano.read_mano(tmp_path / "MANO_RIGHT.pkl")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "attack",
    [
        b"cchumpy\nCh\n(S'x'\ntR(S'append'\nI1\ndb.",  # A stand-in with a state of no use.
        b"ccopy_reg\n_reconstructor\n(cbuiltins\nobject\ncbuiltins\nobject\nNtR.",
        b"cscipy.sparse\nos.system\n(S'x'\ntR.",
    ],
)
def test_stand_ins_run_nothing(attack, tmp_path):
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(attack)
    with pytest.raises(InputError, match="MANO_RIGHT.pkl: (refused|is not MANO's model)"):
        mano.read_mano(tmp_path / "MANO_RIGHT.pkl")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weights": None}, "it has no weights"),
        ({"weights": np.zeros([778, 15])}, "weights is"),
        ({"v_template": np.full([778, 3], np.nan)}, "v_template is"),
        ({"f": np.full([10, 3], 778)}, "f names vertices"),
        ({"kintree_table": np.zeros([2, 16], np.uint32)}, "its kintree_table is not MANO's"),
    ],
)
def test_other_structure_is_refused_by_name(arrays, change, message, tmp_path):
    changed = {key: value for key, value in {**arrays, **change}.items() if value is not None}
    mano_file.write_npz(tmp_path / "MANO_RIGHT.npz", changed)
    with pytest.raises(InputError, match=f"MANO_RIGHT.npz: is not MANO's model.*{message}"):
        mano.read_mano(tmp_path / "MANO_RIGHT.npz")


def test_sparse_stand_in_is_the_dense_matrix(tmp_path):
    import scipy.sparse

    dense = np.random.default_rng(0).normal(size=[5, 8]) * (np.arange(8) % 3 == 0)
    for kind in (scipy.sparse.csc_matrix, scipy.sparse.csr_matrix):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(kind(dense), protocol=2))
        found = restricted_pickle.load(tmp_path / "a.pkl", stand_ins=("scipy.sparse",))
        np.testing.assert_array_equal(restricted_pickle.sparse_matrix(found), dense)
        with pytest.raises(InputError, match="a.pkl: refused.*scipy.sparse"):
            restricted_pickle.load(tmp_path / "a.pkl")
