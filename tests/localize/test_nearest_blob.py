import json

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.localize.finders import blob_candidates

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
INTRINSICS = np.float32([FOCAL, FOCAL, 160, 120])


def plane_points(z, width=WIDTH, height=HEIGHT, intrinsics=INTRINSICS):
    """x, y in mm of each pixel of a plane at depth z."""
    rows, columns = np.mgrid[:height, :width]
    fx, fy, cx, cy = intrinsics
    return (columns - cx) * z / fx, (rows - cy) * z / fy


def disc(centre, radius=70.0, **kwargs):
    """A frame with a disc that faces the camera, before nothing."""
    x, y = plane_points(centre[2], **kwargs)
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
    return np.where(inside, centre[2], 0).astype(np.float32)


def nearest_blob(depth, intrinsics):
    """The best candidate [B, 3] and whether there is one [B]."""
    centre, score = blob_candidates(depth, intrinsics, 1)
    return centre[:, 0], tf.math.is_finite(score[:, 0])


def find(*frames, intrinsics=INTRINSICS):
    centre, found = nearest_blob(np.stack(frames), np.tile(intrinsics, [len(frames), 1]))
    return centre.numpy(), found.numpy()


@pytest.mark.parametrize("centre", [(0, 0, 400), (-60, 40, 600), (150, -90, 900)])
def test_finds_the_centre_of_a_disc(centre):
    found_centre, found = find(disc(centre))
    assert found.all()
    np.testing.assert_allclose(found_centre[0], centre, atol=4)  # mm


def test_does_not_depend_on_the_frame_size():
    centre = (30, -20, 550)
    for width, height in [(640, 480), (160, 120), (512, 424), (240, 320)]:
        intrinsics = np.float32([width * 0.9, width * 0.9, width / 2, height / 2])
        frame = disc(centre, width=width, height=height, intrinsics=intrinsics)
        located, _ = find(frame, intrinsics=intrinsics)
        np.testing.assert_allclose(located[0], centre, atol=6)


def test_frames_of_a_batch_do_not_mix():
    centres = [(0, 0, 400), (-60, 40, 600), (100, 20, 800)]
    together, _ = find(*[disc(centre) for centre in centres])
    alone = np.concatenate([find(disc(centre))[0] for centre in centres])
    np.testing.assert_allclose(together, alone, atol=1e-3)


def test_agrees_in_a_graph_of_unknown_sizes():
    frames = np.stack([disc((20, -30, 480)), np.zeros([HEIGHT, WIDTH], np.float32)])
    intrinsics = np.tile(INTRINSICS, [2, 1])
    graph = tf.function(
        lambda depth, intrinsics: nearest_blob(depth, intrinsics),
        input_signature=[tf.TensorSpec([None, None, None]), tf.TensorSpec([None, 4])],
    )
    for actual, expected in zip(graph(frames, intrinsics), find(*frames), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_the_nearer_of_two_discs_wins():
    near, far = disc((-80, 0, 500)), disc((120, 0, 750))
    located, _ = find(np.where(near > 0, near, far))
    np.testing.assert_allclose(located[0], (-80, 0, 500), atol=4)


def test_ignores_flying_pixels_before_the_hand():
    frame = disc((40, 30, 600))
    frame[5:8, 5:8] = 250
    located, _ = find(frame)
    np.testing.assert_allclose(located[0], (40, 30, 600), atol=4)


@pytest.mark.parametrize("towards", [(0, 1), (1, 0), (-1, 0), (0.7, -0.7)])
def test_prefers_the_hand_to_the_forearm_before_a_body(towards):
    z = 600.0
    x, y = plane_points(z)
    along, across = x * towards[0] + y * towards[1], x * towards[1] - y * towards[0]
    hand = (x**2 + y**2 < 55**2) | (
        (along < 0) & (along > -95) & (np.abs(across) % 24 < 8) & (np.abs(across) < 40)
    )
    arm = (along > 0) & (np.abs(across) < 30)  # leaves the frame
    frame = np.where(hand | arm, z, 900).astype(np.float32)
    located, found = find(frame)
    assert found.all()
    assert np.linalg.norm(located[0] - (0, 0, z)) < 45  # mm; the crop is 300 mm wide


def test_missing_depth_of_any_kind_is_ignored():
    frame = disc((0, 0, 500))
    for missing in (np.nan, np.inf, -np.inf, -5, 30, 65535):
        located, found = find(np.where(frame > 0, frame, missing).astype(np.float32))
        assert found.all()
        np.testing.assert_allclose(located[0], (0, 0, 500), atol=4)


@pytest.mark.parametrize("value", [0, np.nan, 20, 1e5])
def test_a_frame_without_depth_is_not_found_and_finite(value):
    full = disc((0, 0, 500))
    located, found = find(np.full_like(full, value), full)
    assert list(found) == [False, True]
    assert np.isfinite(located).all() and located[0, 2] > 0


def test_a_speck_is_not_a_hand():
    frame = np.zeros([HEIGHT, WIDTH], np.float32)
    frame[100:103, 100:103] = 500
    assert not find(frame)[1].any()


def test_mirrored_frames_have_mirrored_centres():
    frame = disc((60, 30, 600))
    mirrored = np.float32([FOCAL, FOCAL, WIDTH - 1 - 160, 120])
    located, _ = find(frame)
    other, _ = find(frame[:, ::-1], intrinsics=mirrored)
    np.testing.assert_allclose(other[0] * [-1, 1, 1], located[0], atol=3)


def test_finds_the_hand_of_every_sample(checkout):
    from dgn_tf.depth_io import read_depth

    samples = json.loads((checkout / "samples" / "intrinsics.json").read_text())
    intrinsics = np.float32([samples["intrinsics"][name] for name in ("fx", "fy", "cx", "cy")])
    for name, truth in samples["frames"].items():
        frame = read_depth(checkout / "samples" / f"{name}.png", "u16", samples["depth_unit_mm"])
        centre = find(frame, intrinsics=intrinsics)[0][0]
        middle = np.mean(list(truth["keypoints_mm"].values()), axis=0)
        assert np.linalg.norm(centre - middle) < 50, (name, centre, middle)  # mm


def test_finds_real_hands(shared_data):
    from dgn_tf.depth_io import read_depth

    # Middle of the palm by eye, pixels, in the eight frames.
    palms = {
        "030": (298, 318),
        "050": (288, 280),
        "070": (290, 255),
        "090": (312, 240),
        "110": (285, 235),
        "130": (272, 222),
        "150": (300, 225),
        "170": (270, 240),
    }
    intrinsics = np.float32([476.007, 476.007, 313.683, 242.755])
    for stem, palm in palms.items():
        frame = read_depth(shared_data / "frames" / "sr305" / f"{stem}.png", "u16", 0.125)
        ((x, y, z),) = find(frame, intrinsics=intrinsics)[0]
        pixel = np.array([x, y]) / z * intrinsics[:2] + intrinsics[2:]
        assert np.linalg.norm(pixel - palm) * z / intrinsics[0] < 45, stem  # mm


def test_candidates_begin_with_the_nearest_blob_and_lie_apart():
    near, far = disc((-80, 0, 500)), disc((120, 0, 650))
    frames = np.stack([np.where(near > 0, near, far), disc((20, -30, 480))])
    intrinsics = np.tile(INTRINSICS, [2, 1])
    centres, scores = (value.numpy() for value in blob_candidates(frames, intrinsics, 4))
    np.testing.assert_array_equal(centres[:, 0], nearest_blob(frames, intrinsics)[0])
    np.testing.assert_allclose(centres[0, 1], (120, 0, 650), atol=4)
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    assert np.isfinite(scores[1]).sum() == 1, "a disc alone is one candidate"


def test_an_empty_frame_has_no_candidate():
    _, scores = blob_candidates(np.zeros([1, HEIGHT, WIDTH], np.float32), INTRINSICS[np.newaxis], 3)
    assert np.isneginf(scores).all()
