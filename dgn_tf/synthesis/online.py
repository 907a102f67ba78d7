"""A dataset that synthesises its batches while training runs."""

import os
from collections.abc import Callable

import tensorflow as tf

from dgn_tf.records.batches import WHOLE, Batching, targets
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.pose_prior import GivenHands, PosePrior
from dgn_tf.synthesis.settings import SynthesisConfig


def batch_spec(template, size: int) -> dict[str, tuple[tuple[int, ...], tf.DType]]:
    """Shape without the batch axis and type of every array of `synthesize_batch`."""
    vertices, keypoints = len(template.vertices), len(template.keypoints)
    return {
        "depth": ((size, size), tf.float32),
        "intrinsics": ((4,), tf.float32),
        "centre": ((3,), tf.float32),
        "cube": ((), tf.float32),
        "vertices": ((vertices, 3), tf.float32),
        "keypoints": ((keypoints, 3), tf.float32),
        "face": ((size, size), tf.int16),
        "barycentric": ((size, size, 2), tf.float32),
    }


def online_dataset(
    template,
    config: SynthesisConfig,
    batching: Batching,
    hands: Callable[[int], GivenHands | None] | None = None,
    prior: PosePrior | None = None,
) -> tf.data.Dataset:
    """An endless dataset of synthetic batches, with the embedding's per-pixel targets.

    Batch k holds the samples k * batch_size .. (k + 1) * batch_size - 1 of the seed.

    Args:
        template: HandTemplate with the embedding in use.
        config: what to sample from.
        batching: which batches; a `share` without `hands` alone.
        hands: number of a batch -> those of its first samples, in place of sampled ones.
        prior: see `synthesize_batch`.

    Returns:
        Batches as `synthesize_batch` and `targets` make them, with static shapes.
    """
    if hands and batching.share != WHOLE:
        raise ValueError("online_dataset can't share batches that begin with given hands.")
    spec = batch_spec(template, config.size)
    rows = batching.rows

    def synthesize(step):
        given = hands(int(step)) if hands else None
        batch = synthesize_batch(
            template,
            config,
            batching.seed,
            int(step) * batching.batch_size + rows.start,
            len(rows),
            batching.threads,
            given,
            prior,
        )
        return [batch[name] for name in spec]

    def load(step):
        arrays = tf.numpy_function(synthesize, [step], [dtype for _, dtype in spec.values()])
        batch = dict(zip(spec, arrays, strict=True))
        for name, (shape, _) in spec.items():
            batch[name].set_shape((len(rows), *shape))
        return targets(batch, template)

    steps = tf.data.Dataset.range(batching.start_step, tf.int64.max)
    options = tf.data.Options()
    # numpy_function holds Python state: the graph must not be sharded or shipped elsewhere.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    options.threading.private_threadpool_size = max(1, min(2, os.cpu_count() or 1))
    return steps.map(load).prefetch(batching.prefetch).with_options(options)
