"""The mirror: an involution that keeps every relation between points, transforms and cameras."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import camera, mirror

WIDTH, HEIGHT = 640, 480


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def named(rng):
    """Arrays of every name that the mirror knows."""
    arrays = {name: rng.normal(size=[2, 5, 3]).astype(np.float32) for name in mirror.POINTS}
    arrays |= {name: rng.normal(size=[2, 5, 4, 4]) for name in mirror.TRANSFORMS}
    arrays |= {
        name: rng.normal(size=[2, 6, 7, *([2] if axis == -2 else [])])
        for name, axis in mirror.IMAGES.items()
    }
    return arrays


def bits(array):
    return np.asarray(array).tobytes()


def rotation(rng):
    q, _ = np.linalg.qr(rng.normal(size=[3, 3]))
    return q * np.sign(np.linalg.det(q))


def similarity(rng):
    transform = np.eye(4)
    transform[:3, :3] = rng.uniform(0.5, 2.0) * rotation(rng)
    transform[:3, 3] = rng.normal(size=3) * 100
    return transform


def project(points, intrinsics):
    return camera.project(tf.constant(points), tf.constant(intrinsics)).numpy()


def test_mirroring_twice_is_the_identity_bit_for_bit(named):
    once = mirror.mirror_named(named)
    twice = mirror.mirror_named(once)
    for name, array in named.items():
        assert once[name].dtype == array.dtype and bits(once[name]) != bits(array), name
        assert bits(twice[name]) == bits(array), name


def test_a_camera_mirrored_twice_is_itself_to_one_rounding(rng):
    intrinsics = rng.uniform([300, 300, 200, 150], [600, 600, 440, 330], size=[500, 4])
    for kind, ulp in ((np.float64, 2.0**-43), (np.float32, 2.0**-14)):  # of numbers below 640
        given = intrinsics.astype(kind)
        once = mirror.mirror_intrinsics(given, WIDTH)
        twice = mirror.mirror_intrinsics(once, WIDTH)
        assert once.dtype == kind and np.abs(twice - given).max() <= ulp
    whole = np.round(intrinsics * 256) / 256
    twice = mirror.mirror_intrinsics(mirror.mirror_intrinsics(whole, WIDTH), WIDTH)
    assert bits(twice) == bits(whole)


def test_tensors_and_arrays_mirror_alike(named):
    arrays = mirror.mirror_named(named)
    tensors = mirror.mirror_named({name: tf.constant(value) for name, value in named.items()})
    for name, value in arrays.items():
        assert bits(tensors[name].numpy()) == bits(value), name
    intrinsics = np.float32([[500, 501, 310, 240]])
    np.testing.assert_array_equal(
        mirror.mirror_intrinsics(tf.constant(intrinsics), WIDTH),
        mirror.mirror_intrinsics(intrinsics, WIDTH),
    )


def test_other_names_pass_through_as_they_are(rng):
    values = {"confidence": rng.normal(size=[2, 9]), "joint_angles": rng.normal(size=[2, 4, 3])}
    assert all(mirror.mirror_named(values)[name] is value for name, value in values.items())


def test_a_mirrored_transform_moves_mirrored_points_to_mirrored_places(rng):
    transform, points = similarity(rng), rng.normal(size=[20, 3]) * 100
    moved = points @ transform[:3, :3].T + transform[:3, 3]
    mirrored = mirror.mirror_transforms(transform)
    again = mirror.mirror_points(points) @ mirrored[:3, :3].T + mirrored[:3, 3]
    np.testing.assert_allclose(again, mirror.mirror_points(moved), atol=1e-10)
    assert np.linalg.det(mirrored[:3, :3]) == pytest.approx(np.linalg.det(transform[:3, :3]))


def test_a_mirrored_rig_sees_mirrored_points_at_mirrored_pixels(rng):
    in_rig = rng.normal(size=[30, 3]) * 60 + [0, 0, 800]
    for _ in range(3):
        camera_from_rig = similarity(rng)
        camera_from_rig[:3, :3] = rotation(rng)
        camera_from_rig[:3, 3] = [10, -20, 30] - camera_from_rig[:3, :3] @ [0, 0, 800] + [0, 0, 800]
        intrinsics = rng.uniform([500, 500, 300, 220], [600, 600, 340, 260])
        seen = in_rig @ camera_from_rig[:3, :3].T + camera_from_rig[:3, 3]
        moved = mirror.mirror_transforms(camera_from_rig)
        flipped = mirror.mirror_points(in_rig) @ moved[:3, :3].T + moved[:3, 3]
        uvd = project(flipped, mirror.mirror_intrinsics(intrinsics, WIDTH))
        np.testing.assert_allclose(
            uvd * [-1, 1, 1] + [WIDTH - 1, 0, 0], project(seen, intrinsics), atol=1e-9
        )  # px, mm
        # And back: from the mirrored pixel to the rig, then mirrored.
        lifted = camera.unproject(
            tf.constant(uvd), tf.constant(mirror.mirror_intrinsics(intrinsics, WIDTH))
        ).numpy()
        back = mirror.mirror_points((lifted - moved[:3, 3]) @ moved[:3, :3])
        np.testing.assert_allclose(back, in_rig, atol=1e-9)  # mm


def test_a_pixel_and_its_ray_are_mirrored_together(rng):
    depth = rng.uniform(400, 900, size=[HEIGHT, WIDTH])
    intrinsics = np.array([588.0, 587.0, 320.0, 240.0])
    row, column = rng.integers(0, HEIGHT, 50), rng.integers(0, WIDTH, 50)

    def lift(image, column, intrinsics):
        uvd = np.stack([column, row, image[row, column]], axis=-1).astype(np.float64)
        return camera.unproject(tf.constant(uvd), tf.constant(intrinsics)).numpy()

    flipped = lift(
        mirror.mirror_image(depth), WIDTH - 1 - column, mirror.mirror_intrinsics(intrinsics, WIDTH)
    )
    np.testing.assert_allclose(
        flipped, mirror.mirror_points(lift(depth, column, intrinsics)), atol=1e-9
    )  # mm


def test_faces_of_a_mirrored_mesh_enclose_a_positive_volume():
    vertices = np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.int32([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])

    def volume(vertices, faces):
        a, b, c = np.moveaxis(vertices[faces], 1, 0)
        return np.sum(np.cross(a, b) * c) / 6

    assert volume(vertices, faces) == pytest.approx(1 / 6)
    flipped = mirror.mirror_points(vertices)
    assert volume(flipped, mirror.mirror_faces(faces)) == pytest.approx(1 / 6)
    np.testing.assert_array_equal(mirror.mirror_faces(mirror.mirror_faces(faces)), faces)
