import numpy as np

from experiments.silhouette import fit_to_frame, intersection_over_union
from tests.tiny_template import tiny_template

INTRINSICS = (300.0, 300.0, 79.5, 59.5)
CENTRE, CUBE = np.array([0.0, 0.0, 500.0]), 300.0
UP = np.array([0.0, -1.0, 0.0])


def hand_and_frame():
    """The tube upright before the camera, its rendered frame, and its wrist."""
    from dgn_tf.geometry.raster import render_mesh

    template = tiny_template()
    x, y, z = template.vertices.astype(np.float64).T
    vertices = np.stack([x, 50 - z, 500 + y], axis=-1)
    depth, _, _ = render_mesh(vertices, template.faces, INTRINSICS, 160, 120)
    return vertices, template.faces, np.where(np.isfinite(depth), depth, 0), np.array([0, 30, 500])


def fit(depth, vertices, faces, wrist):
    return fit_to_frame(depth, INTRINSICS, CENTRE, CUBE, vertices, faces, wrist, UP)


def test_masks_of_one_shape():
    mask = np.zeros([4, 4], bool)
    assert intersection_over_union(mask, mask) == 1
    mask[:2] = True
    assert intersection_over_union(mask, mask) == 1
    assert intersection_over_union(mask, ~mask) == 0
    assert intersection_over_union(mask, np.roll(mask, 1, axis=0)) == 1 / 3


def test_the_mesh_that_made_the_frame_fits_it_exactly():
    vertices, faces, depth, wrist = hand_and_frame()
    found = fit(depth, vertices, faces, wrist)
    assert found.iou == 1 and found.depth_mm < 1e-6
    # Pixels beyond the wrist count nowhere.
    row = 59.5 + 300 * 30 / 500
    assert not found.hand[int(row) + 1 :].any() and found.hand[int(row)].any()


def test_forearm_and_what_lies_behind_change_nothing():
    vertices, faces, depth, wrist = hand_and_frame()
    scene = depth.copy()
    scene[80:, 60:100] = np.where(depth[80:, 60:100] > 0, depth[80:, 60:100], 500)  # a forearm
    scene[:, 100:][depth[:, 100:] == 0] = 640  # a body in the cube, a step behind
    scene[:, :40] = 900  # a wall beyond it
    found = fit(scene, vertices, faces, wrist)
    assert found.iou == 1 and found.depth_mm < 1e-6


def test_a_small_hole_counts_as_hand_but_not_in_the_depth():
    vertices, faces, depth, wrist = hand_and_frame()
    depth[50:56, 76:82] = 0
    found = fit(depth, vertices, faces, wrist)
    assert found.iou == 1 and found.depth_mm < 1e-6


def test_a_mesh_farther_away_is_off_by_as_much_and_one_elsewhere_has_no_overlap():
    vertices, faces, depth, wrist = hand_and_frame()
    found = fit(depth, vertices + [0, 0, 12], faces, wrist)
    np.testing.assert_allclose(found.depth_mm, 12, atol=0.5)  # mm; other rays, other surface points
    assert 0.8 < found.iou < 1
    found = fit(depth, vertices + [80, 0, 0], faces, wrist)
    assert found.iou == 0 and np.isnan(found.depth_mm)


def test_a_frame_without_hand_has_none():
    vertices, faces, depth, wrist = hand_and_frame()
    found = fit(0 * depth, vertices, faces, wrist)
    assert found.iou == 0 and not found.hand.any()
