"""The training step: terms, weights, and what it does where something is not finite."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.config import Loss
from dgn_tf.errors import InputError
from dgn_tf.geometry.similarity import SOLVERS
from dgn_tf.geometry.upright import palm_axis_weights
from dgn_tf.network import DualGridNet
from dgn_tf.network_config import NetworkConfig
from dgn_tf.training.callbacks import StopWhenNotFinite, averaged_weights
from dgn_tf.training.real_frames import SYNTHETIC_TRUTH
from dgn_tf.training.step import TrainingModel, mean_terms, supervised_terms
from tests.tiny_template import tiny_template

SQUARES = Loss(
    loss="mse",
    correspondence_weight=1.0,
    vertices_sampled_weight=0.0,
    keypoint_weight=0.0,
    layer_weight=0.0,
    palm_direction_weight=0.0,
)


def small_model(losses=None, clip_norm=0.0, seed=None):
    if seed is not None:
        tf.keras.utils.set_random_seed(seed)
    config = NetworkConfig(image_size=16, image_channels=(8, 8), mesh_channels=(8, 8), features=4)
    network = DualGridNet(tiny_template(), config)
    network(network.example_inputs())
    model = TrainingModel(network, losses or Loss(), clip_norm)
    model.compile(
        tf.keras.optimizers.AdamW(1e-3, use_ema=True, ema_momentum=0.5, jit_compile=False)
    )
    model.optimizer.build(network.trainable_variables)
    return model


def example(model, seed=0, size=3):
    rng = np.random.default_rng(seed)
    network = model.network
    batch = network.example_inputs(size)
    shape = batch["depth"].shape
    template = network.template
    centre = batch["centre"][:, None]
    depth = np.where(rng.random(shape) < 0.5, rng.uniform(550, 650, shape), 0)
    batch |= {
        "depth": tf.constant(depth, tf.float32),
        "vertices": centre + np.float32(template.vertices),
        "keypoints": centre + np.float32(template.keypoints),
        "mesh_coords": tf.constant(rng.uniform(0, 8, [*shape, 2]), tf.float32),
        "mesh_layer": tf.constant(rng.integers(0, 2, shape), tf.int32),
        "correspondence_mask": tf.constant(depth > 0),
        "palm_axis": tf.tile([palm_axis_weights(template) @ template.vertices], [size, 1]),
    }
    return batch


def test_steps_lower_the_loss():
    tf.keras.utils.set_random_seed(0)
    model = small_model()
    batch = example(model)
    step = tf.function(model.train_step)
    first = float(step(batch)["loss"])
    for _ in range(60):
        last = float(step(batch)["loss"])
    assert last < 0.7 * first


def test_a_training_step_solves_by_svd_and_what_is_exported_by_plain_arithmetic():
    losses = {}
    for solver in SOLVERS:
        model = small_model(seed=0)
        model.network.similarity_fit.solver = solver
        batch = example(model)
        step = tf.function(model.train_step)
        kinds = {each.type for each in step.get_concrete_function(batch).graph.get_operations()}
        assert ("Svd" in kinds) == (solver == "svd")
        losses[solver] = [float(step(batch)["loss"]) for _ in range(5)]
        forward = tf.function(model.network).get_concrete_function(batch)
        assert "Svd" not in {each.type for each in forward.graph.get_operations()}
    np.testing.assert_allclose(losses["svd"], losses["horn"], rtol=1e-4)


def test_every_weight_gets_a_gradient_from_the_default_loss():
    tf.keras.utils.set_random_seed(0)
    model = small_model()
    batch = example(model)
    step = tf.function(model.train_step)
    before = [v.numpy() for v in model.network.trainable_variables]
    for _ in range(3):  # the branches that start at zero pass gradients on from the second step
        step(batch)
    for variable, value in zip(model.network.trainable_variables, before, strict=True):
        assert np.abs(variable.numpy() - value).max() > 0, variable.name


def test_terms_without_weight_are_not_computed():
    model = small_model()
    batch = example(model)
    outputs = model.network(batch)
    only = SQUARES
    assert set(supervised_terms(outputs, batch, only)) == {"correspondence", "vertices_refined"}


def test_the_direction_loss_reaches_the_direction_alone():
    tf.keras.utils.set_random_seed(0)
    model = small_model()
    batch = example(model)
    only = Loss("robust", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, palm_direction_weight=1.0)
    with tf.GradientTape() as tape:
        (term,) = supervised_terms(model.network(batch), batch, only).values()
        total = tf.reduce_sum(term)
    gradients = tape.gradient(total, model.network.trainable_variables)
    reached = {
        v.ref()
        for v, g in zip(model.network.trainable_variables, gradients, strict=True)
        if g is not None
    }
    assert reached == {v.ref() for v in model.network.palm_direction.trainable_variables}


def mixed(batch, labelled):
    """`batch` with its first frame turned real: no mesh, key points `labelled` [J] 0 or 1."""
    size = len(batch["cube"])
    real = np.arange(size) == 0
    valid = np.ones([size, len(labelled)], np.float32)
    valid[0] = labelled
    result = {**batch, "is_real": tf.constant(real), "keypoints_valid": tf.constant(valid)}
    for name in SYNTHETIC_TRUTH:
        keep = tf.reshape(tf.constant(~real), [-1] + [1] * (len(batch[name].shape) - 1))
        result[name] = tf.where(keep, batch[name], tf.zeros_like(batch[name]))
    return result


def test_each_frame_counts_in_the_terms_whose_truth_it_has():
    model = small_model()
    batch = example(model)
    labelled = np.arange(36) % 3 > 0
    outputs = model.network(batch)
    for config in (Loss(), dataclasses.replace(SQUARES, real_keypoint_weight=2.0)):
        terms = mean_terms(outputs, mixed(batch, labelled), config)
        synthetic = supervised_terms(outputs, batch, config)
        for name, term in synthetic.items():
            np.testing.assert_allclose(terms[name], np.mean(term[1:]), rtol=1e-5, err_msg=name)
        error = (outputs["keypoints"] - batch["keypoints"])[0].numpy()[labelled]
        half_cube = float(batch["cube"][0]) / 2
        wanted = np.abs(error).mean()
        if config.loss == "mse":
            wanted = (error**2).sum(axis=-1).mean() / half_cube**2
        np.testing.assert_allclose(terms["real_keypoints"], wanted, rtol=1e-4)
        assert set(terms) == {*synthetic, "real_keypoints"}


def test_real_frames_without_labels_cost_nothing():
    model = small_model()
    batch = mixed(example(model), np.zeros(36))
    terms = mean_terms(model.network(batch), batch, Loss())
    assert float(terms["real_keypoints"]) == 0.0


def test_real_frames_alone_lower_their_own_loss():
    tf.keras.utils.set_random_seed(0)
    model = small_model()
    batch = example(model)
    real = {name: batch[name] for name in ("depth", "intrinsics", "centre", "cube", "keypoints")}
    real |= {"is_real": tf.ones([3], tf.bool), "keypoints_valid": tf.ones([3, 36])}
    step = tf.function(model.train_step)
    first = step(real)
    assert set(first) == {"loss", "real_keypoints", "gradient_norm"}
    for _ in range(60):
        last = step(real)
    assert float(last["real_keypoints"]) < 0.7 * float(first["real_keypoints"])


def test_a_step_that_is_not_finite_changes_no_weight_and_stops_by_name():
    model = small_model()
    batch = example(model)
    step = tf.function(model.train_step)
    step(batch)
    before = [v.numpy() for v in model.network.trainable_variables]
    bad = {**batch, "keypoints": batch["keypoints"] * np.nan}
    logs = {name: float(value) for name, value in step(bad).items()}
    for variable, value in zip(model.network.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    stop = StopWhenNotFinite()
    stop.set_model(model)
    with pytest.raises(InputError, match="the term 'keypoints' was not finite at step 1"):
        stop.on_train_batch_end(0, logs)


def test_averages_are_applied_for_the_block_alone():
    tf.keras.utils.set_random_seed(0)
    model = small_model()
    batch = example(model)
    step = tf.function(model.train_step)
    network = model.network
    averages = [v.numpy() for v in network.trainable_variables]
    for _ in range(3):
        step(batch)
        averages = [
            0.5 * a + 0.5 * v.numpy()
            for a, v in zip(averages, network.trainable_variables, strict=True)
        ]
    raw = [v.numpy() for v in network.trainable_variables]
    with averaged_weights(network, model.optimizer):
        for variable, value in zip(network.trainable_variables, averages, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, atol=1e-6)
    for variable, value in zip(network.trainable_variables, raw, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
