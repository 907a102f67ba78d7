import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dgn_tf.geometry import mirror
from dgn_tf.live.steadiness import (
    OneEuroPoint,
    OneEuroTurns,
    PosedTemplate,
    RunningMean,
    SteadyHand,
)
from dgn_tf.template import load_template

STEP = 1 / 30


@dataclasses.dataclass
class Mesh:
    """What of a `HandMesh` is filtered."""

    hand: str
    transforms: np.ndarray
    vertices: np.ndarray
    keypoints: np.ndarray
    joint_angles: np.ndarray


@pytest.fixture(scope="module")
def posed():
    return PosedTemplate(load_template())


def mesh_of(posed, hand="right", turn=(0.1, 0.4, -0.2), place=(20, -10, 600), bend=0.3, scale=1.0):
    """A hand whose joints bend by one angle."""
    parts = len(posed.parents)
    local = np.tile(np.eye(4), [parts, 1, 1])
    local[1:, :3, :3] = Rotation.from_rotvec([[bend, 0, 0]] * (parts - 1)).as_matrix()
    local[0, :3, :3] = scale * Rotation.from_rotvec(turn).as_matrix()
    local[0, :3, 3] = place
    transforms = posed.from_bones @ local @ posed.bones
    for part, parent in enumerate(posed.parents):
        if part:
            transforms[part] = transforms[parent] @ transforms[part]
    vertices, keypoints = posed(transforms)
    if hand == "left":
        transforms = mirror.mirror_transforms(transforms)
        vertices, keypoints = mirror.mirror_points(vertices), mirror.mirror_points(keypoints)
    return Mesh(hand, transforms, vertices, keypoints, np.zeros([parts, 3], np.float32))


def test_a_point_that_holds_still_is_quieter_and_a_steady_motion_passes_whole():
    rng = np.random.default_rng(0)
    quiet = OneEuroPoint()
    noise = rng.normal(0, 1.0, [300, 3])
    found = np.array([quiet(value, STEP) for value in noise])[60:]
    assert found.std() < 0.5
    moving = OneEuroPoint()
    path = np.arange(200)[:, None] * STEP * np.array([500.0, 0, 0])  # mm
    found = np.array([moving(value, STEP) for value in path])
    assert np.abs(found - path)[60:].max() < 500 * STEP / 4  # a quarter of a frame


def test_turns_are_quieter_and_go_the_short_way():
    rng = np.random.default_rng(1)
    still, turns = Rotation.from_rotvec([[0, 0, 3.1]]), OneEuroTurns()
    found = [
        turns(still * Rotation.from_rotvec(rng.normal(0, 0.02, [1, 3])), STEP) for _ in range(200)
    ][60:]
    away = [np.linalg.norm((still.inv() * one).as_rotvec()) for one in found]
    assert np.sqrt(np.mean(np.square(away))) < 0.02
    # From just below half a turn to just above: two hundredths of a radian, not a whole turn.
    one = turns(Rotation.from_rotvec([[0, 0, -3.12]]), STEP)
    assert np.linalg.norm((still.inv() * one).as_rotvec()) < 0.1


def test_bones_are_the_mean_first_and_follow_slowly_then():
    bones = RunningMean(seconds=2.0)
    values = [bones(np.array([float(value)]), STEP)[0] for value in (1, 2, 3, 6)]
    np.testing.assert_allclose(values, [1, 1.5, 2, 3])
    for _ in range(600):
        last = bones(np.array([5.0]), STEP)
    assert last[0] == pytest.approx(5.0, abs=0.01)


@pytest.mark.parametrize("hand", ["right", "left"])
def test_what_does_not_change_passes_as_it_is(posed, hand):
    steady, mesh = SteadyHand(posed), mesh_of(posed, hand)
    for number in range(5):
        found = steady(mesh, number * STEP)
    np.testing.assert_allclose(found.vertices, mesh.vertices, atol=2e-3)
    np.testing.assert_allclose(found.transforms, mesh.transforms, atol=1e-3)
    np.testing.assert_allclose(found.joint_angles[1:, 0], 0.3, atol=1e-4)


def test_a_left_hand_is_filtered_as_its_mirror_image(posed):
    right, left = SteadyHand(posed), SteadyHand(posed)
    for number in range(10):
        how = {"bend": 0.05 * number, "place": (5 * number, 0, 600), "turn": (0, 0.1 * number, 0)}
        one = right(mesh_of(posed, "right", **how), number * STEP)
        other = left(mesh_of(posed, "left", **how), number * STEP)
    np.testing.assert_allclose(mirror.mirror_points(other.vertices), one.vertices, atol=2e-3)
    np.testing.assert_allclose(other.joint_angles, one.joint_angles, atol=1e-5)


def test_bone_lengths_hold_while_their_estimates_jump(posed):
    steady, sizes = SteadyHand(posed), []
    rng = np.random.default_rng(2)
    for number in range(200):
        scale = 1 + 0.05 * rng.normal()
        found = steady(mesh_of(posed, scale=scale), number * STEP)
        sizes.append(np.linalg.norm(found.keypoints[0] - found.keypoints[-1]))
    assert np.std(sizes[100:]) / np.mean(sizes) < 0.01


def test_after_a_gap_or_a_step_back_in_time_it_begins_anew_with_the_same_bones(posed):
    steady = SteadyHand(posed)
    for number in range(30):
        steady(mesh_of(posed, scale=1.1), number * STEP)
    for when in (60.0, 3.0):
        far = mesh_of(posed, place=(200, 0, 900), turn=(0, 0, 1))
        found = steady(far, when)
        away = np.linalg.norm(found.keypoints.mean(0) - far.keypoints.mean(0))
        assert away < 8  # mm; the size is the mean of what was seen, hence not exactly
        assert np.ptp(found.keypoints, axis=0).max() > np.ptp(far.keypoints, axis=0).max()
