"""Crops out of windows, and that augmentation moves depth, joints and extrinsics alike."""

import math

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry.camera import crop_depth, project, unproject_depth_map
from dgn_tf.records.view_crops import (
    NONE,
    AugmentConfig,
    Motion,
    add_noise,
    augmented_view,
    crop_window,
    draw_motion,
    move_extrinsics,
    move_points,
    punch_holes,
)
from tests.view_records import CUBE, make_step

EXACT = AugmentConfig(depth_noise=0.0, hole_share=0.0)


def record_view(index: int, place: int, window=None):
    """A view as `augmented_view` takes it, and the whole frame it is of."""
    step, frames = make_step(index)
    left, top, width, height = step["window"][place]
    frame = frames[place]
    if window is None:
        window = frame[top : top + height, left : left + width]
    view = {
        "window": window,
        "intrinsics": step["intrinsics"][place],
        "centre": step["centre"][place],
        "cube": CUBE,
        "camera_from_rig": step["camera_from_rig"][place],
        "keypoints": step["keypoints"][place],
        "keypoints_valid": step["keypoints_valid"][place],
    }
    view = {name: tf.constant(value, tf.float32) for name, value in view.items()}
    return {**view, "left_top": tf.constant([left, top], tf.int64)}, frame


def motion(angle: float, scale: float = 1.0) -> Motion:
    return Motion(tf.constant(angle), tf.constant(scale), tf.zeros([3]))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_without_augmentation_a_crop_is_that_of_the_whole_frame_to_the_bit(place):
    for index in range(1, 5):
        view, frame = record_view(index, place)
        crop = tf.function(augmented_view)(view, NONE, 5, tf.constant(index, tf.int64))
        depth, intrinsics = crop_depth(
            tf.constant(frame[np.newaxis], tf.float32),
            view["intrinsics"][tf.newaxis],
            view["centre"][tf.newaxis],
            view["cube"][tf.newaxis],
        )
        np.testing.assert_array_equal(crop["depth"], depth[0])
        np.testing.assert_array_equal(crop["intrinsics"], intrinsics[0])
        for name in ("centre", "keypoints", "camera_from_rig"):
            np.testing.assert_array_equal(crop[name], view[name])


def test_a_pixel_of_an_augmented_crop_is_the_moved_point_of_the_nearest_frame_pixel():
    view, frame = record_view(3, 1)
    drawn = draw_motion(EXACT, 7, tf.constant(11, tf.int64))
    crop = augmented_view(view, EXACT, 7, tf.constant(11, tf.int64))
    assert abs(float(drawn.angle)) > 0.3 and abs(float(drawn.scale) - 1) > 0.01

    points = unproject_depth_map(crop["depth"][tf.newaxis], crop["intrinsics"][tf.newaxis])[0]
    seen = crop["depth"].numpy() > 0
    back = np.linalg.inv(float(drawn.scale) * np.asarray(rotation_z(float(drawn.angle))))
    original = points.numpy()[seen].astype(np.float64) @ back.T
    uvd = project(tf.constant(original), tf.cast(view["intrinsics"], tf.float64)).numpy()
    nearest = np.rint(uvd[:, :2]).astype(int)
    there = frame[nearest[:, 1], nearest[:, 0]]
    # Rays within float32's error of a border between pixels may go to either: 0.01 px.
    border = np.abs(np.abs(uvd[:, :2] - nearest) - 0.5).min(axis=1) < 0.01
    assert seen.sum() > 2000 and border.mean() < 0.1
    np.testing.assert_allclose(uvd[~border, 2], there[~border], rtol=1e-5)


def test_what_a_joint_sits_on_in_the_frame_it_sits_on_in_every_augmented_crop():
    """A surface marked around the joints: depth at each joint's pixel is the joint's own."""
    view, frame = record_view(4, 0)
    marked = np.zeros(frame.shape, np.float32)
    uvd = project(view["keypoints"], view["intrinsics"]).numpy()
    # Far ones first: where two squares overlap, the nearer joint is seen, as in a real frame.
    for u, v, depth in uvd[np.argsort(-uvd[:, 2])]:
        u, v = int(round(u)), int(round(v))
        marked[v - 5 : v + 6, u - 5 : u + 6] = depth
    left, top = view["left_top"].numpy()
    height, width = view["window"].shape
    view["window"] = tf.constant(marked[top : top + height, left : left + width])
    hits = 0
    for number in range(8):
        crop = augmented_view(view, EXACT, 1, tf.constant(number, tf.int64))
        places = project(crop["keypoints"], crop["intrinsics"]).numpy()
        columns, rows = np.rint(places[:, :2]).astype(int).T
        depth = crop["depth"].numpy()[rows, columns]
        nearer = depth < places[:, 2] - 0.01
        np.testing.assert_allclose(depth[~nearer], places[~nearer, 2], rtol=1e-5)
        assert (depth > 0).all()
        hits += np.count_nonzero(~nearer)
    assert hits > 8 * 20


def test_a_quarter_roll_of_square_pixels_turns_the_crop_by_a_quarter():
    rng = np.random.default_rng(0)
    window = rng.uniform(500, 900, [101, 101]).astype(np.float32)
    intrinsics = tf.constant([100.0, 100.0, 50.0, 50.0])
    centre, cube = tf.constant([0.0, 0.0, 600.0]), tf.constant(300.0)
    args = (tf.constant(window), tf.constant([0, 0]), intrinsics, centre, cube)
    upright, _ = crop_window(*args, motion(0.0), 40)
    rolled, _ = crop_window(*args, motion(math.pi / 2), 40)
    # From +x (right) towards +y (down): what was at the right is now at the bottom.
    np.testing.assert_array_equal(rolled, np.rot90(upright.numpy(), -1))


def test_extrinsics_and_joints_of_all_views_agree_in_the_scaled_rig_frame():
    step, _ = make_step(2)
    truth = step["keypoints"][0]  # camera 1 is the rig's frame
    number = tf.constant(5, tf.int64)
    scale = float(draw_motion(EXACT, 3, number, 0).scale)
    angles = []
    for place in range(3):
        view, _ = record_view(2, place)
        crop = augmented_view(view, EXACT, 3, number, place)
        transform = crop["camera_from_rig"].numpy().astype(np.float64)
        np.testing.assert_allclose(transform[:3, :3] @ transform[:3, :3].T, np.eye(3), atol=1e-6)
        rig = (crop["keypoints"].numpy() - transform[:3, 3]) @ transform[:3, :3]
        np.testing.assert_allclose(rig, scale * truth, atol=1e-3)  # mm
        angles.append(float(draw_motion(EXACT, 3, number, place).angle))
    assert len(set(angles)) == 3


def test_extrinsics_move_as_points_do():
    step, _ = make_step(6)
    transform = tf.constant(step["camera_from_rig"][1], tf.float32)
    moved = move_extrinsics(transform, motion(0.7, 1.1)).numpy()
    rig = np.float32([[10, -20, 700], [0, 0, 900]])
    camera = rig @ transform.numpy()[:3, :3].T + transform.numpy()[:3, 3]
    expected = move_points(tf.constant(camera), motion(0.7, 1.1))
    np.testing.assert_allclose(1.1 * rig @ moved[:3, :3].T + moved[:3, 3], expected, atol=1e-3)


def test_missing_pixels_stay_missing_and_noise_makes_none():
    view, _ = record_view(1, 0)
    number = tf.constant(9, tf.int64)
    noisy = AugmentConfig(depth_noise=500.0, hole_share=0.0)  # far beyond what any sensor has
    clean = augmented_view(view, EXACT, 2, number)["depth"].numpy()
    depth = augmented_view(view, noisy, 2, number)["depth"].numpy()
    np.testing.assert_array_equal(depth > 0, clean > 0)
    assert (clean == 0).sum() > 500


def test_noise_has_the_deviation_asked_for_and_grows_with_the_square_of_depth():
    seed = tf.constant([1, 2], tf.int64)
    for depth, deviation in ((1000.0, 2.0), (500.0, 0.5)):
        noise = add_noise(tf.fill([128, 128], depth), 2.0, seed).numpy() - depth
        assert noise.std() == pytest.approx(deviation, rel=0.03)
        assert noise.mean() == pytest.approx(0.0, abs=0.03 * deviation)


@pytest.mark.parametrize("size", [32, 64])
def test_holes_take_about_the_share_asked_for(size):
    ones = tf.ones([size, size])
    punch = tf.function(punch_holes)
    lost = [1 - punch(ones, 0.04, tf.constant([3, i], tf.int64)).numpy().mean() for i in range(200)]
    # Discs overlap and are cut by the border, so a little less.
    assert 0.03 < np.mean(lost) < 0.041


def test_draws_depend_on_seed_number_and_view_alone_and_keep_their_ranges():
    def draws(seed, view=0):
        drawn = [
            draw_motion(AugmentConfig(), seed, tf.constant(n, tf.int64), view) for n in range(100)
        ]
        return np.array([[d.angle, d.scale, *d.jitter] for d in drawn])

    first = draws(1)
    np.testing.assert_array_equal(first, draws(1))
    assert (first[:, 0] != draws(2)[:, 0]).all() and (first[:, 0] != draws(1, 1)[:, 0]).all()
    np.testing.assert_array_equal(first[:, 1], draws(1, 1)[:, 1])
    limits = np.array([math.pi, 0.1, 8.0, 8.0, 8.0])
    away = np.abs(first - [0, 1, 0, 0, 0])
    assert (away <= limits + 1e-6).all() and (away.max(axis=0) > 0.9 * limits).all()


@pytest.mark.parametrize(
    "wrong",
    [{"rotation": -1.0}, {"scale": (1.1, 0.9)}, {"hole_share": 1.0}, {"depth_noise": float("nan")}],
)
def test_a_wrong_range_is_named(wrong):
    with pytest.raises(ValueError, match=f"wants {next(iter(wrong))}"):
        AugmentConfig(**wrong)


def rotation_z(angle):
    cosine, sine = math.cos(angle), math.sin(angle)
    return [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]
