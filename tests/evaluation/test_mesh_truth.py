"""True meshes from files: where they stand, what belongs to which template, and bad files."""

import numpy as np
import pytest

from dgn_tf.errors import InputError
from dgn_tf.evaluation.mesh_truth import MeshTruth, longest_border
from tests.tiny_template import tiny_template


def write(folder, index=(2, 5), **changes):
    """Truth of the tiny template's mesh; returns its two files."""
    template = tiny_template()
    rng = np.random.default_rng(1)
    origin = rng.normal(size=[len(index), 3]) * 50 + [0, 0, 700]
    offsets = np.tile(template.vertices, [len(index), 1, 1]).astype(np.float16)
    truth = {"index": np.array(index), "origin": origin.astype(np.float32), "vertices": offsets}
    rest = {"vertices": template.vertices / 58, "faces": template.faces}
    for name, value in changes.items():
        kind, _, key = name.partition("_")
        (rest if kind == "rest" else truth)[key] = value
    files = folder / "truth.npz", folder / "template.npz"
    for file, arrays in zip(files, (truth, rest), strict=True):
        np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    return files


def test_vertices_are_the_posed_ones_as_the_camera_sees_them_and_nan_without_truth(tmp_path):
    truth = MeshTruth(*write(tmp_path))
    with np.load(tmp_path / "truth.npz") as arrays:
        expected = arrays["origin"][1] + arrays["vertices"][1].astype(np.float64)
    turned = np.eye(4)
    turned[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turned[:3, 3] = [10, 20, 30]
    found = truth.vertices_mm(np.array([5, 3, 5]), np.stack([np.eye(4), np.eye(4), turned]))
    np.testing.assert_allclose(found[0], expected, atol=1e-3)
    assert np.isnan(found[1]).all()
    moved = np.stack([-expected[:, 1] + 10, expected[:, 0] + 20, expected[:, 2] + 30], axis=-1)
    np.testing.assert_allclose(found[2], moved, atol=1e-3)
    assert len(truth) == 2


def test_a_mesh_is_of_the_template_that_has_its_faces(tmp_path):
    template = tiny_template()
    assert MeshTruth(*write(tmp_path)).is_of(template)
    turned = np.roll(template.faces, 1, axis=0)
    assert not MeshTruth(*write(tmp_path, rest_faces=turned)).is_of(template)


def test_wrist_loop_is_the_templates_in_order():
    template = tiny_template()
    loop = longest_border(template.faces)
    edges = {tuple(edge) for edge in np.sort(np.stack([loop, np.roll(loop, 1)], 1)).tolist()}
    wrist = template.wrist_loop
    expected = np.sort(np.stack([wrist, np.roll(wrist, 1)], 1)).tolist()
    assert edges == {tuple(edge) for edge in expected}


def test_longest_border_passes_over_holes_and_loose_ends():
    template = tiny_template()
    tip_open = template.faces[:-3]
    flap = [[20, 21, 90]]  # a third face at an inner edge: its border does not close
    loop = longest_border(np.concatenate([flap, tip_open]))
    assert set(loop.tolist()) == set(template.wrist_loop.tolist())
    closed = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    assert len(longest_border(closed)) == 0


def test_longest_border_of_the_stand_ins_mesh_is_one_loop_around_the_wrist(shared_data):
    file = shared_data / "nyu_like" / "truth" / "template.npz"
    if not file.exists():
        pytest.skip("no nyu_like")
    with np.load(file) as template:
        vertices, faces = template["vertices"], template["faces"]
    loop = longest_border(faces)
    assert len(loop) == len(set(loop.tolist())) == 59
    steps = np.linalg.norm(vertices[loop] - vertices[np.roll(loop, 1)], axis=1) * 58  # mm
    assert steps.max() < 20
    assert np.ptp(vertices[loop], axis=0).max() * 58 > 40


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"truth_origin": None}, "--truth=.* lacks origin"),
        ({"truth_vertices": np.zeros([2, 5, 3])}, r"vertices is \[2, 5, 3\], wanted \[2, 73, 3\]"),
        ({"truth_origin": np.full([2, 3], np.nan)}, "origin has values that are not finite"),
        ({"truth_index": np.array([5, 5])}, "names a frame twice"),
        ({"truth_index": np.array(["a", "b"])}, "index is to be a numeric array"),
        ({"rest_faces": np.array([[0, 1, 73]])}, "vertices 0 .. 72, got 0 .. 73"),
        ({"rest_faces": np.zeros([4, 2], int)}, r"faces are to be \[F, 3\]"),
        ({"rest_vertices": None}, "--truth_template=.* lacks vertices"),
    ],
)
def test_files_that_contradict_themselves_are_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        MeshTruth(*write(tmp_path, **changes))


def test_files_that_cant_be_read_are_named_by_their_flag(tmp_path):
    truth, template = write(tmp_path)
    with pytest.raises(InputError, match="--truth=.*none.npz does not exist"):
        MeshTruth(tmp_path / "none.npz", template)
    (tmp_path / "bad.npz").write_bytes(truth.read_bytes()[:200])
    with pytest.raises(InputError, match="--truth=.*bad.npz can't be read"):
        MeshTruth(tmp_path / "bad.npz", template)
    with pytest.raises(InputError, match="--truth_template=.*bad.npz can't be read"):
        MeshTruth(truth, tmp_path / "bad.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match="--truth=.*one.npy can't be read"):
        MeshTruth(tmp_path / "one.npy", template)
    np.savez(tmp_path / "pickled.npz", index=np.array([{}], object))
    with pytest.raises(InputError, match="--truth=.*pickled.npz can't be read"):
        MeshTruth(tmp_path / "pickled.npz", template)
