"""Channels that a ReLU shuts for good: named, given back without a change, a run ended by name."""

import types

import numpy as np
import pytest
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.network import DualGridNet
from dgn_tf.network_config import NETWORK_INPUTS, NetworkConfig
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.template import load_template
from dgn_tf.training.shut_channels import (
    WatchShutChannels,
    residual_blocks,
    revive,
    shut_channels,
)


@pytest.fixture(scope="module")
def batches():
    frames = synthesize_batch(load_template(), SynthesisConfig(), 3, 0, 6, 1)
    return [{name: tf.constant(frames[name]) for name in NETWORK_INPUTS}]


def network(**changes):
    tf.keras.utils.set_random_seed(1)
    config = NetworkConfig(
        image_channels=(8, 12, 16, 16), mesh_channels=(8, 12), features=8, **changes
    )
    made = DualGridNet(load_template(), config)
    made(made.example_inputs())
    return made


def shut(block, channels):
    """Makes a block's channels negative for every input."""
    bias = block._units[-1].conv.bias
    bias.assign(np.where(np.arange(bias.shape[0]) < channels, -1e3, bias.numpy()))


def test_shut_channels_are_found_by_block(batches):
    net = network()
    before = shut_channels(net, batches)
    assert set(before) == set(residual_blocks(net)) and "palm/block_1" in before
    shut(net.image_hourglass._encoders[-1][0], 5)
    after = shut_channels(net, batches)
    assert after["image/encoder_3_0"][:5].all()
    assert (after["image/encoder_3_0"][5:] == before["image/encoder_3_0"][5:]).all()
    assert "call" not in vars(net.image_hourglass._encoders[-1][0])  # nothing watches any more


@pytest.mark.parametrize("name", ["image/encoder_3_0", "image/decoder_2_0", "palm/block_1"])
def test_revived_channels_change_nothing_and_learn_again(batches, name):
    net = network()
    block = residual_blocks(net)[name]
    shut(block, block.filters)
    kernel = block._units[-1].conv.kernel

    def gradient():
        with tf.GradientTape() as tape:
            outputs = net(batches[0])
            loss = tf.reduce_sum(outputs["vertices"] ** 2) + tf.reduce_sum(
                outputs["palm_direction"] ** 2
            )
        return tape.gradient(loss, kernel)

    assert not np.any(gradient())  # no training would bring it back
    before = net(batches[0])
    count = revive(net, batches)
    after = net(batches[0])
    assert count > 0 and shut_channels(net, batches)[name].sum() < len(
        shut_channels(net, batches)[name]
    )
    for key in ("vertices", "mesh_coords", "palm_direction"):
        np.testing.assert_array_equal(before[key], after[key])
    # Its readers' weights are zero at first; once they have moved, gradients come through.
    for variable in net.trainable_variables:
        if "kernel" in variable.name:
            variable.assign_add(1e-3 * tf.random.normal(variable.shape, seed=2))
    assert np.any(gradient())
    assert revive(net, batches) <= count


def test_a_network_without_dead_zones_has_nothing_shut(batches):
    net = network(activation="leaky_relu")
    block = residual_blocks(net)["image/encoder_3_0"]
    shut(block, 16)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(net(batches[0])["vertices"] ** 2)
    assert np.any(tape.gradient(loss, block._units[-1].conv.kernel))
    assert not np.any(np.concatenate(list(shut_channels(net, batches).values())))
    assert revive(net, batches) == 0  # it would change what the leak lets through
    again = DualGridNet.from_config(net.get_config())
    assert again.config.activation == "leaky_relu"


def test_a_shut_block_ends_the_run_by_name(batches):
    net = network()
    watch = WatchShutChannels(batches)
    watch.set_model(types.SimpleNamespace(network=net))
    logs = {}
    watch.on_epoch_end(0, logs)
    assert 0 <= logs["shut_channels"] < 0.7
    shut(residual_blocks(net)["image/encoder_3_0"], 16)
    with pytest.raises(InputError, match="the block image/encoder_3_0 lets no channel through"):
        watch.on_epoch_end(1, logs)
    lenient = WatchShutChannels(batches, stop=False)
    lenient.set_model(types.SimpleNamespace(network=net))
    lenient.on_epoch_end(1, logs)
