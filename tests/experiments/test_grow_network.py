"""A grown network computes what the small one does, and every new weight can be learnt."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.network import DualGridNet
from dgn_tf.serving.saving import example_crops
from experiments.grow_network import grow
from tests.exported_model import SIZE, network


@pytest.fixture(scope="module")
def small():
    """A network whose heads, norms and averages are away from their start values."""
    rng = np.random.default_rng(4)
    net = DualGridNet(network().template, network().config)
    net(net.example_inputs())
    net.set_weights(
        [
            np.abs(value) + 0.1
            if "variance" in weight.name
            else value + rng.normal(scale=0.02, size=value.shape)
            for weight, value in zip(net.weights, net.get_weights(), strict=True)
        ]
    )
    return net


def wider(channels):
    return tuple(count + 8 * (level + 1) for level, count in enumerate(channels))


@pytest.mark.parametrize("what", ["image_channels", "mesh_channels", "blocks", "all"])
def test_a_grown_network_has_the_small_ones_outputs(small, what):
    config = small.config
    sizes = {
        "image_channels": wider(config.image_channels),
        "mesh_channels": wider(config.mesh_channels),
        "blocks": config.blocks + 1,
    }
    if what != "all":
        sizes = {what: sizes[what]}
    large = grow(small, **sizes)
    assert large.count_params() > small.count_params()
    assert dataclasses.replace(config, **sizes) == large.config
    crops = example_crops(SIZE, 3)
    before, after = small(crops), large(crops)
    for name in ("vertices_sampled", "vertices", "mesh_coords", "layer_logits", "keypoints"):
        np.testing.assert_allclose(after[name], before[name], rtol=0, atol=2e-3, err_msg=name)


def test_what_is_new_learns(small):
    """Outputs that old channels read have a gradient at once."""
    large = grow(small, image_channels=wider(small.config.image_channels))
    crops = example_crops(SIZE, 3)
    with tf.GradientTape() as tape:
        moved = tf.reduce_sum(tf.square(large(crops)["vertices_sampled"]))
    kernel = large.correspondence_head.kernel, large.feature_head.kernel
    first = small.config.image_channels[0]
    for gradient in tape.gradient(moved, kernel):
        assert np.all(np.isfinite(gradient))
        assert np.any(gradient[..., first:, :] != 0)


def test_networks_do_not_shrink(small):
    with pytest.raises(InputError, match="networks only grow"):
        grow(small, image_channels=tuple(c - 1 for c in small.config.image_channels))
