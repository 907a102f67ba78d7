"""The formulas as they read, and what is exported: one network in two forms."""

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.network import DualGridNet
from dgn_tf.network_config import NetworkConfig
from dgn_tf.serving.module import frozen_forward
from dgn_tf.serving.saving import example_crops
from experiments.compare_plain_form import agreement, unfused
from experiments.plain_form import plain_form
from tests.exported_model import SIZE, network
from tests.tiny_template import tiny_template


def lively():
    """`network()` with heads and norms away from their start values."""
    rng = np.random.default_rng(4)
    net = DualGridNet(network().template, network().config)
    net(net.example_inputs())
    net.set_weights(
        [value + rng.normal(scale=0.02, size=value.shape) for value in network().get_weights()]
    )
    return net


def test_plain_and_exported_form_of_the_same_weights_agree():
    net = lively()
    batch = {k: tf.constant(v) for k, v in example_crops(SIZE, batch_size=4, seed=3).items()}
    apart = agreement(frozen_forward(net), unfused(plain_form(net)), batch)
    assert apart["vertices largest, mm"] < 0.002  # of parts that are nearly planar here
    assert apart["vertices_sampled largest, mm"] < 0.001


def test_the_plain_form_of_the_paper_configuration_agrees():
    tf.keras.utils.set_random_seed(5)
    config = NetworkConfig(
        image_size=16,
        image_channels=(8, 8),
        mesh_channels=(8,),
        features=4,
        points=False,
        normals=False,
        upright=False,
        rest_map=False,
        normalise_extension=False,
        extension_stride=1,
    )
    net = DualGridNet(tiny_template("mds"), config)
    net(net.example_inputs())
    batch = {k: tf.constant(v) for k, v in example_crops(16, batch_size=2, seed=3).items()}
    plain, fast = plain_form(net)(batch), net(batch)
    np.testing.assert_allclose(plain["coordinate_map"], fast["coordinate_map"], atol=1e-3)
    np.testing.assert_allclose(plain["vertices_sampled"], fast["vertices_sampled"], atol=1e-3)


def test_another_scale_is_refused():
    config = NetworkConfig(image_size=16, image_channels=(8,), mesh_channels=(8,), scale="none")
    with pytest.raises(ValueError, match="umeyama, not 'none'"):
        plain_form(DualGridNet(tiny_template(), config))
