import numpy as np

from dgn_tf.geometry.raster import render_mesh
from experiments.visibility import BEHIND, HIDDEN, SEEN, hidden_share, surface_points, visibility
from tests.tiny_template import tiny_template

INTRINSICS = (100.0, 100.0, 31.5, 31.5)


def rendered(vertices, template):
    depth, face, barycentric = render_mesh(vertices, template.faces, INTRINSICS, 64, 64)
    return np.where(np.isfinite(depth), depth, 0.0), face, barycentric


def upright_tube(template):
    """The tube across the view, its palm side (y < 0) to the camera."""
    x, y, z = template.vertices.astype(np.float64).T
    return np.stack([x, 60 - z, 300 + y], axis=-1)


def test_surface_points_of_rendered_pixels_project_to_them():
    template = tiny_template()
    vertices = upright_tube(template)
    depth, face, barycentric = rendered(vertices, template)
    rows, columns = np.nonzero(face >= 0)
    points = surface_points(
        vertices, template.faces, face[rows, columns], barycentric[rows, columns]
    )
    np.testing.assert_allclose(points[:, 2], depth[rows, columns], atol=1e-6)  # mm
    u = points[:, 0] / points[:, 2] * INTRINSICS[0] + INTRINSICS[2]
    np.testing.assert_allclose(u, columns, atol=1e-6)  # pixels


def test_the_near_side_is_seen_the_far_side_is_behind_it():
    template = tiny_template()
    depth, face, barycentric = rendered(upright_tube(template), template)
    shown = visibility(template, depth, face, barycentric)
    y = template.vertices[:, 1]
    assert (shown[y < -6] == SEEN).all()
    assert (shown[y > 6] == BEHIND).all()  # the same mesh coordinates, the other layer


def test_what_no_pixel_leads_to_is_hidden():
    template = tiny_template()
    depth, face, barycentric = rendered(upright_tube(template), template)
    depth[:32] = 0  # the end of the fingers lies up
    shown = visibility(template, depth, face, barycentric)
    z = template.vertices[:, 2]
    assert (shown[z > 80] == HIDDEN).all() and (shown[z < 50] != HIDDEN).all()
    assert (visibility(template, 0 * depth, face, barycentric) == HIDDEN).all()


def test_hidden_share_counts_the_hands_own_pixels():
    template = tiny_template()
    vertices = upright_tube(template)
    depth, face, _ = rendered(vertices, template)
    assert hidden_share(template, vertices, INTRINSICS, depth, face) == 0
    own = face >= 0
    covered = face.copy()
    covered[:, :32] = -1  # an occluder before the left half
    expected = own[:, :32].sum() / own.sum()
    np.testing.assert_allclose(
        hidden_share(template, vertices, INTRINSICS, depth, covered), expected
    )
    away = vertices + [1e4, 0, 0]
    assert np.isnan(hidden_share(template, away, INTRINSICS, depth, face))
