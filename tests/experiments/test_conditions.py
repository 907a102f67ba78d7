import numpy as np
import pytest

from dgn_tf.geometry.raster import render_mesh
from experiments.conditions import (
    CONDITIONS,
    breakdown,
    depth_noise_mm,
    markdown,
    palm_normals,
    worst_frames,
)
from tests.tiny_template import tiny_template


def test_bins_average_to_the_whole_in_every_condition():
    rng = np.random.default_rng(3)
    joints, other = rng.gamma(2.0, 8.0, [200, 14]), rng.gamma(2.0, 8.0, [200])
    known = {name: rng.uniform(0, 200, 200) for name in CONDITIONS}
    known["noise_mm"][:20] = np.nan
    rows = breakdown(known, joints, {"vertices_pr_mm": other})
    assert set(rows) == set(CONDITIONS)
    for bins in rows.values():
        frames = np.array([row["frames"] for row in bins])
        assert frames.sum() == 200
        for key, whole in (("mean_mm", joints.mean()), ("vertices_pr_mm", other.mean())):
            np.testing.assert_allclose(frames @ [row[key] for row in bins] / 200, whole)
        for row in bins:
            assert row["interval_mm"][0] <= row["mean_mm"] <= row["interval_mm"][1]
    assert rows["noise_mm"][-1]["label"] == "not known" and rows["noise_mm"][-1]["frames"] == 20
    assert markdown(rows).count("\n| ") == sum(len(bins) + 1 for bins in rows.values())


def test_an_edge_belongs_to_the_bin_above_it_and_the_last_to_the_last():
    edges = CONDITIONS["view_degrees"].edges
    rows = breakdown({"view_degrees": np.array(edges)}, np.ones([5, 14]), {})["view_degrees"]
    assert [row["frames"] for row in rows] == [1, 1, 1, 2]


@pytest.mark.parametrize("frames, count", [(2000, 20), (100, 1), (101, 2), (7, 1)])
def test_the_worst_are_a_hundredth_rounded_up_worst_first(frames, count):
    joints = np.random.default_rng(frames).gamma(2.0, 8.0, [frames, 14])
    worst = worst_frames(joints)
    means = joints.mean(axis=1)
    assert len(worst) == count and worst[0] == means.argmax()
    rest = np.delete(means, worst)
    assert (np.diff(means[worst]) <= 0).all() and means[worst].min() >= rest.max()


def test_frames_without_truth_are_no_failures():
    joints = np.ones([150, 14])
    joints[3] = np.nan
    joints[7] = 2
    assert worst_frames(joints)[0] == 7 and 3 not in worst_frames(joints, 1.0)


def test_a_palm_that_faces_the_camera_has_its_normal_towards_it():
    template = tiny_template()  # its y axis points to the back
    x, y, z = template.vertices.astype(np.float64).T
    vertices = np.stack([x, -z, y], axis=-1) + [0, 0, 500]
    np.testing.assert_allclose(palm_normals(vertices[None], template), [[0, 0, -1]], atol=1e-5)


def test_noise_is_the_deviation_that_was_added():
    template = tiny_template()
    rng = np.random.default_rng(0)
    x, y, z = template.vertices.astype(np.float64).T
    vertices = np.stack([x, 60 - z, 300 + y], axis=-1)
    depth, face, weights = render_mesh(vertices, template.faces, (200, 200, 63, 63), 128, 128)
    depth = np.where(face >= 0, depth, 0)
    assert depth_noise_mm(template, vertices, depth, face, weights) < 1e-6
    noisy = depth + rng.normal(scale=3.0, size=depth.shape) + 20  # an offset is no noise
    np.testing.assert_allclose(
        depth_noise_mm(template, vertices, noisy, face, weights), 3.0, rtol=0.1
    )
