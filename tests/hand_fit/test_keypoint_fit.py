"""The fit of a template to key points: round trips, invariances, gaps, the derivative."""

import dataclasses

import numpy as np
import pytest

from data_prep.posing import skin, transforms_from_angles
from dgn_tf.hand_fit import keypoint_fit, residuals, skeleton, solver
from dgn_tf.hand_fit.keypoint_fit import SCALED_PARTS, KeypointHand, fit_keypoints
from dgn_tf.template import load_template
from tests.tiny_template import tiny_template

FRAMES = 6
AWAY = np.array([30.0, -40.0, 700.0])
FINGERS = {"thumb": "TH", "index": "F4", "middle": "F3", "ring": "F2", "little": "F1"}


@pytest.fixture(scope="module")
def template():
    return load_template()


@pytest.fixture(scope="module")
def poses(template):
    """(angles [N, 16, 3] rad within limits, key points [N, 36, 3] mm, camera frame)."""
    rng = np.random.default_rng(2)
    low, high = template.joint_limits[..., 0], template.joint_limits[..., 1]
    angles = low + (high - low) * rng.uniform(0.1, 0.9, [FRAMES, *low.shape])
    angles[:, 0] = rng.uniform(-1, 1, [FRAMES, 3])
    transforms = transforms_from_angles(angles, template.bone_from_template, template.parents)
    return angles, skin(transforms, template.keypoints, template.keypoint_weights) + AWAY


@pytest.fixture(scope="module")
def fitted(template, poses):
    return fit_keypoints(template, poses[1])


def test_known_poses_come_back(template, poses, fitted):
    angles, _ = poses
    assert fitted.residual_mm.max() < 0.02  # mm
    off = np.abs(fitted.angles - angles)
    assert off[:, 0].max() < 1e-3  # rad: the hand's rotation
    assert off[:, 1:, 0].max() < 0.05  # flexion; what else turns a bone, its points tell less of
    assert off[:, 1:, 1].max() < 0.1
    assert off[:, 1:, 2].max() < 0.2  # twist: within the width of its limits
    np.testing.assert_allclose(fitted.bone_scales, 1.0, atol=0.005)
    assert fitted.fitted.all() and fitted.observed.all()


def test_no_joint_leaves_its_limits_for_what_key_points_dont_tell(template, fitted):
    low, high = template.joint_limits[1:, :, 0], template.joint_limits[1:, :, 1]
    beyond = fitted.angles[:, 1:] - np.clip(fitted.angles[:, 1:], low, high)
    assert np.abs(beyond).max() < 0.03  # rad


def test_a_rigid_motion_and_a_scale_change_nothing_but_the_hands_place(template, poses, fitted):
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    moved = 0.8 * (poses[1] - AWAY) @ turn.T + [-50, 20, 500]
    fit = fit_keypoints(template, moved)
    np.testing.assert_allclose(fit.angles[:, 1:], fitted.angles[:, 1:], atol=0.05)  # rad
    np.testing.assert_allclose(fit.bone_scales, 0.8 * fitted.bone_scales, atol=0.004)
    assert fit.residual_mm.max() < 0.02
    linear = np.einsum("ij,njk->nik", 0.8 * turn, fitted.transforms[:, 0, :3, :3])
    np.testing.assert_allclose(fit.transforms[:, 0, :3, :3], linear, atol=2e-3)


def test_fingers_have_scales_of_their_own(template, poses):
    """One finger a tenth longer, from its knuckle on."""
    angles, _ = poses
    names, joints = template.part_names, np.linalg.inv(template.bone_from_template)[:, :3, 3]
    transforms = transforms_from_angles(angles, template.bone_from_template, template.parents)
    own = [names.index(f"ring{bone}") for bone in (1, 2, 3)]
    longer, knuckle = np.diag([1.1, 1.1, 1.1, 1.0]), joints[own[0]]
    longer[:3, 3] = -0.1 * knuckle  # template_from_template: 1.1 times as large about the knuckle
    turned = transforms[:, 0]
    local = [
        np.linalg.inv(transforms[:, template.parents[part]]) @ transforms[:, part] for part in own
    ]
    for part, turn in zip(own, local, strict=True):
        joint = knuckle + 1.1 * (joints[part] - knuckle)
        turn[:, :3, 3] = joint - turn[:, :3, :3] @ joint
        turned = turned @ turn
        transforms[:, part] = turned @ longer
    points = skin(transforms, template.keypoints, template.keypoint_weights) + AWAY
    fit = fit_keypoints(template, points)
    ratio = fit.bone_scales / fit.bone_scales[:, :1]
    np.testing.assert_allclose(ratio[:, own], 1.1, atol=0.005)
    others = [p for p in range(16) if p not in own]
    np.testing.assert_allclose(ratio[:, others], 1.0, atol=0.005)
    assert fit.residual_mm.max() < 0.02
    shared = fit_keypoints(template, points, finger_scales="subject", subjects=np.zeros(FRAMES))
    np.testing.assert_allclose(
        shared.bone_scales[:, own] / shared.bone_scales[:, :1], 1.1, atol=0.005
    )
    assert np.ptp(shared.bone_scales / shared.bone_scales[:, :1], axis=0).max() < 1e-5
    alike = fit_keypoints(template, points, finger_scales="palm")
    assert np.ptp(alike.bone_scales, axis=1).max() < 1e-5
    assert alike.residual_mm.max() > 0.5


def test_masked_points_have_no_say(template, poses):
    """Two points missing in some frames, garbage in their stead: the same as without them."""
    points = poses[1].copy()
    points[1::2, 2] = np.nan
    points[1::2, 33, 1] = np.inf
    fit = fit_keypoints(template, points)
    missing = ~np.isfinite(points).all(axis=-1)
    np.testing.assert_array_equal(np.isnan(fit.residual_mm), missing)
    assert np.nanmax(fit.residual_mm) < 0.05
    assert np.isfinite(fit.transforms).all()
    posed = skin(fit.transforms, template.keypoints, template.keypoint_weights)
    assert np.linalg.norm(posed - poses[1], axis=-1).max() < 3.0  # mm: the neighbours tell


def test_what_is_missing_or_degenerate_stays_finite_and_at_rest(template, poses):
    points = poses[1][:4].copy()
    points[0, 6:12] = np.nan  # a finger
    points[1, 30:] = np.nan  # the palm
    points[2] = np.linspace(0, 1, 36)[:, None] * [100.0, 0, 0] + AWAY  # all on a line
    points[3] = AWAY  # all in one place
    fit = fit_keypoints(template, points)
    for name, value in fit._asdict().items():
        if "residual" not in name:
            assert np.isfinite(value).all(), name
    assert fit.fitted.tolist() == [True, False, True, True]
    ring = [template.part_names.index(f"ring{bone}") for bone in (1, 2, 3)]
    assert not fit.observed[0, ring].any() and fit.observed[0].sum() == 13
    assert np.abs(fit.angles[0, ring]).max() < 0.05  # rad from rest
    assert np.isnan(fit.residual_mm[1]).all() and not fit.observed[1].any()


def test_fourteen_key_points_are_enough_for_a_hand(template, poses):
    names = [template.keypoint_names[j] for j in template.evaluated]
    fit = fit_keypoints(template, poses[1][:, template.evaluated], names)
    assert fit.fitted.all() and fit.residual_mm.max() < 0.05


def test_closed_form_finds_palm_and_scales(template, poses):
    hand = KeypointHand(template)
    valid = np.ones([FRAMES, 36], bool)
    root = hand.fit_palm(0.9 * poses[1], valid)
    np.testing.assert_allclose(np.cbrt(np.linalg.det(root[:, :3, :3])), 0.9, atol=1e-4)
    scaled = np.flatnonzero(hand.skeleton.scaled > 0)
    assert [template.part_names[part] for part in scaled] == list(SCALED_PARTS)
    scales = hand.bone_scales(root, 0.9 * poses[1], valid)
    np.testing.assert_allclose(scales - [np.log(0.9), 0, 0, 0, 0, 0], 0.0, atol=1e-3)
    pose = hand.fit_chains(root, 0.9 * poses[1], valid, scales)
    off = hand.posed(pose)[1] - 0.9 * poses[1]
    assert np.linalg.norm(off, axis=-1).mean() < 3.0  # mm, before refinement


@pytest.mark.parametrize("fixed", [False, True])
def test_normal_equations_are_the_derivative_of_the_energy(fixed):
    """With blended key points, a gap, scales, and joints beyond limits."""
    rng = np.random.default_rng(4)
    tiny = tiny_template()
    tiny = dataclasses.replace(tiny, part_names=("palm", "index1", "index2", "thumb2"))
    hand = KeypointHand(tiny)
    turn = np.tile(np.eye(3), [2, 1, 1])
    angles = rng.normal(scale=0.5, size=[2, 4, 3])
    angles[:, 0] = 0
    place = rng.normal(size=[2, 3]) + AWAY
    pose = skeleton.Poses(turn, place, angles, rng.normal(scale=0.1, size=[2, 3]))
    points = hand.posed(pose)[1] + rng.normal(scale=3, size=[2, 36, 3])
    valid = np.ones([2, 36], bool)
    valid[0, 5] = False
    weights, wanted = keypoint_fit._WEIGHTS[0], pose.log_scales + 0.1
    parameters = hand.skeleton.sizes[0]
    rows = residuals.Rows(np.empty([108, parameters]), np.empty(108))

    def equations(poses):
        out = solver.equations_of(2, parameters)
        residuals.keypoint_equations(
            hand.skeleton,
            weights,
            fixed,
            wanted,
            *poses,
            points,
            valid,
            skeleton.room(hand.skeleton),
            rows,
            out,
        )
        return out

    found, slope, step = equations(pose), np.zeros([2, parameters]), 1e-5
    for column in range(parameters):
        change = np.zeros([2, parameters])
        change[:, column] = step
        ends = [equations(skeleton.moved(pose, sign * change)).energy for sign in (1, -1)]
        slope[:, column] = (ends[0] - ends[1]) / (2 * step)
    if fixed:  # Its derivative is not followed: only the pull to where scales began stays.
        slope[:, -2:] = weights.scale**2 * -0.1
    np.testing.assert_allclose(found.right, -slope, rtol=1e-5, atol=1e-4)
    assert np.linalg.eigvalsh(found.square).min() > -1e-6


def test_shapes_and_scales_that_dont_fit_are_refused(template, poses):
    with pytest.raises(ValueError, match=r"wants key points \[N, 36, 3\]"):
        fit_keypoints(template, poses[1][:, :14])
    with pytest.raises(ValueError, match="one of .'frame', 'subject', 'palm'."):
        fit_keypoints(template, poses[1], finger_scales="none")
