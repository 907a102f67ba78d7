"""Parameters of posed hands: back to the transforms, and what each of them says."""

import json
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.transform import Rotation

from dgn_tf.errors import InputError
from dgn_tf.geometry import kinematics
from dgn_tf.joint_angles import freedoms
from dgn_tf.parameters import MIRROR, bones_of, hand_parameters, posed_by, transforms_of
from dgn_tf.template import load_template

TEMPLATE = load_template()
PARTS = len(TEMPLATE.parents)


def posed(seed=0, hand="right"):
    """A hand of random angles and scales, and the angles."""
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(rng.normal(0, 0.6, [PARTS, 3]))
    local = np.tile(np.eye(4), [PARTS, 1, 1])
    scale = rng.uniform(0.8, 1.2, PARTS)
    local[:, :3, :3] = turns.as_matrix() * scale[:, None, None]
    local[0, :3, 3] = [30, -20, 500]
    transforms = kinematics.global_from_local(
        tf.constant(local[np.newaxis]), TEMPLATE.bone_from_template, TEMPLATE.parents
    )[0].numpy()
    if hand == "left":
        transforms = MIRROR @ transforms @ MIRROR
    found = types.SimpleNamespace(transforms=transforms, part_names=TEMPLATE.part_names, hand=hand)
    return found, turns.as_rotvec(), scale


def test_rotations_and_scales_are_those_that_posed_the_hand():
    hand, turns, scale = posed()
    found = hand_parameters(hand, TEMPLATE)
    np.testing.assert_allclose(found.axis_angle, turns, atol=1e-5)
    np.testing.assert_allclose(found.scale, scale, atol=1e-5)
    np.testing.assert_allclose(Rotation.from_quat(found.quaternion).as_rotvec(), turns, atol=1e-5)
    np.testing.assert_allclose(found.local[1:, :3, 3], 0, atol=1e-3)  # joints hold together


@pytest.mark.parametrize("side", ["right", "left"])
def test_transforms_come_back(side):
    hand, _, _ = posed(3, side)
    found = hand_parameters(hand, TEMPLATE)
    np.testing.assert_allclose(transforms_of(found, TEMPLATE), hand.transforms, atol=1e-4)
    point = np.array([1.0, 2.0, 3.0])
    scaled = found.scale[0] * found.global_rotation @ point + found.translation_mm
    np.testing.assert_allclose(scaled, (hand.transforms[0] @ [*point, 1])[:3], atol=1e-6)


def test_a_left_hands_rotations_are_the_mirrored_ones():
    (right, _, _), (left, _, _) = posed(5), posed(5, "left")
    right, left = hand_parameters(right, TEMPLATE), hand_parameters(left, TEMPLATE)
    np.testing.assert_allclose(left.axis_angle, right.axis_angle * [1, -1, -1], atol=1e-5)
    np.testing.assert_allclose(left.bone_lengths_mm, right.bone_lengths_mm, atol=1e-4)


def test_bones_are_as_long_as_the_templates_where_nothing_is_scaled():
    transforms = np.tile(np.eye(4), [PARTS, 1, 1])
    rest = types.SimpleNamespace(
        transforms=transforms, part_names=TEMPLATE.part_names, hand="right"
    )
    found = hand_parameters(rest, TEMPLATE)
    joints = np.linalg.inv(TEMPLATE.bone_from_template.astype(float))[:, :3, 3]
    wanted = np.linalg.norm(joints - joints[TEMPLATE.parents], axis=1)
    np.testing.assert_allclose(found.bone_lengths_mm, wanted, atol=1e-6)
    np.testing.assert_allclose(found.axis_angle, 0, atol=1e-6)
    json.dumps(found.to_json(), allow_nan=False)


def test_another_hands_template_is_refused():
    hand, _, _ = posed()
    hand.part_names = ("palm",)
    with pytest.raises(InputError, match="the hand has 1 parts"):
        hand_parameters(hand, TEMPLATE)


def test_a_predicted_hand_has_parameters_and_a_mesh(tmp_path):
    from dgn_tf import HandMeshPredictor
    from dgn_tf.model_folder import save_model_folder
    from tests.exported_model import INTRINSICS, blob_frame, exported_model, network

    save_model_folder(network(), tmp_path / "model")
    shutil.copytree(exported_model() / "1", tmp_path / "model" / "1")
    predictor = HandMeshPredictor(tmp_path / "model", INTRINSICS)
    hand = predictor(blob_frame())
    found = hand.parameters(predictor.template)
    np.testing.assert_allclose(
        transforms_of(found, predictor.template), hand.transforms, rtol=1e-4, atol=1e-2
    )
    mesh = hand.to_trimesh()
    np.testing.assert_array_equal(mesh.vertices, hand.vertices)
    np.testing.assert_array_equal(mesh.faces, hand.faces)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "joint, towards",
    [
        ("index_mcp_flexion", [0, -1, 0]),  # the palm's side
        ("index_pip_flexion", [0, -1, 0]),
        ("little_dip_flexion", [0, -1, 0]),
        ("thumb_mcp_flexion", [-1, 0, 0]),  # across the palm
        ("index_mcp_abduction", [1, 0, 0]),  # the thumb's side
        ("little_mcp_abduction", [1, 0, 0]),
        ("thumb_cmc_abduction", [0, -1, 0]),  # out of the palm's plane
    ],
)
def test_signs_of_joints_are_those_of_the_body_on_both_hands(side, joint, towards):
    """The template's x points to the thumb and y to the hand's back; mirrored, x still does."""
    move = next(move for move in freedoms(TEMPLATE) if move.name == joint)
    turn = np.zeros(3)
    turn[move.axis] = 0.3
    local = np.tile(np.eye(4), [PARTS, 1, 1])
    local[move.part, :3, :3] = Rotation.from_rotvec(turn).as_matrix()
    transforms = posed_by(local, bones_of(TEMPLATE, "right"), TEMPLATE.parents)
    tip = TEMPLATE.keypoint_names.index(
        {"index": "F4", "little": "F1", "thumb": "TH"}[joint.split("_")[0]] + "_KNU3_A"
    )
    if side == "left":  # what a left hand's model gives of the mirrored scene
        transforms = MIRROR @ transforms @ MIRROR
    hand = types.SimpleNamespace(transforms=transforms, part_names=TEMPLATE.part_names, hand=side)
    found = hand_parameters(hand, TEMPLATE)
    angles = dict(zip(found.joint_names, found.joint_angles, strict=True))
    assert angles.pop(joint) == pytest.approx(0.3)
    np.testing.assert_allclose(list(angles.values()), 0, atol=1e-6)
    mirrored = [-1, 1, 1] if side == "left" else [1, 1, 1]
    rest = TEMPLATE.keypoints[tip] * mirrored
    part = TEMPLATE.keypoint_weights[tip].argmax()
    moved = transforms[part, :3, :3] @ rest + transforms[part, :3, 3] - rest
    along = moved * mirrored @ towards  # towards the body's own directions
    assert along > 0.3 * np.linalg.norm(moved) > 0


def test_limits_are_the_templates_own_and_a_predicted_shape_is_the_hands():
    hand, _, _ = posed(2)
    found = hand_parameters(hand, TEMPLATE)
    for name, limits in zip(found.joint_names, found.joint_limits, strict=True):
        move = next(move for move in freedoms(TEMPLATE) if move.name == name)
        np.testing.assert_array_equal(limits, TEMPLATE.joint_limits[move.part, move.axis])
    free = np.ptp(TEMPLATE.joint_limits, axis=-1) > 0
    assert len(found.joint_names) == len(set(found.joint_names)) == free.sum() == 27
    told = found.to_json()
    assert told["joints"]["index_pip_flexion"]["limits_rad"][1] > 1.5
    assert set(told["shape"]) == set(TEMPLATE.shape_names)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_shape_is_that_of_the_hand_whose_bones_are_seen(side):
    size = 1.05
    transforms = np.tile(np.diag([size, size, size, 1.0]), [PARTS, 1, 1])  # a larger hand
    hand = types.SimpleNamespace(transforms=transforms, part_names=TEMPLATE.part_names, hand=side)
    found = hand_parameters(hand, TEMPLATE)
    joints = np.linalg.inv(TEMPLATE.bone_from_template.astype(float))[:, :3, 3]
    true = (size - 1) * (joints - joints[TEMPLATE.parents])[1:]  # of the bones' vectors, mm
    bones = (TEMPLATE.shape_joints - TEMPLATE.shape_joints[:, TEMPLATE.parents])[:, 1:]
    told = np.tensordot(found.shape, bones, 1)
    assert np.linalg.norm(told - true) < 0.4 * np.linalg.norm(true)  # the prior holds it back
