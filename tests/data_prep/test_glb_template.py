"""Skinned glTF hands: what was written is found again, what is broken is refused by name.

The WebXR hand itself (npm package @webxr-input-profiles/assets) is looked for in $DGN_WEBXR, the
folder of right.glb and left.glb.
"""

import json
import os
import pathlib

import numpy as np
import pytest
from PIL import Image

from data_prep import skinned_gltf, source_hand, template_assembly
from dgn_tf.errors import InputError
from tests.data_prep import glb_file


@pytest.fixture(autouse=True)
def one_embedding(monkeypatch):
    monkeypatch.setattr(template_assembly, "EMBEDDINGS", ("layered",))  # Scaling takes seconds.


@pytest.fixture(scope="module")
def hand():
    return glb_file.hand()


def build(path, **settings):
    return source_hand.build_template(skinned_gltf.read_glb(path), **settings)


def test_seams_are_welded_and_skeleton_and_skin_are_found_again(hand, tmp_path):
    vertices, faces, weights, joints = hand
    glb_file.write_glb(tmp_path / "hand.glb", *hand)
    found = skinned_gltf.read_glb(tmp_path / "hand.glb")
    assert len(found.vertices) == glb_file.VERTICES and len(found.faces) == len(faces)
    assert found.licence == "CC0"
    nearest = np.linalg.norm(found.vertices[:, None] - vertices, axis=-1)
    match = nearest.argmin(axis=1)
    assert nearest.min(axis=1).max() < 1e-3  # mm.
    np.testing.assert_allclose(found.joints, joints, atol=1e-3)
    np.testing.assert_allclose(found.tips, glb_file.tips(vertices, weights, joints), atol=1e-3)
    # Four bones a vertex are stored, the others' share is passed on.
    assert np.abs(found.weights - weights[match]).max() < 0.05
    template = build(tmp_path / "hand.glb")
    assert len(template.vertices) == glb_file.VERTICES
    assert len(template.wrist_loop) == glb_file.BORDER


def test_the_programs_flags_weld_keep_palm_bones_choose_the_grid_and_draw(
    hand, tmp_path, monkeypatch
):
    from dgn_tf.template import load_template
    from tests.programs import run

    monkeypatch.setattr(template_assembly, "EMBEDDINGS", ("layered", "atlas"))
    vertices, faces, weights, joints = hand
    # No two faces share a corner: they lie 0.02 mm apart.
    corners = faces.reshape(-1)
    apart = vertices[corners] + np.random.default_rng(0).uniform(-0.01, 0.01, [len(corners), 3])
    loose = apart, np.arange(len(corners)).reshape(-1, 3), weights[corners], joints
    glb_file.write_glb(tmp_path / "loose.glb", *loose)
    arguments = [
        "--source=glb",
        f"--input={tmp_path / 'loose.glb'}",
        f"--output={tmp_path / 'hand.npz'}",
        "--poses=0",
    ]
    with pytest.raises(InputError, match="components"):
        run("data_prep.build_template", *arguments)
    pictures = {name: tmp_path / f"{name}.png" for name in ("figure", "turntable")}
    run(
        "data_prep.build_template",
        *arguments,
        "--weld_mm=0.2",
        "--palm_bones",
        "--grid_size=12",
        "--embedding=atlas",
        f"--figure={pictures['figure']}",
        f"--turntable={pictures['turntable']}",
    )
    template = load_template(tmp_path / "hand.npz")
    assert len(template.vertices) == glb_file.VERTICES
    assert {"index0", "little0"} <= set(template.part_names)
    assert (template.grid_size, template.embedding) == (12, "atlas")
    sizes = {name: Image.open(path).size for name, path in pictures.items()}
    assert min(min(size) for size in sizes.values()) > 100 and len(set(sizes.values())) == 2


def test_bones_at_one_place_are_refused(hand, tmp_path):
    vertices, faces, weights, joints = hand
    glb_file.write_glb(
        tmp_path / "a.glb", vertices, faces, weights, joints[[*range(8), 7, *range(9, 16)]]
    )
    with pytest.raises(InputError, match="'middle2' and 'middle1' begin at one place"):
        build(tmp_path / "a.glb")


def test_same_hand_comes_out_however_it_lies_and_on_either_side(hand, tmp_path):
    glb_file.write_glb(tmp_path / "right.glb", *hand)
    glb_file.write_glb(tmp_path / "left.glb", *glb_file.hand(left=True))
    right, left = build(tmp_path / "right.glb"), build(tmp_path / "left.glb")
    assert left.source.endswith("a left hand, mirrored") and "mirrored" not in right.source
    order = [np.lexsort(np.round(t.vertices, 1).T) for t in (right, left)]
    np.testing.assert_allclose(right.vertices[order[0]], left.vertices[order[1]], atol=0.06)
    for field in ("keypoints", "bone_from_template", "joint_limits"):
        np.testing.assert_allclose(getattr(right, field), getattr(left, field), atol=2e-2)
    assert build(tmp_path / "right.glb").to_bytes() == right.to_bytes()


def test_palm_bones_are_kept_when_asked(hand, tmp_path):
    glb_file.write_glb(tmp_path / "hand.glb", *hand)
    found = skinned_gltf.read_glb(tmp_path / "hand.glb", palm_bones=True)
    assert len(found.part_names) == 20 and found.part_names[4:6] == ("index0", "index1")


def test_bone_map_names_the_bones_of_other_rigs(hand, tmp_path):
    def rename(description):
        for node in description["nodes"]:
            if "name" in node:
                node["name"] = "Rig_" + node["name"]

    glb_file.write_glb(tmp_path / "hand.glb", *hand, change=rename)
    with pytest.raises(InputError, match="no bone makes palm.*--bone_map.*Rig_"):
        build(tmp_path / "hand.glb")
    table = {"Rig_" + bone: part for bone, part in skinned_gltf.WEBXR.items()}
    (tmp_path / "map.json").write_text(json.dumps(table))
    bones = skinned_gltf.read_bone_map(tmp_path / "map.json")
    assert skinned_gltf.read_glb(tmp_path / "hand.glb", bones).vertices.shape == (500, 3)
    for bad in ("[]", '{"a": 1}', '{"a": "toe"}', '{"a": "palm"}', "{"):
        (tmp_path / "map.json").write_text(bad)
        with pytest.raises(InputError, match="--bone_map=.*map.json"):
            skinned_gltf.read_bone_map(tmp_path / "map.json")


def test_nails_are_refused_by_count_dropped_or_welded(hand, tmp_path):
    vertices, faces, _, _ = hand
    nail = vertices[faces[-1]]
    touching = (nail + [0.0, 0.0, 0.02], np.array([[0, 1, 2]]))
    glb_file.write_glb(tmp_path / "hand.glb", *hand, extra=[touching])
    with pytest.raises(InputError, match="has 2 components, of 978, 1 triangles.*--components"):
        build(tmp_path / "hand.glb")
    assert len(build(tmp_path / "hand.glb", components="largest").vertices) == 500
    welded = skinned_gltf.read_glb(tmp_path / "hand.glb", weld_mm=0.05)
    assert len(source_hand.build_template(welded).vertices) == 500


def test_closed_hand_ends_at_the_border_of_its_flat_cap(hand, tmp_path):
    vertices, faces, weights, joints = hand
    from dgn_tf.evaluation.mesh_truth import longest_border

    loop = longest_border(faces)
    cap = np.stack([np.roll(loop, -1), loop, np.full(len(loop), len(vertices))], axis=1)
    closed = np.concatenate([vertices, vertices[loop].mean(axis=0, keepdims=True)])
    glb_file.write_glb(
        tmp_path / "hand.glb",
        closed,
        np.concatenate([faces, cap]),
        np.concatenate([weights, np.eye(16)[:1]]),
        joints,
    )
    template = build(tmp_path / "hand.glb")
    assert len(template.vertices) == 501 and len(template.wrist_loop) == glb_file.BORDER


def spoil(*keys, value):
    def change(description):
        for key in keys[:-1]:
            description = description[key]
        description[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (spoil("accessors", 0, "count", value=10**9), "accessor 0.*beyond its buffer"),
        (spoil("accessors", 0, "bufferView", value=-1), "has no bufferViews/-1"),
        (spoil("accessors", 1, "componentType", value=1), "accessor 1 can't be read"),
        (spoil("accessors", 2, "byteOffset", value=-4), "accessor 2.*no number of bytes"),
        (spoil("bufferViews", 3, "byteStride", value=0), "accessor 3"),
        (spoil("buffers", 0, "uri", value="/etc/passwd"), "in another file"),
        (spoil("skins", 0, "joints", value=[0, 1]), "contradict each other"),
        (spoil("skins", 0, "inverseBindMatrices", value=0), "bind matrices of shape"),
        (spoil("nodes", 25, "skin", value="x"), "skinned meshes"),
        (spoil("nodes", value=7), "nodes is no list"),
        (spoil("skins", 0, "joints", 3, value=99), "has no nodes/99"),
        (spoil("nodes", 3, value=5), ""),
        (spoil("meshes", 0, "primitives", 0, "attributes", value={}), "its mesh lacks"),
        (spoil("meshes", 0, "primitives", 0, "mode", value=1), "plain triangles"),
        (spoil("meshes", 0, "primitives", 0, "indices", value="a"), "no number"),
        (spoil("meshes", 0, "primitives", value=[]), "do not go together"),
    ],
)
def test_file_that_contradicts_itself_is_refused_by_name(hand, tmp_path, change, message):
    glb_file.write_glb(tmp_path / "hand.glb", *hand, change=change)
    with pytest.raises(InputError, match=f"hand.glb: .*{message}"):
        skinned_gltf.read_glb(tmp_path / "hand.glb")


def test_cut_file_is_refused_by_name_wherever_it_ends(hand, tmp_path):
    glb_file.write_glb(tmp_path / "whole.glb", *hand)
    data = (tmp_path / "whole.glb").read_bytes()
    for length in (0, 3, 11, 12, 19, 25, 400, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.glb").write_bytes(data[:length])
        with pytest.raises(InputError, match="cut.glb: is no binary glTF"):
            skinned_gltf.read_glb(tmp_path / "cut.glb")


@pytest.mark.parametrize("side", ["right", "left"])
def test_webxr_hand_has_1159_vertices(side):
    if not os.environ.get("DGN_WEBXR"):
        pytest.skip("no WebXR hand: set DGN_WEBXR to the folder of right.glb")
    template = build(pathlib.Path(os.environ["DGN_WEBXR"]) / f"{side}.glb")
    assert len(template.vertices) == 1159 and len(template.part_names) == 16
    assert ("mirrored" in template.source) == (side == "left")
