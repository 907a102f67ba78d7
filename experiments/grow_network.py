"""A wider or deeper network that computes what a trained one does, to be trained on.

    python -m experiments.grow_network --weights=saved_models/dgn --image_channels=48,96,160,224 \
        --mesh_channels=128,160 --output_dir=runs/grown

Writes a model folder for `dgn_tf.train --init_weights` (with the same --image_channels,
--mesh_channels and --blocks). New channels get the initial values that training from nothing
begins with; nothing that was there reads them until training makes it (as in T. Chen et al.,
"Net2Net", ICLR 2016, but for new channels being new, not copies). New residual blocks begin as
the identity.
"""

import dataclasses

import numpy as np
from absl import flags

from dgn_tf import errors
from dgn_tf.errors import InputError

FLAGS = flags.FLAGS
flags.DEFINE_string("weights", "saved_models/dgn", "Model folder to begin with.")
flags.DEFINE_list("image_channels", None, "Channels by level, image hourglass; empty: the same.")
flags.DEFINE_list("mesh_channels", None, "Likewise, mesh hourglass.")
flags.DEFINE_integer("blocks", None, "Residual blocks a level on the way down; empty: the same.")
flags.DEFINE_integer("seed", 0, "Of the new weights.")
flags.DEFINE_string("output_dir", None, "Folder for the larger network.", required=True)


def main(_):
    import keras

    from dgn_tf.model_folder import files_in, load_network, save_model_folder
    from dgn_tf.output_files import refuse_inputs

    refuse_inputs({"output_dir": files_in(FLAGS.output_dir)}, {"weights": FLAGS.weights})
    keras.utils.set_random_seed(FLAGS.seed)
    small = load_network(FLAGS.weights, calibrated=False)
    large = grow(small, **_sizes())
    save_model_folder(large, FLAGS.output_dir, info={"grown_from": FLAGS.weights})
    print(
        f"{FLAGS.output_dir}: {large.count_params():,} parameters, {small.count_params():,} of "
        "them trained"
    )


def _sizes() -> dict:
    sizes: dict = {"blocks": FLAGS.blocks} if FLAGS.blocks is not None else {}
    for name in ("image_channels", "mesh_channels"):
        given: list[str] = FLAGS[name].value or []
        try:
            channels = tuple(int(count) for count in given)
        except ValueError:
            raise InputError(f"--{name}={','.join(given)}: wanted whole numbers.") from None
        if channels:
            sizes[name] = channels
    return sizes


def grow(small, **sizes):
    """A built network of `sizes` (fields of NetworkConfig) whose outputs are those of `small`.

    Raises:
        InputError: a size is smaller than `small`'s.
    """
    from dgn_tf.network import DualGridNet

    large = DualGridNet(small.template, dataclasses.replace(small.config, **sizes))
    large(large.example_inputs())
    trained = _by_path(small)
    grown = {}
    for path, weight in _by_path(large).items():
        old = trained.pop(path, None)
        new = weight.numpy()
        grown[weight.name] = new if old is None else _grown(path, old.numpy(), new)
    if trained:
        raise InputError(f"{', '.join(sizes)}: {min(trained)} has no place in the new network.")
    large.set_weights([grown[weight.name] for weight in large.weights])
    return large


def _by_path(network) -> dict:
    """Weights by the number of their layer and their name below it: Keras numbers layers anew."""
    return {
        f"{index}/{weight.name.split('/', 2)[2]}": weight
        for index, layer in enumerate(network.layers)
        for weight in layer.weights
    }


def _grown(path: str, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """`old` in the corner of `new`; its outputs do not read the inputs beyond it."""
    if old.shape == new.shape:
        return old
    if any(before > after for before, after in zip(old.shape, new.shape, strict=True)):
        raise InputError(f"{path}: {new.shape} is smaller than {old.shape}; networks only grow.")
    if "/up_" in path:  # pixel shuffle: four groups of channels, each of which grows
        groups = zip(np.split(old, 4, axis=-1), np.split(new, 4, axis=-1), strict=True)
        return np.concatenate([_grown("", *group) for group in groups], axis=-1)
    grown = new.copy()
    if old.ndim > 1:
        grown[..., : old.shape[-1]] = 0
    grown[tuple(slice(size) for size in old.shape)] = old
    return grown


if __name__ == "__main__":
    errors.run(main)
