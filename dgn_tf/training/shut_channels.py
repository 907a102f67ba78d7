"""Channels that a ReLU shuts for good: found, reported every epoch, given back.

Where a residual block's last ReLU lets a channel through on no frame, nothing that leads to it gets
a gradient any more, and no training brings it back. A too large step does that to whole blocks. A
leaky ReLU shuts nothing: networks with one have no such channel, whatever they let through.
"""

import contextlib
import logging
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.network_config import NETWORK_INPUTS

_FRAMES = 192  # of the validation split, that are looked at


def residual_blocks(network) -> dict:
    """Every residual block of a `DualGridNet`, by a name such as image/encoder_3_0."""
    found: dict[str, Any] = {}
    for tower, hourglass in (("image", network.image_hourglass), ("mesh", network.mesh_hourglass)):
        for stage in (*hourglass._encoders, *hourglass._decoders):
            found |= {f"{tower}/{block.name}": block for block in stage}
    if network.palm_direction is not None:
        found |= {f"palm/{block.name}": block for block in network.palm_direction._convs[1::2]}
    return found


@contextlib.contextmanager
def _watched(blocks):
    """Keeps, for the time of the block, which channels came into and out of each block."""
    seen = {name: [False, False] for name in blocks}

    def watch(name, block):
        call = block.call

        def watching(inputs, **kwargs):
            outputs = call(inputs, **kwargs)
            for k, values in enumerate((inputs, outputs)):
                seen[name][k] = seen[name][k] | tf.reduce_any(values > 0, axis=[0, 1, 2]).numpy()
            return outputs

        block.call = watching

    for name, block in blocks.items():
        watch(name, block)
    try:
        yield seen
    finally:
        for block in blocks.values():
            del block.call


def shut_channels(network, batches) -> dict[str, np.ndarray]:
    """[C] bool for each residual block: channels that it lets through on no frame.

    Args:
        network: built `DualGridNet`.
        batches: inputs; the first 192 frames are looked at.
    """
    relu = network.config.activation == "relu"
    return {name: ~out & relu for name, (_, out) in _activity(network, batches).items()}


def _activity(network, batches):
    """[C] bools for each block: channels that came in and that went out on any frame."""
    frames = 0
    with _watched(residual_blocks(network)) as seen:
        for batch in batches:
            network.call({name: batch[name] for name in NETWORK_INPUTS}, training=False)
            frames += int(batch["cube"].shape[0])
            if frames >= _FRAMES:
                break
    return seen


def _chains(network):
    """For each block that one kernel reads, the blocks from it on and that kernel, by its name.

    An encoder's block but the deepest is read by a skip, the last decoder by the heads: they have
    no such kernel.
    """
    for tower, hourglass in (("image", network.image_hourglass), ("mesh", network.mesh_hourglass)):
        stages = [(hourglass._encoders[-1], len(hourglass._encoders) - 1)]
        stages += [(stage, level) for level, stage in enumerate(hourglass._decoders) if level]
        for stage, level in stages if len(hourglass._encoders) > 1 else ():
            for k, block in enumerate(stage):
                yield f"{tower}/{block.name}", stage[k:], hourglass._ups[level - 1].conv
    if network.palm_direction is not None:
        convs = network.palm_direction._convs
        readers = [*(down.conv for down in convs[2::2]), network.palm_direction._hidden]
        for block, reader in zip(convs[1::2], readers, strict=True):
            yield f"palm/{block.name}", [block], reader


def revive(network, batches) -> int:
    """Gives shut channels back without changing what the network computes on `batches`.

    A block's shut channel passes the block's input on instead (its last convolution is zero
    there), and whoever reads it begins with zero weights: the same outputs at first, but
    gradients reach both from the second step on. Blocks with batch norm, and those that a skip
    or a head reads, are left alone.

    Returns:
        How many channels were given back.
    """
    if network.config.activation != "relu":
        return 0
    count = 0
    activity = _activity(network, batches)
    names = {id(block): name for name, block in residual_blocks(network).items()}
    for name, chain, reader in _chains(network):
        if any(block.norm != "none" or block.block != "plain" for block in chain):
            continue
        channels = ~np.any([activity[names[id(block)]][1] for block in chain], axis=0)
        if chain[0]._shortcut is None:
            channels &= activity[name][0]  # what never comes in can't be passed on
        if not channels.any():
            continue
        for block in chain:
            _clear(block._units[-1].conv, channels)
        kernel = reader.kernel.numpy()
        kernel.reshape(-1, len(channels), kernel.shape[-1])[:, channels] = 0
        reader.kernel.assign(kernel)
        count += int(channels.sum())
    return count


def _clear(conv, channels):
    kernel, bias = conv.kernel.numpy(), conv.bias.numpy()
    kernel[..., channels], bias[channels] = 0, 0
    conv.kernel.assign(kernel)
    conv.bias.assign(bias)


class WatchShutChannels(keras.callbacks.Callback):
    """Logs the share of shut channels at each epoch's end; ends the run where a block is shut.

    Args:
        batches: of the validation split.
        stop: whether a block without any open channel ends the run.
    """

    def __init__(self, batches, stop: bool = True):
        super().__init__()
        self._batches, self._stop = batches, stop

    def on_epoch_end(self, epoch, logs=None):
        shut = shut_channels(self.model.network, self._batches)
        logs["shut_channels"] = float(np.concatenate(list(shut.values())).mean())
        worst = max(shut, key=lambda name: shut[name].mean())
        logging.info(
            "shut channels: %.1f %% of all; most in %s, %d of %d",
            100 * logs["shut_channels"],
            worst,
            shut[worst].sum(),
            len(shut[worst]),
        )
        if self._stop and shut[worst].all():
            raise InputError(
                f"the block {worst} lets no channel through on any validation frame: it has "
                "stopped learning and would not begin again. Go on from an earlier checkpoint "
                "(--init_weights with --revive gives such channels back) at a lower "
                "--learning_rate, or set --nostop_when_shut."
            )
