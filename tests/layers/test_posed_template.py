import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import kinematics
from dgn_tf.layers import SimilarityFit, Skinning
from tests.tiny_template import tiny_template


def _transforms(batch=2, seed=0, bend=0.8):
    """The tiny hand with bent joints, half a metre in front of the camera."""
    template = tiny_template()
    rng = np.random.default_rng(seed)
    angles = np.float32(rng.uniform(-bend, bend, [batch, 4, 3]))
    offset = np.zeros([batch, 4, 3, 1], np.float32)
    offset[:, 0] = [[20], [-30], [500]]
    local = kinematics.affine(kinematics.rotation_from_angles(angles), offset)
    return kinematics.global_from_local(local, template.bone_from_template, template.parents)


def test_skinning_at_rest_is_the_template():
    template = tiny_template()
    layer = Skinning(template)
    eye = tf.eye(4, batch_shape=[1, 4])
    np.testing.assert_allclose(layer(eye)[0], template.vertices, atol=1e-4)
    np.testing.assert_allclose(layer.keypoints(eye)[0], template.keypoints, atol=1e-4)


def test_fit_of_a_rigidly_moved_template_finds_the_motion():
    template = tiny_template()
    motion = _transforms()[:, :1]
    transforms = tf.tile(motion, [1, 4, 1, 1])
    found = SimilarityFit(template)(Skinning(template)(transforms))
    np.testing.assert_allclose(found[..., :3, :3], transforms[..., :3, :3], atol=1e-4)
    np.testing.assert_allclose(found[..., :3, 3], transforms[..., :3, 3], atol=2e-2)  # mm


def test_skinning_of_the_fit_of_a_bent_hand_is_near_it():
    template = tiny_template()
    vertices = Skinning(template)(_transforms(bend=0.3))
    again = Skinning(template)(SimilarityFit(template)(vertices))
    assert np.abs(again - vertices).max() < 4  # mm; blended vertices belong to no part alone


@pytest.mark.parametrize("jit", [False, True])
def test_graph_of_unknown_batch_agrees_with_eager_and_has_gradients(jit):
    template = tiny_template()
    fit, skinning = SimilarityFit(template), Skinning(template)

    def run(points):
        with tf.GradientTape() as tape:
            tape.watch(points)
            transforms = fit(points)
            vertices, keypoints = skinning(transforms), skinning.keypoints(transforms)
            total = tf.reduce_mean(vertices**2) + tf.reduce_mean(keypoints)
        return [transforms, vertices, keypoints, tape.gradient(total, points)]

    graph = tf.function(
        run, jit_compile=jit, input_signature=[tf.TensorSpec([None, len(template.vertices), 3])]
    )
    for batch in (1, 3):
        points = skinning(_transforms(batch))
        for got, expected in zip(graph(points), run(points), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-2)
            assert np.any(expected != 0)


def test_float32_under_mixed_precision():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        template = tiny_template()
        fit, skinning = SimilarityFit(template), Skinning(template)
        points = skinning(_transforms())
        transforms = fit(points)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert points.dtype == transforms.dtype == tf.float32


@pytest.mark.parametrize("kind", [SimilarityFit, Skinning])
def test_layers_are_restored_from_their_config(kind):
    layer = kind(tiny_template())
    arguments = _transforms()
    if kind is SimilarityFit:
        layer = kind(tiny_template(), scale="symmetric")
        arguments = Skinning(tiny_template())(arguments)
    restored = tf.keras.layers.deserialize(tf.keras.layers.serialize(layer))
    assert restored.template.hash == layer.template.hash
    np.testing.assert_array_equal(restored(arguments), layer(arguments))


def test_a_model_of_all_layers_exports_and_reloads(tmp_path):
    template = tiny_template()
    points = tf.keras.Input([len(template.vertices), 3])
    model = tf.keras.Model(points, Skinning(template)(SimilarityFit(template)(points)))
    tf.saved_model.save(model, str(tmp_path / "model"))
    example = Skinning(template)(_transforms())
    signature = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    np.testing.assert_allclose(next(iter(signature(example).values())), model(example), atol=1e-3)
