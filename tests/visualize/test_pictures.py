import types

import numpy as np
import tensorflow as tf

from dgn_tf.geometry.camera import crop_depth
from dgn_tf.visualize import panels, tiles
from tests.tiny_template import tiny_template

CAMERA = (200.0, 200.0, 49.5, 49.5)


def sphere(centre=(0, 0, 500), radius=60.0, steps=24):
    """Vertices and outward faces of a ball."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, steps))
    points = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
    index = np.arange(steps**2).reshape(steps, steps)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return points.reshape(-1, 3) * radius + centre, faces


def test_normals_of_a_ball_point_outward():
    vertices, faces = sphere(centre=(0, 0, 0))
    normals = tiles.vertex_normals(vertices, faces)
    inner = np.abs(vertices[:, 2]) < 59  # the poles and the seam have half of their faces
    assert ((normals * vertices / 60).sum(-1)[inner] > 0.95).all()


def test_shade_draws_the_near_side_at_its_depth():
    vertices, faces = sphere()
    rgb, alpha, depth = tiles.shade(vertices, faces, CAMERA, 100, 100)
    assert alpha[50, 50] == 1 and alpha[0, 0] == 0
    np.testing.assert_allclose(depth[49, 49], 440, atol=2)
    covered = alpha.sum() / (np.pi * (200 * 60 / 500) ** 2)  # against the disc, a little larger
    assert 0.95 < covered < 1.1
    assert rgb[40, 45].sum() > 1.2 * rgb[62, 62].sum()  # the light comes from above


def test_shade_leaves_out_faces_seen_from_behind():
    vertices, faces = sphere()
    _, alpha, depth = tiles.shade(vertices, faces[:, ::-1], CAMERA, 100, 100)
    np.testing.assert_allclose(depth[49, 49], 560, atol=2)  # the far side's inside


def test_window_is_the_networks_crop():
    rng = np.random.default_rng(3)
    depth = rng.uniform(300, 900, [60, 80]).astype(np.float32)
    intrinsics, centre = np.float32([70, 72, 41, 28]), np.float32([60, -50, 520])
    cut, camera = tiles.window(depth, intrinsics, centre, 300.0, 64)
    expected, expected_camera = crop_depth(
        tf.constant(depth[None]),
        tf.constant(intrinsics[None]),
        tf.constant(centre[None]),
        tf.constant([300.0]),
        64,
    )
    assert (cut == expected[0].numpy()).mean() > 0.99  # float32 decides ties the other way
    np.testing.assert_allclose(camera, expected_camera[0], rtol=1e-4)


def test_enlarged_intrinsics_keep_the_rays():
    camera = tiles.enlarged_intrinsics([100.0, 90, 31.5, 30], 64, 256)
    # Pixel 10's middle, on which four pixels of the large picture are centred, at 41.5.
    np.testing.assert_allclose((41.5 - camera[2]) / camera[0], (10 - 31.5) / 100)


def test_correspondence_colours_run_with_the_coordinates():
    coords = np.stack(np.meshgrid(np.arange(16.0), np.arange(16.0)), -1)
    tile = tiles.correspondence_tile(coords, np.arange(256).reshape(16, 16) > 0, 16)
    assert (np.diff(tile[3, :, 0].astype(int)) > 0).all()
    assert (np.diff(tile[:, 3, 1].astype(int)) > 0).all()
    assert tuple(tile[0, 0]) == tiles.BACKGROUND


def test_key_points_are_drawn_where_they_project():
    names = [f"F1_KNU{i}_{s}" for i in (3, 2, 1) for s in "AB"] + ["PALM_3"]
    keypoints = np.float32([[0, -100 + 25 * i, 500] for i in range(7)])
    over = np.zeros([100, 100, 3], np.uint8)
    picture = tiles.keypoint_tile(keypoints, names, CAMERA, over)
    assert picture[24, 48:52].any() and not picture[24, :40].any()
    assert not over.any()  # the background was not drawn on


def test_key_points_behind_the_camera_and_not_finite_depth_do_no_harm():
    over = np.zeros([20, 20, 3], np.uint8)
    keypoints = np.float32([[0, 0, -5], [1e9, 0, 1e-3]])
    assert tiles.keypoint_tile(keypoints, ["F1_A", "PALM_3"], CAMERA, over).shape == over.shape
    assert tiles.depth_tile(np.float32([[np.nan, np.inf], [0, 500]]), 500.0).shape == (2, 2, 3)


def test_panel_shows_six_pictures_1200_wide():
    template = tiny_template()
    vertices = template.vertices @ np.float32([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) + [0, 60, 500]
    hand = types.SimpleNamespace(
        centre=(0, 0, 500.0),
        cube_mm=300.0,
        vertices=vertices,
        faces=template.faces,
        keypoints=template.keypoints + np.float32([0, 0, 500]),
        keypoint_names=template.keypoint_names,
        mesh_coords=np.zeros([64, 64, 2], np.float32),
        valid=np.ones([64, 64], bool),
        grid_size=16,
        num_layers=1,
    )
    camera = (107.0, 107.0, 31.5, 31.5)
    depth = np.full([64, 64], 500, np.float32)
    picture = panels.render_panel(depth, camera, hand, title="a frame")
    assert picture.dtype == np.uint8 and picture.shape[1:] == (1200, 3)
    assert picture.shape[0] >= 800
    hand.valid = np.zeros([64, 64], bool)
    small = panels.render_panel(0 * depth, camera, hand, size=96)
    assert small.shape[1] == 3 * 96
