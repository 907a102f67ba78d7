"""The shipped template and the object that holds it."""

import dataclasses
import json
import zipfile

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.template import EMBEDDINGS, EVALUATED, HandTemplate, load_template, nyu_keypoint_names
from dgn_tf.template.checks import connected, directed_edges


@pytest.fixture(scope="module")
def template():
    return load_template()


def pose(template, angles):
    """Poses the shipped hand by a loop written from Eq. 12; angles: part name to (x, y, z) rad."""
    transforms = []
    for part, name in enumerate(template.part_names):
        frame = template.bone_from_template[part].astype(np.float64)
        x, y, z = angles.get(name, (0.0, 0.0, 0.0))
        local = np.eye(4)
        rx = [[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]
        ry = [[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]
        rz = [[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]
        local[:3, :3] = np.array(rx) @ np.array(ry) @ np.array(rz)
        parent = np.eye(4) if part == 0 else transforms[template.parents[part]]
        transforms.append(parent @ np.linalg.inv(frame) @ local @ frame)
    points = np.pad(template.keypoints, [(0, 0), (0, 1)], constant_values=1)
    weights = template.keypoint_weights
    return np.einsum("jp,pik,jk->ji", weights, np.stack(transforms), points)[:, :3]


def tip(template, finger):
    names = {"little": "F1", "ring": "F2", "middle": "F3", "index": "F4", "thumb": "TH"}
    return template.keypoint_names.index(f"{names[finger]}_KNU3_A")


def test_mesh_is_one_component_and_manifold_but_for_the_wrist_loop(template):
    assert len(np.unique(connected(template.faces, len(template.vertices)))) == 1
    edges = np.sort(directed_edges(template.faces), axis=1)
    unique, counts = np.unique(edges, axis=0, return_counts=True)
    assert counts.max() == 2
    border = {tuple(edge) for edge in unique[counts == 1].tolist()}
    loop = np.sort(np.stack([template.wrist_loop, np.roll(template.wrist_loop, 1)], 1), axis=1)
    assert border == {tuple(edge) for edge in loop.tolist()}


def test_wrist_is_cut_flat_and_no_triangle_is_long(template):
    loop = template.vertices[template.wrist_loop].astype(np.float64)
    assert np.linalg.svd(loop - loop.mean(axis=0))[1][2] < 0.1  # mm.
    corners = template.vertices[template.faces]
    assert np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max() < 25  # mm.


def test_faces_look_outward(template):
    corners = template.vertices[template.faces].astype(np.float64)
    volume = np.einsum("fi,fi->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
    assert 2e5 < volume < 6e5  # mm^3, a hand holds about 0.35 litres.


def test_hand_with_forearm_is_closed(template):
    faces = np.concatenate([template.faces, template.stub_faces])
    edges = {tuple(edge) for edge in directed_edges(faces).tolist()}
    assert len(edges) == 3 * len(faces)
    assert all((b, a) in edges for a, b in edges)


def test_weights_sum_to_one_and_part_of_a_face_moves_it_most(template):
    for weights in (template.skinning_weights, template.keypoint_weights):
        np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert (template.skinning_weights[template.wrist_loop, 0] == 1).all()
    for part in range(len(template.part_names)):
        assert (template.face_part == part).sum() > 20


def test_size_is_that_of_an_adult(template):
    assert template.vertices[:, 2].max() == pytest.approx(185, abs=8)  # mm, wrist to fingertip.


def test_names_are_nyus_and_the_evaluated_are_the_fields(template):
    assert template.keypoint_names == nyu_keypoint_names()
    assert template.keypoint_names[:3] == ("F1_KNU3_A", "F1_KNU3_B", "F1_KNU2_A")
    assert template.keypoint_names[-6:] == tuple(f"PALM_{i}" for i in range(1, 7))
    assert (
        tuple(template.evaluated)
        == EVALUATED
        == (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
    )


def test_bone_frames_sit_at_the_joints_with_z_along_the_parent_bone(template):
    joints = np.linalg.inv(template.bone_from_template.astype(np.float64))
    for part in range(1, len(joints)):
        bone = joints[part, :3, 3] - joints[template.parents[part], :3, 3]
        np.testing.assert_allclose(joints[part, :3, 2], bone / np.linalg.norm(bone), atol=1e-4)


@pytest.mark.parametrize("finger", ["index", "middle", "ring", "little"])
def test_positive_flexion_moves_a_fingertip_to_the_palm_side(template, finger):
    rest = pose(template, {})[tip(template, finger)]
    for bone in (1, 2, 3):
        bent = pose(template, {f"{finger}{bone}": (0.3, 0, 0)})[tip(template, finger)]
        assert bent[1] < rest[1] - 1  # y points to the back of the hand, mm.
    names = [f"{finger}{bone}" for bone in (1, 2, 3)]
    fist = {
        name: (template.joint_limits[template.part_names.index(name), 0, 1], 0, 0) for name in names
    }
    # Bent as far as it goes, it is back at the palm.
    assert pose(template, fist)[tip(template, finger)][2] < rest[2] - 40


def test_thumb_flexes_across_the_palm_and_abducts_away_from_it(template):
    rest = pose(template, {})[tip(template, "thumb")]
    for bone in (1, 2, 3):
        bent = pose(template, {f"thumb{bone}": (0.3, 0, 0)})[tip(template, "thumb")]
        assert bent[0] < rest[0] - 1  # x points to the thumb's side, mm.
    assert pose(template, {"thumb1": (0, 0.3, 0)})[tip(template, "thumb")][1] < rest[1] - 5


def test_positive_abduction_moves_fingers_to_the_thumb(template):
    for finger in ("index", "middle", "ring", "little"):
        spread = pose(template, {f"{finger}1": (0, 0.2, 0)})[tip(template, finger)]
        assert spread[0] > template.keypoints[tip(template, finger)][0] + 5


def test_keypoints_lie_inside_the_hand(template):
    corners = template.vertices[template.faces].astype(np.float64)
    inward = []
    for point in template.keypoints.astype(np.float64):
        a, b, c = (corners[:, i] - point for i in range(3))
        la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
        numerator = np.einsum("fi,fi->f", a, np.cross(b, c))
        denominator = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (a * c).sum(1) * lb
        inward.append(2 * np.arctan2(numerator, denominator).sum() / (4 * np.pi))
    # Winding number; the open wrist takes some of it.
    assert np.all(np.array(inward) > 0.85)


def test_two_standard_deviations_keep_bones_and_key_points_in_order(template):
    joints = np.linalg.inv(template.bone_from_template.astype(np.float64))[:, :3, 3]
    for k, name in enumerate(template.shape_names):
        for sigma in (-2, 2):
            moved = joints + sigma * template.shape_joints[k]
            bones = np.linalg.norm(moved - moved[template.parents], axis=1)[1:]
            rest = np.linalg.norm(joints - joints[template.parents], axis=1)[1:]
            assert np.all(np.abs(bones / rest - 1) < 0.3), name
            keypoints = template.keypoints + sigma * template.shape_keypoints[k]
            vertices = template.vertices + sigma * template.shape_basis[k]
            near = np.linalg.norm(keypoints[:, None] - vertices, axis=-1).min(axis=1)
            was = np.linalg.norm(template.keypoints[:, None] - template.vertices, axis=-1).min(1)
            assert np.all(np.abs(near - was) < 3.5), name  # mm.


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_embeddings_keep_to_the_grid_and_do_not_interpolate_over_seams(template, embedding):
    selected = template.with_embedding(embedding)
    assert selected.num_layers == (2 if embedding == "layered" else 1)
    assert selected.face_coords.min() >= 0.4 and selected.face_coords.max() <= 14.6
    seam = selected.face_is_seam
    assert seam.any() == (embedding == "atlas")
    assert (np.ptp(selected.face_coords[seam], axis=1) == 0).all()
    np.testing.assert_array_equal(
        selected.face_coords[~seam], selected.mesh_coords[selected.faces[~seam]]
    )


def test_layers_are_two_connected_sheets(template):
    for value in (0, 1):
        own = template.vertex_layer == value
        label = connected(template.faces[own[template.faces].all(axis=1)], len(own))[own]
        assert len(np.unique(label)) == 1
    knuckle = np.argmax(template.vertices[:, 1])
    assert template.vertex_layer[knuckle] == 1


def test_saved_template_loads_with_the_same_hash_and_bytes(template, tmp_path):
    template.with_embedding("mds").save(tmp_path / "hand.npz")
    loaded = HandTemplate.load(tmp_path / "hand.npz")
    assert loaded.embedding == "mds" and loaded.hash == template.hash
    assert HandTemplate.load(tmp_path / "hand.npz", "layered").to_bytes() == template.to_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["hand.npz"]


def test_hash_changes_with_any_array(template):
    moved = template.vertices.copy()
    moved[0, 0] += 1e-3
    assert dataclasses.replace(template, vertices=moved).hash != template.hash
    assert template.with_embedding("atlas").hash == template.hash


def test_config_goes_through_json_and_a_template_through_from_config(template):
    config = json.loads(json.dumps(template.with_embedding("atlas").to_config()))
    restored = HandTemplate.from_config(config)
    assert restored.embedding == "atlas" and restored.hash == template.hash
    assert HandTemplate.from_config(restored) is restored
    with pytest.raises(InputError, match="npz"):
        HandTemplate.from_config({"embedding": "mds"})


def test_arrays_are_read_only(template):
    with pytest.raises(ValueError):
        template.vertices[0, 0] = 1


def broken(field, change):
    def make(template):
        array = getattr(template, field).copy()
        change(array)
        return dataclasses.replace(template, **{field: array})

    return field, make


def assign(index, value):
    return lambda array: array.__setitem__(index, value)


@pytest.mark.parametrize(
    "field, make",
    [
        broken("skinning_weights", assign((7, 0), 0.5)),
        broken("keypoint_weights", assign((0, 0), -1.0)),
        broken("vertices", assign((3, 1), np.nan)),
        broken("faces", assign((0, 0), 10**6)),
        broken("faces", assign((slice(0, 2)), 0)),
        broken("wrist_loop", assign(0, 0)),
        broken("parents", assign(1, 5)),
        broken("bone_from_template", assign((2, 0, 0), 3.0)),
        broken("joint_limits", assign((2, 0), (1.0, -1.0))),
        broken("joint_limits", assign((0, 0), (-1.0, 1.0))),
    ],
)
def test_validate_names_the_field_at_fault(template, field, make):
    with pytest.raises(InputError, match=f"hand.npz: {field} "):
        make(template).validate("hand.npz")


def test_validate_names_a_shape(template):
    with pytest.raises(InputError, match=r"shape_basis must have shape \(14, 1669, 3\)"):
        dataclasses.replace(template, shape_basis=template.shape_basis[:, :5]).validate()


def test_coordinates_beyond_the_grid_are_refused(template):
    with pytest.raises(InputError, match="mesh_coords of '.*' must lie in 0 .. 7"):
        dataclasses.replace(template, grid_size=8).validate()


def test_unknown_embedding_is_refused_by_name(template):
    with pytest.raises(InputError, match="no embedding 'spherical'.*--embedding"):
        template.with_embedding("spherical")


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot read the hand template"),
        (b"", "is no hand template"),
        (b"PK\x03\x04 and nothing else", "is no hand template"),
    ],
)
def test_unreadable_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "hand.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"hand.npz: {message}"):
        HandTemplate.load(path)


def test_truncated_and_incomplete_files_are_refused_by_name(template, tmp_path):
    whole = template.to_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cut.npz: is no hand template"):
        HandTemplate.load(tmp_path / "cut.npz")
    template.save(tmp_path / "hand.npz")
    with (
        zipfile.ZipFile(tmp_path / "hand.npz") as source,
        zipfile.ZipFile(tmp_path / "less.npz", "w") as target,
    ):
        for name in source.namelist():
            if name != "faces.npy":
                target.writestr(name, source.read(name))
    with pytest.raises(InputError, match="less.npz: the hand template has no field 'faces'"):
        HandTemplate.load(tmp_path / "less.npz")


def test_objects_in_the_file_are_refused_unread(tmp_path):
    np.savez(tmp_path / "pickle.npz", vertices=np.array([{"a": 1}], object))
    with pytest.raises(InputError, match="pickle.npz: is no hand template.*Python objects"):
        HandTemplate.load(tmp_path / "pickle.npz")
