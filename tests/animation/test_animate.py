"""Animations as other programs read them: the hand stands where the project puts it."""

import dataclasses
import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import bvhio
import numpy as np
import pytest
import tensorflow as tf

from dgn_tf import HandMeshPredictor
from dgn_tf.animation.gltf import glb
from dgn_tf.animation.sequence import hand_sequence
from dgn_tf.errors import InputError
from dgn_tf.geometry import kinematics
from dgn_tf.parameter_file import ParameterTable, read_parameters
from dgn_tf.template import load_template
from tests import programs
from tests.animation.glb_reader import Animated
from tests.animation.posed_hands import joints, skinned
from tests.exported_model import INTRINSICS, blob_frame
from tests.test_parameter_file import TEMPLATE, mesh, model_folder, write

TOLERANCE_MM = 0.1
MODEL = pathlib.Path(__file__).parents[2] / "saved_models" / "dgn"
run = functools.partial(programs.run, "dgn_tf.animate")


@pytest.fixture(scope="module", params=["right", "left"])
def take(request, tmp_path_factory):
    """A recording of one hand whose third frame of five is lost, and the side."""
    hand = request.param
    file = tmp_path_factory.mktemp("take") / "take.npz"
    return write(file, (hand, hand, "", hand, hand)), hand


def of_frame(frame, hand):
    """The transforms that a frame of `take` shows: the lost one's are those before."""
    return mesh(1 if frame == 2 else frame, hand).transforms


def test_a_glb_holds_the_skinned_mesh_of_every_frame(take, tmp_path, capsys):
    file, hand = take
    run(f"--input={file}", f"--output={tmp_path / 'a.glb'}", "--fps=10")
    assert "5 frames in 0.40 s, 1 of them lost\n  lost, holds the pose before: frame_2" in (
        capsys.readouterr().out
    )
    found = Animated(tmp_path / "a.glb")
    np.testing.assert_allclose(found.times, np.arange(5) / 10, atol=1e-6)
    assert found.names == list(TEMPLATE.part_names)
    assert found.extras["lost_frames"] == ["frame_2"]
    for frame in range(5):
        away = found.vertices(frame) * 1000 - skinned(of_frame(frame, hand), hand)
        assert np.linalg.norm(away, axis=1).max() < TOLERANCE_MM
    # Faces look outward: normals point away from the middle of what they are around.
    corners = found.rest[found.faces]
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    assert volume > 0


def test_six_channels_keep_joints_where_they_are(take, tmp_path):
    file, hand = take
    run(f"--input={file}", f"--output={tmp_path / 'a.bvh'}", "--fps=25")
    hierarchy = bvhio.readAsHierarchy(str(tmp_path / "a.bvh"))
    assert bvhio.readAsBvh(str(tmp_path / "a.bvh")).FrameTime == pytest.approx(1 / 25)
    for frame in range(5):
        hierarchy.loadPose(frame)
        placed = {joint.Name: np.array(joint.PositionWorld) for joint, _, _ in hierarchy.layout()}
        told = 10 * np.stack([placed[name] for name in TEMPLATE.part_names])
        away = np.linalg.norm(told - joints(of_frame(frame, hand), hand), axis=1)
        assert away.max() < TOLERANCE_MM


def test_constant_bones_keep_their_lengths_and_say_what_that_costs(take, tmp_path, capsys):
    file, hand = take
    name = str(tmp_path / "a.bvh")
    run(f"--input={file}", f"--output={name}", "--constant_bones")
    mean, most = map(float, re.findall(r"(\d+\.\d+) (?:mm|at)", capsys.readouterr().out)[:2])
    text = pathlib.Path(name).read_text()
    assert text.count("CHANNELS 6") == 1 and text.count("CHANNELS 3") == 15
    hierarchy, away, lengths = bvhio.readAsHierarchy(name), [], []
    for frame in range(5):
        hierarchy.loadPose(frame)
        placed = {joint.Name: np.array(joint.PositionWorld) for joint, _, _ in hierarchy.layout()}
        told = 10 * np.stack([placed[name] for name in TEMPLATE.part_names])
        away.append(np.linalg.norm(told - joints(of_frame(frame, hand), hand), axis=1))
        lengths.append(np.linalg.norm(told - told[TEMPLATE.parents], axis=1))
    np.testing.assert_allclose(lengths, np.tile(lengths[0], [5, 1]), atol=1e-2)
    assert mean == pytest.approx(np.mean(away), abs=0.02)
    assert most == pytest.approx(np.max(away), abs=0.02)
    with pytest.raises(InputError, match="--constant_bones is of .bvh alone, not of .glb"):
        run(f"--input={file}", f"--output={tmp_path / 'a.glb'}", "--constant_bones")


@pytest.mark.parametrize("ending", ["usda", "usdc"])
def test_usd_skins_the_mesh_as_the_project_does(take, tmp_path, ending):
    usd = pytest.importorskip("pxr.Usd")
    from pxr import UsdGeom, UsdSkel

    file, hand = take
    run(f"--input={file}", f"--output={tmp_path / f'a.{ending}'}", "--fps=10")
    stage = usd.Stage.Open(str(tmp_path / f"a.{ending}"))
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert stage.GetTimeCodesPerSecond() == pytest.approx(10)
    root = UsdSkel.Root(stage.GetDefaultPrim())
    assert list(root.GetPrim().GetCustomDataByKey("lostFrames")) == ["frame_2"]
    mesh_prim = UsdGeom.Mesh.Get(stage, "/hand/mesh")
    cache = UsdSkel.Cache()
    cache.Populate(root, usd.PrimDefaultPredicate)
    skinning = cache.GetSkinningQuery(mesh_prim.GetPrim())
    bones = cache.GetSkelQuery(UsdSkel.Skeleton.Get(stage, "/hand/skeleton"))
    for frame in range(5):
        points = mesh_prim.GetPointsAttr().Get()
        moved = bones.ComputeSkinningTransforms(usd.TimeCode(frame))
        assert skinning.ComputeSkinnedPoints(moved, points, usd.TimeCode(frame))
        away = 1000 * np.array(points) - skinned(of_frame(frame, hand), hand)
        assert np.linalg.norm(away, axis=1).max() < 2 * TOLERANCE_MM  # scales are 16-bit floats


def test_times_are_the_stamps_unless_a_rate_is_given(tmp_path):
    names = ["1305031102.00.png", "1305031102.50.png", "1305031103.50.png"]
    file = write(tmp_path / "take.json", ("right",) * 3, names)
    run(f"--input={file}", f"--output={tmp_path / 'a.glb'}")
    np.testing.assert_allclose(Animated(tmp_path / "a.glb").times, [0, 0.5, 1.5], atol=1e-6)
    run(f"--input={file}", f"--output={tmp_path / 'a.glb'}", "--fps=2")
    np.testing.assert_allclose(Animated(tmp_path / "a.glb").times, [0, 0.5, 1], atol=1e-6)


def test_quaternions_go_the_short_way():
    from scipy.spatial.transform import Rotation

    from dgn_tf.animation.sequence import taken_apart

    turns = np.tile(np.eye(4), [40, 1, 1, 1])
    angles = np.linspace(0, 4 * np.pi, 40)
    turns[:, 0, :3, :3] = Rotation.from_rotvec(angles[:, None] * [0, 0, 1]).as_matrix()
    _, quaternion, _ = taken_apart(turns)
    assert ((quaternion[1:] * quaternion[:-1]).sum(axis=-1) > 0.9).all()


def test_lost_frames_hold_the_pose_before_and_leading_ones_the_first(tmp_path):
    file = write(tmp_path / "take.json", ("", "right", "", "", "right"))
    found = hand_sequence(read_parameters(str(file)), TEMPLATE)
    assert found.valid.tolist() == [False, True, False, False, True]
    assert found.lost == ["frame_0", "frame_2", "frame_3"]
    for frame, shown in enumerate((1, 1, 1, 1, 4)):
        np.testing.assert_allclose(
            found.transforms[frame], mesh(shown, "right").transforms, atol=2e-4
        )


def test_more_than_four_parts_may_move_a_vertex(tmp_path):
    """glTF holds four to an attribute: there are as many attributes as it takes."""
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(len(TEMPLATE.parents), 0.5), len(TEMPLATE.vertices))
    file = write(tmp_path / "take.json", ("right",))
    sequence = hand_sequence(read_parameters(str(file)), TEMPLATE)
    template = dataclasses.replace(TEMPLATE, skinning_weights=weights)
    (tmp_path / "a.glb").write_bytes(glb(sequence._replace(template=template)))
    wanted = kinematics.skin(
        tf.constant(mesh().transforms[np.newaxis]), TEMPLATE.vertices, template.skinning_weights
    )[0].numpy()
    away = Animated(tmp_path / "a.glb").vertices(0) * [1000, -1000, -1000] - wanted
    assert np.linalg.norm(away, axis=1).max() < TOLERANCE_MM


def test_one_hand_of_a_file_of_both_is_picked(tmp_path):
    file = write(tmp_path / "take.json", ("right", "left", "left"))
    output = f"--output={tmp_path / 'a.glb'}"
    with pytest.raises(InputError, match=r"a right hand \(1 frames\) and a left one \(2 frames\)"):
        run(f"--input={file}", output)
    run(f"--input={file}", output, "--hand=left")
    away = Animated(tmp_path / "a.glb").vertices(1) * 1000 - skinned(of_frame(1, "left"), "left")
    assert np.linalg.norm(away, axis=1).max() < TOLERANCE_MM
    file = write(tmp_path / "one.json", ("right",))
    with pytest.raises(InputError, match="one.json holds a right hand alone"):
        run(f"--input={file}", output, "--hand=left")
    file = write(tmp_path / "two.json", ("left", "left"), ("a.png", "a.png"))
    with pytest.raises(InputError, match="a holds two left hands"):
        run(f"--input={file}", output)


def test_what_is_wrong_is_said_in_a_line(take, tmp_path, monkeypatch):
    file, _ = take
    output = f"--output={tmp_path / 'a.glb'}"
    with pytest.raises(InputError, match="holds no frame in which a hand was found"):
        run(f"--input={write(tmp_path / 'none.json', ('', ''))}", output)
    with pytest.raises(InputError, match="a.fbx: wanted a name that ends in .glb, .bvh, .usda"):
        run(f"--input={file}", f"--output={tmp_path / 'a.fbx'}")
    with pytest.raises(InputError, match="no.json: cannot read"):
        run(f"--input={tmp_path / 'no.json'}", output)
    told = json.loads(write(tmp_path / "other.json", ("right",)).read_text())
    told["template_hash"] = "0" * 64
    (tmp_path / "other.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match=r"\(000000000000\), not makehuman_right .* --template"):
        run(f"--input={tmp_path / 'other.json'}", output)
    for ending in ("glb", "bvh", "usdc"):
        with pytest.raises(InputError, match=rf"--output=/proc/a.{ending}: can't be written"):
            run(f"--input={file}", f"--output=/proc/a.{ending}")
    monkeypatch.setitem(sys.modules, "pxr", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="USD wants usd-core: install the extra `usd`"):
        run(f"--input={file}", f"--output={tmp_path / 'a.usdc'}")
    assert not (tmp_path / "a.glb").exists()


def test_the_template_is_the_models_or_a_users(tmp_path):
    user = dataclasses.replace(TEMPLATE, name="me", vertices=TEMPLATE.vertices * 1.1)
    user.save(tmp_path / "me.npz")
    file = write(tmp_path / "take.json", ("right",))
    told = json.loads(file.read_text()) | {"template_hash": load_template(tmp_path / "me.npz").hash}
    file.write_text(json.dumps(told))
    run(
        f"--input={file}",
        f"--output={tmp_path / 'a.glb'}",
        f"--template={tmp_path / 'me.npz'}",
    )
    np.testing.assert_allclose(
        Animated(tmp_path / "a.glb").rest, TEMPLATE.vertices * 1.1e-3, atol=1e-6
    )
    with pytest.raises(InputError, match="moves the template makehuman_right"):
        run(f"--input={file}", f"--output={tmp_path / 'a.glb'}", f"--saved_model={MODEL}")


def test_the_animated_mesh_is_the_predicted_one(tmp_path):
    """P_r of a model's own network, from depth frames to the file."""
    predictor = HandMeshPredictor(model_folder(tmp_path), INTRINSICS, "left")
    table = ParameterTable(str(tmp_path / "take.json"), predictor.template)
    meshes = [predictor(blob_frame(u=u)) for u in (150, 170)]
    for name, found in zip(("a.png", "b.png"), meshes, strict=True):
        table.add(name, "found", found)
    table.write()
    run(
        f"--input={tmp_path / 'take.json'}",
        f"--output={tmp_path / 'a.glb'}",
        f"--saved_model={tmp_path / 'model'}",
    )
    animated = Animated(tmp_path / "a.glb")
    for frame, found in enumerate(meshes):
        away = animated.vertices(frame) * [1000, -1000, -1000] - found.vertices
        assert np.linalg.norm(away, axis=1).max() < TOLERANCE_MM
        np.testing.assert_array_equal(animated.faces, found.faces)


@pytest.mark.long
def test_khronos_validator_finds_no_fault(take, tmp_path):
    """Its npm package is installed into a folder of the test's."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("no npm or node")
    install = ["npm", "install", "--no-audit", "--no-fund", "gltf-validator"]
    try:
        done = subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not answer")
    if done.returncode:
        pytest.skip("npm can't install gltf-validator")
    run(f"--input={take[0]}", f"--output={tmp_path / 'a.glb'}")
    script = (
        "require('gltf-validator').validateBytes(new Uint8Array(require('fs')"
        ".readFileSync('a.glb'))).then(r => console.log(JSON.stringify(r.issues)))"
    )
    told = json.loads(subprocess.check_output(["node", "-e", script], cwd=tmp_path))
    assert (told["numErrors"], told["numWarnings"]) == (0, 0), told["messages"]
