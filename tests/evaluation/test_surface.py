"""Point-to-triangle distances and the symmetric distance of open surfaces."""

import numpy as np
import pytest
import trimesh

from dgn_tf.evaluation import surface

TRIANGLE = np.array([[0.0, 0, 0], [4, 0, 0], [0, 3, 0]])


@pytest.mark.parametrize(
    "point, distance",
    [
        ([1, 1, 2], 2.0),  # above the inside
        ([1, 1, 0], 0.0),
        ([-3, -4, 0], 5.0),  # corner a
        ([6, -1, 0], np.hypot(2, 1)),  # corner b
        ([-1, 5, 2], 3.0),  # corner c
        ([2, -3, 4], 5.0),  # edge ab
        ([-3, 1, 4], 5.0),  # edge ac
        ([2 + 3, 1.5 + 4, 0], 5.0),  # edge bc, along its normal (3, 4)
    ],
)
def test_distance_to_a_triangle_by_region(point, distance):
    found = surface.point_to_surface_mm(np.array([point], float), TRIANGLE, np.array([[0, 1, 2]]))
    assert found[0] == pytest.approx(distance, abs=1e-12)


def test_degenerate_triangles_are_segments_and_points():
    vertices = np.array([[0.0, 0, 0], [10, 0, 0]])
    points = np.array([[5.0, 3, 4], [-3, 4, 0], [14, 0, 3]])
    for faces in ([[0, 1, 1]], [[0, 0, 1]], [[0, 1, 0]]):
        found = surface.point_to_surface_mm(points, vertices, np.array(faces))
        np.testing.assert_allclose(found, [5, 5, 5])
    found = surface.point_to_surface_mm(points, vertices, np.array([[0, 0, 0]]))
    np.testing.assert_allclose(found, np.linalg.norm(points, axis=1))


def test_pruning_changes_nothing_against_dense_samples_of_every_triangle():
    rng = np.random.default_rng(3)
    vertices = rng.normal(size=[40, 3]) * 30
    faces = rng.integers(0, 40, size=[60, 3])
    points = rng.normal(size=[50, 3]) * 40
    found = surface.point_to_surface_mm(points, vertices, faces)
    n = 60
    grid = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]) / n
    samples = (grid @ vertices[faces]).reshape(-1, 3)
    sampled = np.array([np.linalg.norm(samples - p, axis=1).min() for p in points])
    assert np.all(found <= sampled + 1e-9)
    # Half a sample's spacing at a right angle to the distance.
    assert np.max(sampled - found) < 0.5


def test_no_triangle_is_an_error():
    with pytest.raises(ValueError, match="at least one triangle"):
        surface.point_to_surface_mm(np.zeros([1, 3]), TRIANGLE, np.zeros([0, 3], int))


def sphere(subdivisions, radius):
    mesh = trimesh.creation.icosphere(subdivisions, radius)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces), np.zeros(0, int)


def test_areas_of_vertices_add_up_to_the_surface():
    vertices, faces, _ = sphere(3, 10.0)
    assert surface.vertex_areas(vertices, faces).sum() == pytest.approx(400 * np.pi, rel=0.01)


def test_distance_of_concentric_spheres_whatever_the_tessellation():
    for first, second in ((4, 4), (4, 3), (3, 4)):
        found = surface.surface_distance_mm(sphere(first, 50.0), sphere(second, 54.0))
        assert found == pytest.approx(4.0, abs=0.25)  # mm; a coarse sphere lies 0.2 inside
    assert surface.surface_distance_mm(sphere(3, 50.0), sphere(3, 50.0)) == pytest.approx(0.0)


def tube(length, raised_from):
    """Radius 20 mm along z, its radius 25 mm below `raised_from`; the loop at z = 0."""
    around, rings = 24, int(length) + 1
    angles = 2 * np.pi * np.arange(around) / around
    z = np.repeat(np.arange(rings, dtype=float), around)
    radius = np.where(z < raised_from, 25.0, 20.0)
    angles = np.tile(angles, rings)
    vertices = np.stack([radius * np.cos(angles), radius * np.sin(angles), z], axis=-1)
    faces = []
    for ring in range(rings - 1):
        for i in range(around):
            a, b = ring * around + i, ring * around + (i + 1) % around
            faces += [[a, b, a + around], [b, b + around, a + around]]
    return vertices, np.array(faces), np.arange(around)


def test_what_lies_within_15_mm_of_either_wrist_loop_does_not_count():
    plain, bulge = tube(60, 0), tube(60, 8)  # they differ below z = 8 alone
    assert surface.surface_distance_mm(plain, bulge) == pytest.approx(0.0, abs=1e-9)
    assert surface.surface_distance_mm(plain, bulge, margin_mm=0.0) > 0.3
    shorter = tuple(tube(40, 0))
    shorter = (shorter[0] + [0, 0, 20.0], *shorter[1:])  # the same arm, cut 20 mm further up
    assert surface.surface_distance_mm(plain, shorter, margin_mm=21.0) == pytest.approx(0, abs=1e-9)
    assert surface.surface_distance_mm(plain, shorter, margin_mm=5.0) > 0.5


def test_a_collapsed_surface_is_far_off_and_not_unmeasured():
    vertices, faces, loop = tube(60, 0)
    collapsed = (np.tile([0.0, 0.0, 100.0], [len(vertices), 1]), faces, loop)
    assert surface.surface_distance_mm(collapsed, (vertices, faces, loop)) > 50


def test_nothing_left_to_compare_is_not_a_number():
    assert np.isnan(surface.surface_distance_mm(tube(10, 0), tube(10, 0)))
