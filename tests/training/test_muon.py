"""Muon: kernels move along orthogonalised momentum, the rest as under AdamW."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.training.schedule import Muon, averaging_optimizer, orthogonalised


@pytest.mark.parametrize("shape", [(40, 40), (32, 288), (288, 32), (1536, 128)])
def test_singular_values_go_to_about_one(shape):
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.normal(size=(shape[0], min(shape))))
    v, _ = np.linalg.qr(rng.normal(size=(shape[1], min(shape))))
    values = np.geomspace(1, 1e-2, min(shape))
    got = orthogonalised(tf.constant((u * values) @ v.T, tf.float32)).numpy()
    # The same singular vectors, so U^T G V is diagonal.
    inner = u.T @ got @ v
    diagonal = np.diag(inner)
    assert np.all((diagonal > 0.3) & (diagonal < 1.3))
    np.testing.assert_allclose(inner, np.diag(diagonal), atol=2e-3)


def test_orthogonalised_does_not_depend_on_the_gradients_size():
    matrix = tf.constant(np.random.default_rng(1).normal(size=(32, 64)), tf.float32)
    np.testing.assert_allclose(
        orthogonalised(1e-3 * matrix), orthogonalised(1e3 * matrix), atol=1e-3
    )


def test_no_gradient_no_step():
    kernel = tf.Variable(tf.ones([3, 3, 32, 32]))
    Muon(0.1, weight_decay=0.0).apply_gradients([(tf.zeros_like(kernel), kernel)])
    np.testing.assert_array_equal(kernel, np.ones([3, 3, 32, 32]))


def test_a_kernels_step_has_adamws_usual_size():
    rng = np.random.default_rng(2)
    kernel = tf.Variable(tf.zeros([3, 3, 64, 96]))
    optimizer = Muon(0.01, weight_decay=0.0)
    for _ in range(3):
        before = kernel.numpy()
        gradient = tf.constant(rng.normal(size=kernel.shape), tf.float32)
        optimizer.apply_gradients([(gradient, kernel)])
        size = np.sqrt(np.mean((kernel.numpy() - before) ** 2))
        assert 0.7 * 0.2 * 0.01 < size < 1.2 * 0.2 * 0.01


@pytest.mark.parametrize("shape", [(64,), (1, 1, 96, 24), (128, 2), (3, 3, 2, 64)])
def test_biases_and_narrow_kernels_move_as_under_adamw(shape):
    rng = np.random.default_rng(3)
    ours, theirs = tf.Variable(tf.ones(shape)), tf.Variable(tf.ones(shape))
    muon, adamw = Muon(0.01, weight_decay=0.1), tf.keras.optimizers.AdamW(0.01, weight_decay=0.1)
    for _ in range(3):
        gradient = tf.constant(rng.normal(size=shape), tf.float32)
        muon.apply_gradients([(gradient, ours)])
        adamw.apply_gradients([(gradient, theirs)])
    np.testing.assert_array_equal(ours, theirs)


def test_fits_an_ill_conditioned_map_where_adamw_is_far_off_still():
    # y = x W with inputs whose directions differ in size by a hundred, in a rotated basis.
    rng = np.random.default_rng(4)
    basis, _ = np.linalg.qr(rng.normal(size=(32, 32)))
    x = tf.constant(rng.normal(size=(256, 32)) * np.geomspace(1, 0.01, 32) @ basis, tf.float32)
    wanted = tf.constant(rng.normal(size=(32, 32)), tf.float32)

    def loss_after(name):
        kernel = tf.Variable(tf.zeros([32, 32]))
        steps = 200
        schedule = tf.keras.optimizers.schedules.PolynomialDecay(0.2, steps, 0.0)
        optimizer = averaging_optimizer(name, schedule, 0.0, 0.0)
        for _ in range(steps):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((tf.matmul(x, kernel - wanted)) ** 2)
            optimizer.apply_gradients([(tape.gradient(loss, kernel), kernel)])
        return float(loss)

    assert loss_after("muon") < 0.5 * loss_after("adamw")


def test_serialises():
    optimizer = Muon(0.01, weight_decay=0.1, momentum=0.9, use_ema=True)
    again = tf.keras.optimizers.deserialize(tf.keras.optimizers.serialize(optimizer))
    assert isinstance(again, Muon)
    assert again.momentum == 0.9 and again.use_ema
