"""The z-buffer rasteriser against rays cast one by one."""

import numpy as np
import pytest

from dgn_tf.geometry.raster import rasterize, render_mesh

INTRINSICS = (90.0, 95.0, 23.2, 15.7)


def cast(vertices, faces, intrinsics, u, v):
    """(z, face, weights) of the nearest front face on a pixel's ray, by solving for each face."""
    ray = np.array([(u - intrinsics[2]) / intrinsics[0], (v - intrinsics[3]) / intrinsics[1], 1.0])
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    front = np.einsum("fi,fi->f", np.cross(b - a, c - a), a) < 0  # the normal faces the camera
    matrix = np.stack([a - b, a - c, np.broadcast_to(ray, a.shape)], axis=2)
    beta, gamma, z = np.linalg.solve(matrix, a[..., None])[..., 0].T
    inside = front & (np.minimum(np.minimum(beta, gamma), 1 - beta - gamma) >= 0) & (z > 0)
    if not inside.any():
        return np.inf, -1, np.zeros(2)
    number = np.flatnonzero(inside)[np.argmin(z[inside])]
    return z[number], number, np.array([beta[number], gamma[number]])


@pytest.fixture()
def soup():
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=[60, 3]) * [60, 40, 60] + [0, 0, 400]
    faces = rng.integers(0, 60, size=[80, 3])
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2])]
    return vertices, faces[faces[:, 0] != faces[:, 2]]


def test_every_pixel_agrees_with_its_ray(soup):
    vertices, faces = soup
    depth, face, barycentric = render_mesh(vertices, faces, INTRINSICS, 48, 32)
    assert (face >= 0).mean() > 0.3
    for v in range(32):
        for u in range(48):
            z, number, weights = cast(vertices, faces, INTRINSICS, u, v)
            if number < 0:
                assert face[v, u] == -1 and depth[v, u] == np.inf
                continue
            assert abs(depth[v, u] - z) < 1e-6
            assert face[v, u] == number
            np.testing.assert_allclose(barycentric[v, u], weights, atol=1e-7)


def test_rays_off_the_pixel_centres_are_taken_as_given(soup):
    vertices, faces = soup
    rng = np.random.default_rng(1)
    columns = np.arange(24) + rng.uniform(-0.4, 0.4, 24)
    rows = np.arange(20) + rng.uniform(-0.4, 0.4, 20)
    depth, face = np.full([20, 24], np.inf), np.full([20, 24], -1, np.int32)
    barycentric = np.zeros([20, 24, 2])
    rasterize(
        vertices,
        faces.astype(np.uint32),
        INTRINSICS,
        columns,
        rows,
        0.4,
        10.0,
        np.empty_like(vertices),
        depth,
        face,
        barycentric,
    )
    for v in range(20):
        for u in range(24):
            z, number, _ = cast(vertices, faces, INTRINSICS, columns[u], rows[v])
            assert face[v, u] == number
            assert number < 0 or abs(depth[v, u] - z) < 1e-6


def test_back_faces_are_not_drawn():
    triangle = np.array([[-50.0, -50, 300], [50, -50, 300], [0, 60, 300]])
    seen = [
        (render_mesh(triangle, [order], INTRINSICS, 48, 32)[1] >= 0).any()
        for order in ([0, 1, 2], [0, 2, 1])
    ]
    assert sorted(seen) == [False, True]


def test_faces_nearer_than_the_near_plane_are_left_out():
    triangle = np.array([[-50.0, -50, 300], [0, 60, -5], [50, -50, 300]])
    for order in ([0, 1, 2], [0, 2, 1]):
        assert (render_mesh(triangle, [order], INTRINSICS, 48, 32)[1] == -1).all()


def test_a_closed_surface_has_no_cracks():
    # Two triangles that share an edge through pixel centres: none falls between them.
    square = np.array([[-100.0, -100, 250], [100, -100, 250], [100, 100, 250], [-100, 100, 250]])
    _, face, _ = render_mesh(square, [[0, 2, 1], [0, 3, 2]], (100.0, 100.0, 20.0, 20.0), 41, 41)
    assert (face >= 0).all()


@pytest.mark.parametrize("face", [[0, 1, -5], [0, 1, 10**9], [0, 1, 3]])
def test_a_face_that_names_no_vertex_is_refused(face):
    corners = np.float64([[0, 0, 500], [0, 10, 500], [10, 0, 500]])
    with pytest.raises(ValueError, match="faces name vertices"):
        render_mesh(corners, np.array([face]), (100, 100, 8, 8), 16, 16)


def test_corners_that_are_no_numbers_are_left_out():
    corners = np.float64([[0, 0, 500], [0, 100, 500], [100, 0, 500]])
    for value in (np.nan, np.inf, -np.inf, 1e300):
        for place in range(9):
            broken = corners.copy()
            broken.flat[place] = value
            depth, face, _ = render_mesh(broken, np.array([[0, 1, 2]]), (100, 100, 8, 8), 16, 16)
            assert depth.shape == face.shape == (16, 16) and not np.isnan(depth).any()
