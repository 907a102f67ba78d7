"""--mixed_precision: convolutions in half the bits, geometry and losses in float32."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.config import Train
from dgn_tf.training.building import build_model, build_optimizer
from tests.tiny_template import tiny_template
from tests.training.test_step import example

SMALL = Train(
    image_channels=("8", "8"),
    mesh_channels=("8", "8"),
    steps=100,
    warmup_steps=0,
    decay_start=100,
    learning_rate=1e-3,
)


def model_of(kind):
    tf.keras.utils.set_random_seed(3)
    half = {"mixed_precision": True, "mixed_precision_type": kind} if kind != "float32" else {}
    model = build_model(tiny_template(), dataclasses.replace(SMALL, **half))
    build_optimizer(model)
    return model


@pytest.fixture(scope="module")
def losses():
    """Of ten steps from the same weights on the same frames, by type."""
    found = {}
    for kind in ("float32", "float16", "bfloat16"):
        model = model_of(kind)
        batch, step = example(model), tf.function(model.train_step)
        logs = [step(batch) for _ in range(10)]
        assert all(np.isfinite(float(value)) for log in logs for value in log.values())
        assert int(model.optimizer.iterations) == 10
        found[kind] = [float(log["loss"]) for log in logs]
    return found


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_trains_as_float32_does(losses, kind):
    np.testing.assert_allclose(losses[kind][0], losses["float32"][0], rtol=0.02)
    np.testing.assert_allclose(np.mean(losses[kind]), np.mean(losses["float32"]), rtol=0.05)
    assert losses[kind] != losses["float32"], "it rounds"


def test_convolutions_compute_in_half_and_geometry_in_float32():
    network = model_of("float16").network
    assert tf.keras.mixed_precision.global_policy().name == "float32", "as it was"
    assert all(weight.dtype == tf.float32 for weight in network.weights)
    batch = network.example_inputs()
    _, seen, _ = network.pixel_inputs(batch)
    assert network.image_hourglass(network.image_shuffle(seen)).dtype == tf.float16
    outputs = network(batch)
    assert {v.dtype for v in outputs.values() if v.dtype.is_floating} == {tf.float32}


def test_a_step_that_overflows_is_left_out_counted_and_lowers_the_scale():
    model = model_of("float16")
    batch = example(model)
    model.optimizer.loss_scale  # noqa: B018 - made on first use
    model.optimizer._loss_scale.current_loss_scale.assign(2.0**120)
    before = [weight.numpy() for weight in model.network.trainable_weights]
    log = tf.function(model.train_step)(batch)
    assert float(log["steps_left_out"]) == 1.0 and float(log["gradient_norm"]) == 0.0
    assert np.isfinite(float(log["loss"]))
    for weight, was in zip(model.network.trainable_weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), was)
    assert int(model.optimizer.iterations) == 1
    assert float(model.optimizer.loss_scale) == 2.0**119


def test_a_loss_that_is_not_finite_is_no_overflow():
    model = model_of("float16")
    batch = example(model) | {
        "vertices": tf.fill([3, *model.network.template.vertices.shape], np.nan)
    }
    log = tf.function(model.train_step)(batch)
    assert not np.isfinite(float(log["loss"])) and float(log["steps_left_out"]) == 0.0
    assert int(model.optimizer.iterations) == 0
