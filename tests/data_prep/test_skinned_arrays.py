"""Any hand of arrays like MANO's: other joints, names and units, brought to one template."""

import functools
import json
import pathlib

import numpy as np
import pytest

import data_prep
from data_prep import template_assembly
from data_prep.skinned_arrays import read_skinned_arrays
from data_prep.skinned_gltf import read_bone_map
from dgn_tf.errors import InputError
from dgn_tf.template import HandTemplate, load_template
from tests import programs
from tests.data_prep import glb_file

MAPS = pathlib.Path(data_prep.__file__).parent
FINGERS = ("thumb", "index", "middle", "ring", "little")


@functools.cache
def arrays() -> dict:
    """A hand as SOMA-X has its: 25 joints in centimetres, the wrist and chains that end at tips.

    Fingers but the thumb begin within the palm, whose skin those joints share.
    """
    vertices, faces, weights, joints = glb_file.hand()
    tips = glb_file.tips(vertices, weights, joints)
    parts = load_template().part_names
    names, places, columns = ["RightHand"], [joints[0]], [weights[:, 0] / 2]
    for finger, tip in zip(FINGERS, tips, strict=True):
        own = [parts.index(f"{finger}{bone}") for bone in (1, 2, 3)]
        chain = [joints[part] for part in own]
        skin = [weights[:, part] for part in own]
        if finger != "thumb":
            chain.insert(0, 0.7 * joints[0] + 0.3 * chain[0])
            skin.insert(0, weights[:, 0] / 8)
        stem = f"RightHand{'Pinky' if finger == 'little' else finger.title()}"
        names += [f"{stem}{number + 1}" for number in range(len(chain))] + [f"{stem}End"]
        places += [*chain, tip]
        columns += [*skin, np.zeros(len(vertices))]
    return {
        "v_template": vertices / 10,
        "f": faces,
        "weights": np.stack(columns, axis=1),
        "J": np.stack(places) / 10,
        "joint_names": np.array(names),
        "kintree_table": np.zeros([2, len(names)], np.int64),  # nobody asks for it
    }


def bone_map() -> dict[str, str]:
    """The one that ships for SOMA-X's names, in the order of a hand's joints."""
    return read_bone_map(MAPS / "soma_right.json")


@pytest.fixture
def files(tmp_path):
    np.savez(tmp_path / "hand.npz", **arrays())
    (tmp_path / "map.json").write_text(json.dumps(bone_map()))
    return tmp_path


def build(folder, *more):
    programs.run(
        "data_prep.build_template",
        "--source=arrays",
        f"--input={folder / 'hand.npz'}",
        f"--bone_map={folder / 'map.json'}",
        "--unit_mm=10",
        "--poses=0",
        f"--output={folder / 'template.npz'}",
        *more,
    )
    return HandTemplate.load(folder / "template.npz")


def test_other_joints_names_and_units_make_a_template(files, monkeypatch):
    monkeypatch.setattr(template_assembly, "EMBEDDINGS", ("layered",))  # scaling takes seconds
    template = build(files, "--name=other", "--licence=CC0")
    shipped = load_template()
    assert (template.name, template.licence) == ("other", "CC0")
    assert template.part_names == shipped.part_names  # the palm's bones are one part
    joints = [
        np.linalg.inv(t.bone_from_template.astype(float))[:, :3, 3] for t in (template, shipped)
    ]
    apart = [np.linalg.norm(own - own[shipped.parents], axis=1) for own in joints]
    np.testing.assert_allclose(*apart, atol=1e-2)  # mm: it is the same skeleton
    assert template.keypoint_names == shipped.keypoint_names
    away = np.linalg.norm(template.keypoints - shipped.keypoints, axis=1)
    assert np.median(away) < 5.0  # of a mesh of 500 vertices
    bones = build(files, "--palm_bones")
    assert len(bones.part_names) == 20 and "index0" in bones.part_names


def test_a_pickle_and_joints_without_names_are_read_too(files):
    import pickle

    content = {k: v for k, v in arrays().items() if k not in ("joint_names", "J")}
    # A regressor in place of the joints' places: the nearest vertices' affine combination.
    vertices, joints = content["v_template"], arrays()["J"]
    regressor = np.zeros([len(joints), len(vertices)])
    for row, joint in zip(regressor, joints, strict=True):
        near = np.argsort(np.linalg.norm(vertices - joint, axis=1))[:40]
        system = np.concatenate([np.ones([1, 40]), vertices[near].T])
        row[near] = np.linalg.pinv(system) @ np.append(1, joint)
    content["J_regressor"] = regressor
    content["shapedirs"] = vertices[:, :, None] * [0.05]  # larger and smaller
    (files / "hand.pkl").write_bytes(pickle.dumps(content, protocol=2))
    names = arrays()["joint_names"].tolist()
    numbered = {str(names.index(joint)): part for joint, part in bone_map().items()}
    hand = read_skinned_arrays(files / "hand.pkl", numbered, unit_mm=10.0)
    named = read_skinned_arrays(files / "hand.npz", bone_map(), unit_mm=10.0)
    np.testing.assert_allclose(hand.joints, named.joints, atol=1e-6)
    np.testing.assert_allclose(hand.tips, named.tips, atol=1e-6)
    np.testing.assert_allclose(hand.weights.sum(axis=1), 1)
    assert named.shapes is None and hand.shapes.names == ("shape_1",)
    np.testing.assert_allclose(hand.shapes.joints[0], 0.05 * hand.joints, atol=1e-6)


@pytest.mark.parametrize(
    "change, line",
    [
        (lambda told: told.pop("weights"), "it has no 'weights'"),
        (lambda told: told.pop("J"), "it has no 'J'"),
        (lambda told: told.update(weights=told["weights"][:, 1:]), r"weights is \(500, 24\)"),
        (lambda told: told.update(f=told["f"] + 9999), "f names vertices that it does not have"),
        (lambda told: told.update(weights=-told["weights"]), "weights are negative"),
        (lambda told: told.update(joint_names=np.array(["a"] * 25)), "1 different joint_names"),
        (lambda told: told.update(J=told["J"] * np.nan), "J is .* of finite numbers"),
    ],
)
def test_a_file_of_another_structure_is_told(files, change, line):
    told = dict(arrays())
    change(told)
    np.savez(files / "hand.npz", **told)
    with pytest.raises(InputError, match=line):
        read_skinned_arrays(files / "hand.npz", bone_map())


def test_a_map_that_does_not_fit_is_told(files):
    with pytest.raises(InputError, match="--source=arrays wants --bone_map=FILE"):
        programs.run(
            "data_prep.build_template",
            "--source=arrays",
            "--input=x",
            f"--output={files / 'o.npz'}",
        )
    with pytest.raises(InputError, match="no joint Hand; its joints are RightHand, "):
        read_skinned_arrays(files / "hand.npz", {**bone_map(), "Hand": "palm"})
    short = {joint: part for joint, part in bone_map().items() if part != "index2"}
    with pytest.raises(InputError, match="no bone makes index2"):
        (files / "map.json").write_text(json.dumps(short))
        read_skinned_arrays(files / "hand.npz", read_bone_map(files / "map.json"))
    adrift = {joint: part for joint, part in bone_map().items() if part[-1] in "123"}
    with pytest.raises(InputError, match="vertices move with joints that the bone map leaves out"):
        read_skinned_arrays(files / "hand.npz", {**adrift, "RightHandIndexEnd": "palm"})


def test_the_maps_of_both_sides_are_mirrored_names():
    left = read_bone_map(MAPS / "soma_left.json")
    assert {joint.replace("Left", "Right"): part for joint, part in left.items()} == bone_map()
    assert list(bone_map()) == arrays()["joint_names"].tolist()
