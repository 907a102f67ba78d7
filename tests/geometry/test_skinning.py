import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import kinematics


def _case(batch=2, seed=0):
    rng = np.random.default_rng(seed)
    rest = rng.normal(scale=40, size=[30, 3])
    weights = rng.random([30, 3]) ** 4
    weights /= weights.sum(axis=1, keepdims=True)
    rotation = kinematics.rotation_from_angles(np.float32(rng.uniform(-3, 3, [batch, 3, 3])))
    translation = np.float32(rng.normal(scale=30, size=[batch, 3, 3, 1]) + [[0], [0], [600]])
    return kinematics.affine(rotation * 1.1, translation), rest, weights


def test_skinning_is_the_weighted_sum_of_posed_points():
    transforms, rest, weights = _case()
    points = np.pad(rest, [(0, 0), (0, 1)], constant_values=1)
    expected = np.einsum("vp,bpij,vj->bvi", weights, transforms.numpy().astype(np.float64), points)
    np.testing.assert_allclose(
        kinematics.skin(transforms, rest, weights), expected[..., :3], atol=2e-4
    )  # mm


def test_identity_leaves_the_rest_pose():
    _, rest, weights = _case()
    eye = tf.eye(4, batch_shape=[1, 3])
    np.testing.assert_allclose(kinematics.skin(eye, rest, weights)[0], rest, atol=1e-4)


def test_common_rigid_motion_moves_all_vertices_by_it():
    transforms, rest, weights = _case()
    motion = kinematics.affine(
        kinematics.rotation_from_angles(tf.constant([0.3, -1.0, 2.0])),
        tf.constant([[10.0], [20.0], [-30.0]]),
    )
    moved = kinematics.skin(motion @ transforms, rest, weights)
    still = kinematics.skin(transforms, rest, weights)
    expected = tf.linalg.matvec(motion[:3, :3], still) + motion[:3, 3]
    np.testing.assert_allclose(moved, expected, atol=1e-3)  # mm


@pytest.mark.parametrize("jit", [False, True])
def test_graph_of_unknown_batch_agrees_with_eager_and_has_gradients(jit):
    _, rest, weights = _case()

    def run(transforms):
        with tf.GradientTape() as tape:
            tape.watch(transforms)
            total = tf.reduce_sum(kinematics.skin(transforms, rest, weights) ** 2)
        return total, tape.gradient(total, transforms)

    graph = tf.function(run, jit_compile=jit, input_signature=[tf.TensorSpec([None, 3, 4, 4])])
    for batch in (1, 3):
        transforms, _, _ = _case(batch, seed=batch)
        for got, expected in zip(graph(transforms), run(transforms), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-2)
        assert np.all(expected[..., :3, :].numpy() != 0)
