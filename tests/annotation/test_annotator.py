"""The annotator with a network that knows the truth: views, passes, wrong rigs, no hand."""

import types

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.annotation import annotator, records
from dgn_tf.geometry.kinematics import rigid_inverse
from dgn_tf.layers import SimilarityFit, Skinning
from dgn_tf.losses.energy import EnergyConfig
from dgn_tf.records import view_schema
from tests.tiny_template import tiny_template
from tests.view_records import camera_from_rig, make_step

TEMPLATE = tiny_template()
RIG = np.stack([camera_from_rig(camera) for camera in range(3)]).astype(np.float32)
HAND = np.eye(4, dtype=np.float32)
HAND[:3, 3] = [10, -20, 760]


class TrueNetwork:
    """Estimates the hand `HAND` of every view exactly; `wrong` views see it elsewhere."""

    def __init__(self, wrong=()):
        self.template = TEMPLATE
        self.config = types.SimpleNamespace(image_size=16)
        self.skinning, self.similarity_fit = Skinning(TEMPLATE), SimilarityFit(TEMPLATE)
        self.wrong = wrong
        self.centres = []

    def __call__(self, inputs, training):
        views = tf.shape(inputs["depth"])[0]
        hands = np.tile((RIG @ HAND)[:, None], [1, 4, 1, 1])
        for view in self.wrong:
            hands[view, :, :3, 3] += [120, 0, 0]
        transforms = tf.gather(tf.constant(hands), tf.range(views) % 3)
        vertices = self.skinning(transforms)
        flat = tf.zeros_like(inputs["depth"])
        return {
            "vertices": vertices,
            "vertices_sampled": vertices,
            "confidence": tf.ones_like(vertices[..., 0]),
            "valid": tf.abs(inputs["depth"] - inputs["centre"][:, 2, None, None]) < 150,
            "mesh_coords": tf.stack([flat, flat], axis=-1),
            "mesh_layer": flat,
        }


def steps_of(invalid=(), rig=RIG, count=2):
    """Parsed records around `HAND`."""
    parsed = []
    for index in range(1, count + 1):
        step, _ = make_step(index, 3, invalid)
        step["camera_from_rig"] = rig
        step = view_schema.parse_step(view_schema.encode_step(step), 3, 36)
        parsed.append({name: value.numpy() for name, value in step.items()})
    return parsed


def annotate(steps, wrong=(), together=True, used=(1, 1, 1), **changes):
    config = annotator.AnnotateConfig(**{"passes": 1, **changes})
    return annotator.Annotator(TrueNetwork(wrong), config, used, together)(steps)


def vertices(camera):
    transforms = np.tile(RIG[camera] @ HAND, [1, 4, 1, 1])
    return Skinning(TEMPLATE)(tf.constant(transforms))[0].numpy()


@pytest.mark.parametrize(
    "passes, refine_steps, free_space", [(1, 0, 0), (2, 0, 0), (2, 3, 0), (1, 0, 3), (2, 3, 3)]
)
def test_exact_views_give_the_truth_to_every_camera(passes, refine_steps, free_space):
    energy = EnergyConfig(free_space=free_space)
    found = annotate(steps_of(), passes=passes, refine_steps=refine_steps, energy=energy)
    for camera in range(3):
        tolerance = 0.02 if not refine_steps else 30.0  # mm; random pixels draw the refined hand
        np.testing.assert_allclose(found["vertices"][1, camera], vertices(camera), atol=tolerance)
        posed = Skinning(TEMPLATE)(tf.constant(found["transforms"][1, camera][None]))[0]
        np.testing.assert_allclose(posed, found["vertices"][1, camera], atol=0.01)  # mm
    assert found["annotated"].all() and found["keypoints_valid"].all()
    energy = found["energy"]
    assert np.isnan(energy).all() if not refine_steps else (energy[..., 1] <= energy[..., 0]).all()


def test_a_camera_without_frame_is_labelled_by_the_others():
    found = annotate(steps_of(invalid=(1,)))
    np.testing.assert_allclose(found["vertices"][0, 1], vertices(1), atol=0.02)  # mm
    assert found["annotated"].all() and (found["view_distance"][:, 1] == -1).all()
    assert (found["centre"][:, 1] == 0).all()
    assert (found["confidence"] < annotate(steps_of())["confidence"]).all()


def test_views_alone_are_labelled_for_themselves():
    found = annotate(steps_of(invalid=(1,)), wrong=(2,), together=False, used=(1, 1, 1))
    np.testing.assert_allclose(found["vertices"][0, 0], vertices(0), atol=0.02)  # mm
    off = found["vertices"][0, 2] - vertices(2)
    np.testing.assert_allclose(off, np.tile([120, 0, 0], [73, 1]), atol=0.02)
    assert (found["annotated"] == [[1, 0, 1]] * 2).all()
    assert not found["vertices"][:, 1].any() and not found["keypoints_valid"][:, 1].any()
    assert not annotate(steps_of(), together=False, used=(1, 0, 0))["annotated"][:, 1:].any()


def test_a_step_without_any_view_is_left_blank():
    found = annotate(steps_of(invalid=(0, 1, 2)), passes=2, refine_steps=2)
    for name in ("annotated", "keypoints_valid", "vertices", "keypoints", "confidence"):
        assert not found[name].any(), name
    assert all(np.isfinite(found[name]).all() for name in found if name != "energy")


def test_unsure_frames_keep_their_vertices_and_lose_their_key_points():
    found = annotate(steps_of(), min_confidence=0.99)
    assert found["annotated"].all() and found["vertices"].any()
    assert not found["keypoints_valid"].any() and not found["keypoints"].any()


def test_one_view_that_contradicts_the_others_does_not_move_the_hand():
    found = annotate(steps_of(), wrong=(1,))
    np.testing.assert_allclose(found["vertices"][0, 0], vertices(0), atol=3.0)  # mm
    assert (found["view_distance"][:, 1] > 100).all()
    assert (found["view_distance"][:, [0, 2]] < 3).all()


def test_two_views_are_outvoted_by_the_one_that_sees_past_them():
    """Two views agree on a wrong place, where the third camera looks into the void."""
    steps = steps_of()
    for step in steps:
        step["depth"] = list(step["depth"])
        hand = vertices(0)
        window = view_schema.decode_window(step["depth"][0]).numpy()
        rows, columns = np.indices(window.shape)
        place = np.stack([columns, rows], axis=-1) + step["window"][0, :2]
        focal, middle = step["intrinsics"][0, :2], step["intrinsics"][0, 2:]
        pixels = hand[:, :2] / hand[:, 2:] * focal + middle
        near = np.abs(place[:, :, None] - pixels).max(axis=-1).min(axis=-1) < 30
        shown = np.where(near, hand[:, 2].min(), 0) / step["depth_unit"]
        step["depth"][0] = tf.io.encode_png(shown.astype(np.uint16)[..., None]).numpy()

    def off(free_space):
        energy = EnergyConfig(free_space=free_space, min_pixels=5)  # crops of 16 x 16
        found = annotate(steps, wrong=(1, 2), energy=energy)
        return np.linalg.norm(found["vertices"][0, 0] - vertices(0), axis=-1).mean()

    assert off(3.0) < 0.6 * off(0.0)


def test_wrong_extrinsics_show_as_that_cameras_distance_and_it_is_named():
    rig = RIG.copy()
    rig[2, :3, 3] += [0, 60, 0]
    found = annotate(steps_of(rig=rig, count=4))
    tally = records.Tally((1, 2, 3))
    for number in range(4):
        tally.add({name: value[number] for name, value in found.items()})
    (line,) = records.warnings(tally.facts()["residuals"])
    assert line.startswith("camera 3 contradicts the others")


def test_the_second_pass_crops_around_the_hand():
    steps = steps_of()
    for step in steps:
        step["centre"] = step["centre"] + np.float32([[40, 0, 0], [0, 0, 0], [0, 0, 0]])
    found = annotate(steps, passes=2)
    for camera in range(3):
        middle = vertices(camera).mean(axis=0)
        # What a camera sees is the near side of the hand: nearer than its middle, and around it.
        off = found["centre"][0, camera] - middle
        assert np.linalg.norm(off[:2]) < 15 and -40 < off[2] < 0


def test_the_fused_hand_follows_the_rig_wherever_its_frame_lies():
    """Camera 2 as the rig's frame instead of camera 1: the labels in the cameras are the same."""
    other = RIG @ rigid_inverse(RIG[1])
    first, second = annotate(steps_of(), wrong=(0,)), annotate(steps_of(rig=other), wrong=(0,))
    np.testing.assert_allclose(first["vertices"], second["vertices"], atol=0.05)  # mm
