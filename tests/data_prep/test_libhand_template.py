"""The paper's mesh as a template: sizes, key points in their true places, floors, moving palm."""

import json
import pickle

import numpy as np
import pytest

from data_prep import embedding_floor, libhand, posing, source_hand, template_assembly
from data_prep.template_quality import describe_mesh
from dgn_tf.errors import InputError
from dgn_tf.synthesis.hand_measures import hand_arrays
from dgn_tf.template import nyu_keypoint_names


@pytest.fixture(scope="module")
def folder(shared_data):
    found = shared_data / "libhand1721"
    if not (found / "right_hand.pkl").is_file():
        pytest.skip("no LibHand mesh among the shared data")
    return found


@pytest.fixture(scope="module")
def template(folder):
    return source_hand.build_template(libhand.read_libhand(folder / "right_hand.pkl"))


@pytest.fixture
def one_embedding(monkeypatch):
    monkeypatch.setattr(template_assembly, "EMBEDDINGS", ("layered",))  # Scaling takes seconds.


def test_mesh_is_the_papers(template):
    mesh = describe_mesh(template)
    assert (mesh["vertices"], mesh["faces"], mesh["parts"]) == (1721, 3382, 16)
    # Three faces meet at seven edges, which leaves two flaps with a border of two edges each.
    assert (mesh["components"], mesh["crowded_edges"], mesh["hole_edges"]) == (1, 7, 4)
    assert (mesh["wrist_edges"], mesh["closed_at_the_wrist"]) == (59, False)
    assert mesh["weight_error"] < 1e-5 and min(mesh["vertices_of_part"].values()) > 20


def test_key_points_lie_where_nyus_markers_do(template, folder):
    rows = json.loads((folder / "nyu_markers.json").read_text())["markers"]
    places = np.array([rows[name]["position"] for name in nyu_keypoint_names()])
    wanted = np.linalg.norm(places[:, None] - places, axis=-1) * libhand.MM_PER_UNIT
    found = np.linalg.norm(template.keypoints[:, None] - template.keypoints, axis=-1)
    np.testing.assert_allclose(found, wanted, atol=1e-3)  # mm; the frame is another.
    parts = [template.part_names[part] for part in template.keypoint_weights.argmax(axis=1)]
    assert parts == [libhand.part_of_bone(rows[name]["bone"]) for name in nyu_keypoint_names()]
    # A right hand: the way from the wrist's points to a finger's, and its side, are kept.
    knuckle = template.keypoint_names.index("F3_KNU1_B")
    assert template.keypoints[knuckle, 2] > 80 and template.bone_from_template[0, 2, 2] == 1


@pytest.mark.parametrize("name, bar", [("mds", 11.5), ("atlas", 3.2), ("layered", 1.3)])
def test_floor_at_rest_keeps_to_its_bar(template, name, bar):
    rest = template.vertices[None].astype(np.float64)
    floor = embedding_floor.floor_errors(template.with_embedding(name), rest, 16)
    assert floor["sampled_mm"] <= bar


def test_fingers_curl_to_the_palm(template):
    rest = posing.pose_template(template, np.zeros([1, 16, 3]))[0]
    np.testing.assert_allclose(rest, template.vertices, atol=1e-3)
    for finger in ("thumb", "index", "middle", "ring", "little"):
        angles = np.zeros([1, 16, 3])
        part = template.part_names.index(f"{finger}3")
        angles[0, part, 0] = 0.5
        moved = posing.pose_template(template, angles)[0] - rest
        own = template.skinning_weights[:, part] > 0.9
        middle = template.bone_from_template[part, 1, :3] @ moved[own].mean(axis=0)
        assert middle < -2 and (finger == "thumb" or moved[own].mean(axis=0)[1] < -1)


def test_palm_bones_are_parts_and_the_fingers_hang_on_them(folder, template, one_embedding):
    merged = template
    template = source_hand.build_template(
        libhand.read_libhand(folder / "right_hand.pkl", palm_bones=True)
    )
    names = template.part_names
    assert len(names) == 20 and len(template.vertices) == 1721
    for finger in ("index", "middle", "ring", "little"):
        palm_bone = names.index(f"{finger}0")
        assert template.parents[palm_bone] == 0
        assert template.parents[names.index(f"{finger}1")] == palm_bone
    hand = hand_arrays(template)
    assert [names[part] for part in np.flatnonzero(hand.finger < 0)] == [
        "palm",
        "index0",
        "middle0",
        "ring0",
        "little0",
    ]
    for part in np.flatnonzero(hand.finger >= 0):
        assert hand.segment[part] == int(names[part][-1]) - 1
    assert hand.finger[names.index("thumb1")] == 0
    # Fingers bend about the same axes within the same limits as on a palm of one part.
    same = [names.index(name) for name in merged.part_names]
    for field in ("bone_from_template", "joint_limits"):
        np.testing.assert_allclose(
            getattr(template, field)[same], getattr(merged, field), atol=1e-4
        )


def test_same_file_gives_the_same_bytes(folder, one_embedding):
    first, second = (
        source_hand.build_template(libhand.read_libhand(folder / "right_hand.pkl"))
        for _ in range(2)
    )
    assert first.to_bytes() == second.to_bytes()


def test_without_markers_key_points_are_placed_as_on_other_hands(
    folder, tmp_path, template, one_embedding
):
    (tmp_path / "right_hand.pkl").write_bytes((folder / "right_hand.pkl").read_bytes())
    placed = source_hand.build_template(libhand.read_libhand(tmp_path / "right_hand.pkl"))
    # The table was derived from these markers. On the palm it counts from surfaces that are looked
    # for along the palm's normal, which is taken otherwise there.
    apart = np.linalg.norm(placed.keypoints - template.keypoints, axis=-1)
    assert apart[:30].max() < 0.01 and apart[30:].max() < 6  # mm.


def test_bad_files_are_refused_by_name(tmp_path):
    (tmp_path / "right_hand.pkl").write_bytes(pickle.dumps({"vertices": np.zeros([3, 3])}))
    with pytest.raises(InputError, match="right_hand.pkl: is not LibHand's"):
        libhand.read_libhand(tmp_path / "right_hand.pkl")
    bones = [{"name": 7}]  # A name that is no text.
    (tmp_path / "right_hand.pkl").write_bytes(pickle.dumps({"bones": bones}))
    with pytest.raises(InputError, match="right_hand.pkl: is not LibHand's"):
        libhand.read_libhand(tmp_path / "right_hand.pkl")
    (tmp_path / "nyu_markers.json").write_text('{"markers": {"PALM_1": 3}}')
    with pytest.raises(InputError, match="--markers=.*is no table of NYU's 36 key points"):
        libhand.read_markers(tmp_path / "nyu_markers.json")
