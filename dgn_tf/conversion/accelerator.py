"""The form of the network that an accelerator's compiler takes: no loops, geometry apart."""

import collections
import contextlib

import numpy as np
import tensorflow as tf

from dgn_tf.errors import InputError
from dgn_tf.network_config import NETWORK_INPUTS

# What has to stay float32 where the networks need not: millimetres at arm's length have no place in
# a half, nor squares of pixel spacings, nor the similarity fit.
GEOMETRY = ("pixel_inputs", "canonical_view", "extend", "decode")


@contextlib.contextmanager
def for_accelerator(network, geometry_apart: bool, outputs=None):
    """While it lasts `network` is traced without loops over the pixels.

    Args:
        network: built `DualGridNet`.
        geometry_apart: its `GEOMETRY` becomes functions that are not inlined. TF-TRT converts what
            stands in the main graph; what such functions hold stays TensorFlow's, in float32.
        outputs: names of the outputs to compute then; None: all. Grappler would rewrite a function
            of which an output is not used.
    """
    chunk = network.extension.chunk
    network.extension.chunk = 0
    names = GEOMETRY if geometry_apart else ()
    try:
        for name in names:  # past Keras, which would track the functions
            kept = outputs if name == "decode" else None
            object.__setattr__(network, name, _function(getattr(network, name), kept))
        yield network
    finally:
        network.extension.chunk = chunk
        for name in names:
            vars(network).pop(name, None)


def _function(method, kept):
    def run(*args):
        results = method(*args)
        if kept is None:
            return results
        return {name: value for name, value in results.items() if name in kept}

    return tf.function(run, autograph=False, experimental_attributes={"_noinline": True})


def ops_on_path(function, output: str) -> collections.Counter:
    """Op types, with counts, that `output` of a concrete function needs, without constants."""
    nodes = {node.name: node for node in function.graph.as_graph_def().node}
    wanted, seen = [function.structured_outputs[output].op.name], set()
    while wanted:
        name = wanted.pop()
        if name not in seen:
            seen.add(name)
            wanted += [source.split(":")[0] for source in nodes[name].input if source[0] != "^"]
    return collections.Counter(
        nodes[name].op for name in seen if nodes[name].op not in ("Const", "Placeholder")
    )


# Crops on which quantised engines are calibrated: from records, or synthesised.


def representative_crops(network, records: str, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The first `count` crops of `records`, or synthetic ones where `records` is empty.

    Args:
        network: that the crops are for.
        records: folder or glob of `data_prep.synthetic_to_tfrecord`, or a folder of
            `data_prep.nyu_to_tfrecord` (camera 1 of its training split, or of the split named).
        count: N.
        seed: of synthetic crops.

    Returns:
        float32 depth [N, S, S], intrinsics [N, 4], centre [N, 3], cube [N], mm and pixels.

    Raises:
        InputError: the records can't be read, are of another template, or too few.
    """
    if not records:
        from dgn_tf.synthesis.batches import synthesize_batch
        from dgn_tf.synthesis.settings import SynthesisConfig

        config = SynthesisConfig(size=network.config.image_size)
        batch = synthesize_batch(network.template, config, seed, 0, count)
        return {name: np.asarray(batch[name], np.float32) for name in NETWORK_INPUTS}
    kept: dict[str, list] = {name: [] for name in NETWORK_INPUTS}
    found = 0
    for batch in _batches(network, records):
        for name in NETWORK_INPUTS:
            kept[name].append(np.asarray(batch[name], np.float32))
        found += len(kept["cube"][-1])
        if found >= count:
            return {name: np.concatenate(parts)[:count] for name, parts in kept.items()}
    raise InputError(
        f"--calibration_records={records} hold {found} frames, {count} are wanted; "
        "write more, or lower --calibration_frames."
    )


def _batches(network, records, size=32):
    from dgn_tf.evaluation.view_records import ViewFrames, find_view_records
    from dgn_tf.records.batches import Batching
    from dgn_tf.records.reader import record_dataset

    views = find_view_records(records, "train", False)
    if views is not None:
        frames = ViewFrames(views, 1, network.template, None)
        return frames.batches(size, network.config.image_size)
    return record_dataset(
        records, network.template, batching=Batching(batch_size=size, shuffle=False, repeat=False)
    )
