import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.geometry import kinematics

PARENTS = np.array([0, 0, 1, 2, 0, 4])


def _rigid(rng, *shape, spread=1.0):
    rotation = kinematics.rotation_from_angles(np.float32(rng.uniform(-3, 3, [*shape, 3])))
    return kinematics.affine(rotation, np.float32(rng.normal(scale=spread, size=[*shape, 3, 1])))


BONES = _rigid(np.random.default_rng(0), len(PARENTS), spread=50).numpy()


def _local(batch=2, seed=1):
    """Joint rotations and a little scale and offset; the root is where a camera sees a hand."""
    rng = np.random.default_rng(seed)
    angles = np.float32(rng.uniform(-1.2, 1.2, [batch, len(PARENTS), 3]))
    scale = np.float32(rng.uniform(0.9, 1.1, [batch, len(PARENTS), 1, 1]))
    offset = np.float32(rng.normal(scale=2, size=[batch, len(PARENTS), 3, 1]))
    offset[:, 0] += [[30], [-40], [600]]
    return kinematics.affine(kinematics.rotation_from_angles(angles) * scale, offset), angles


def test_local_and_global_are_inverse():
    local, _ = _local()
    posed = kinematics.global_from_local(local, BONES, PARENTS)
    np.testing.assert_allclose(
        kinematics.local_from_global(posed, BONES, PARENTS), local, atol=2e-3
    )  # mm


def test_global_transforms_obey_eq_12():
    local, _ = _local()
    posed = kinematics.global_from_local(local, BONES, PARENTS).numpy().astype(np.float64)
    bones = BONES.astype(np.float64)
    for part in range(1, len(PARENTS)):
        expected = (
            posed[:, PARENTS[part]]
            @ np.linalg.inv(bones[part])
            @ local[:, part].numpy()
            @ bones[part]
        )
        np.testing.assert_allclose(posed[:, part], expected, atol=2e-3)
    expected = np.linalg.inv(bones[0]) @ local[:, 0].numpy() @ bones[0]
    np.testing.assert_allclose(posed[:, 0], expected, atol=2e-3)


def test_local_is_the_identity_at_rest_wherever_the_hand_is():
    hand = _rigid(np.random.default_rng(3), 2, 1, spread=500)
    transforms = tf.tile(hand, [1, len(PARENTS), 1, 1])
    local = kinematics.local_from_global(transforms, BONES, PARENTS)
    expected = np.broadcast_to(np.eye(4), [2, len(PARENTS) - 1, 4, 4])
    np.testing.assert_allclose(local[:, 1:], expected, atol=1e-3)


def test_pure_joint_rotations_have_no_offset_and_give_their_angles_back():
    _, angles = _local()
    rotations = kinematics.rotation_from_angles(angles)
    local = kinematics.affine(rotations, tf.zeros([2, len(PARENTS), 3, 1]))
    posed = kinematics.global_from_local(local, BONES, PARENTS)
    hand = _rigid(np.random.default_rng(4), 2, 1, spread=500)
    found = kinematics.local_from_global(hand @ posed, BONES, PARENTS)
    np.testing.assert_allclose(found[:, 1:, :3, 3], 0, atol=1e-3)  # mm
    got = kinematics.joint_angles(hand @ posed, BONES, PARENTS)
    np.testing.assert_allclose(got[:, 1:], angles[:, 1:], atol=1e-5)  # rad


def test_scale_is_relative_to_the_parent():
    scales = np.float32([1.5, 1.5, 1.8, 1.8, 1.2, 1.2])
    transforms = tf.constant(np.eye(4, dtype=np.float32) * scales[:, None, None])[None]
    transforms = kinematics.affine(transforms[..., :3, :3], transforms[..., :3, 3:])
    local = kinematics.local_from_global(transforms, BONES, PARENTS)
    np.testing.assert_allclose(kinematics.scales(local)[0], [1.5, 1, 1.2, 1, 0.8, 1], rtol=1e-5)
    np.testing.assert_allclose(kinematics.scales(transforms)[0], scales, rtol=1e-6)


def test_inverses_give_the_identity():
    local, _ = _local()
    both = kinematics.similarity_inverse(local) @ local
    np.testing.assert_allclose(both, np.broadcast_to(np.eye(4), both.shape), atol=1e-3)
    bones = BONES
    np.testing.assert_allclose(
        kinematics.rigid_inverse(bones) @ bones, np.broadcast_to(np.eye(4), bones.shape), atol=1e-4
    )


def test_rotation_is_rx_ry_rz():
    x, y, z = 0.4, -0.7, 1.9

    def about(axis, angle):
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        rotation = np.eye(3)
        rotation[i, i] = rotation[j, j] = np.cos(angle)
        rotation[j, i], rotation[i, j] = np.sin(angle), -np.sin(angle)
        return rotation

    np.testing.assert_allclose(
        kinematics.rotation_from_angles(tf.constant([x, y, z])),
        about(0, x) @ about(1, y) @ about(2, z),
        atol=1e-6,
    )


def test_angles_round_trip():
    rng = np.random.default_rng(5)
    angles = np.float32(rng.uniform(-1, 1, [2000, 3]) * [3.1, 1.5, 3.1])
    got = kinematics.angles_from_rotation(kinematics.rotation_from_angles(angles))
    np.testing.assert_allclose(got, angles, atol=1e-4)  # rad


def test_gimbal_lock_gives_the_rotation_back_and_finite_gradients():
    angles = np.float32(
        [
            [0.3, sign * (np.pi / 2 - gap), -1.1]
            for sign in (-1, 1)
            for gap in (0, 1e-7, 1e-5, 1e-3, 1e-2)
        ]
    )
    rotation = kinematics.rotation_from_angles(angles)
    with tf.GradientTape() as tape:
        tape.watch(rotation)
        found = kinematics.angles_from_rotation(rotation)
        total = tf.reduce_sum(found)
    assert np.isfinite(tape.gradient(total, rotation)).all()
    np.testing.assert_allclose(kinematics.rotation_from_angles(found), rotation, atol=2e-3)


def test_gradient_of_angles_is_that_of_finite_differences():
    rng = np.random.default_rng(6)
    angles = tf.constant(rng.uniform(-1.2, 1.2, [5, 3]))
    with tf.GradientTape() as tape:
        tape.watch(angles)
        found = kinematics.angles_from_rotation(kinematics.rotation_from_angles(angles))
    jacobian = tape.batch_jacobian(found, angles)
    np.testing.assert_allclose(jacobian, np.broadcast_to(np.eye(3), [5, 3, 3]), atol=1e-9)


@pytest.mark.parametrize("jit", [False, True])
def test_graph_of_unknown_batch_agrees_with_eager_and_has_gradients(jit):
    def run(transforms):
        with tf.GradientTape() as tape:
            tape.watch(transforms)
            local = kinematics.local_from_global(transforms, BONES, PARENTS)
            angles = kinematics.joint_angles(transforms, BONES, PARENTS)
            total = tf.reduce_sum(local[..., :3, 3] ** 2) + tf.reduce_sum(angles)
            posed = kinematics.global_from_local(local, BONES, PARENTS)
        return posed, angles, tape.gradient(total, transforms)

    graph = tf.function(
        run, jit_compile=jit, input_signature=[tf.TensorSpec([None, len(PARENTS), 4, 4])]
    )
    for batch in (1, 3):
        transforms = kinematics.global_from_local(_local(batch, batch)[0], BONES, PARENTS)
        for got, expected in zip(graph(transforms), run(transforms), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-3, atol=2e-2)
            assert np.isfinite(expected).all()


def test_collapsed_parts_give_finite_results_and_gradients():
    transforms = tf.zeros([1, len(PARENTS), 4, 4])
    with tf.GradientTape() as tape:
        tape.watch(transforms)
        angles = kinematics.joint_angles(transforms, BONES, PARENTS)
        local = kinematics.local_from_global(transforms, BONES, PARENTS)
        total = tf.reduce_sum(angles) + tf.reduce_sum(local)
    assert np.isfinite(total)
    assert np.isfinite(tape.gradient(total, transforms)).all()


def test_children_before_their_parents_are_refused():
    with pytest.raises(ValueError, match="precede"):
        kinematics.global_from_local(
            tf.eye(4, batch_shape=[1, 3]), np.tile(np.eye(4), [3, 1, 1]), np.array([0, 2, 0])
        )
