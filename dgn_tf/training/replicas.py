"""Inside the training step: what its replicas, one on each device, have in common.

A replica computes the part that its frames have in the terms of the whole batch; parts and their
gradients add up to what a single device would get. With one replica nothing here adds an
operation to the step.
"""

import tensorflow as tf


def count() -> int:
    """Replicas of the step that is being traced."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def part_of_mean(mean: tf.Tensor, frames: tf.Tensor | None = None) -> tf.Tensor:
    """What a mean over this replica's frames contributes to that over all replicas' frames.

    Args:
        mean: over this replica's frames; 0 where none of them counts.
        frames: how many counted, float32; None: all, and equally many on every replica.
    """
    if count() == 1:
        return mean
    if frames is None:
        return mean / count()
    return mean * frames / tf.maximum(summed(tf.stop_gradient(frames)), 1.0)


def summed(values):
    """Sums over the replicas of a structure of tensors; None in it stays None."""
    if count() == 1:
        return values
    flat = tf.nest.flatten(values)
    found = [value for value in flat if value is not None]
    # In one call: it packs many small tensors into a few large messages.
    totals = iter(tf.distribute.get_replica_context().all_reduce("sum", found))
    flat = [None if value is None else next(totals) for value in flat]
    return tf.nest.pack_sequence_as(values, flat)


def apply_if(finite: tf.Tensor, optimizer, gradients, variables) -> None:
    """Applies gradients that are `summed` already where `finite`, the same on all replicas."""
    pairs = list(zip(gradients, variables, strict=True))
    if not tf.distribute.has_strategy():

        def apply():
            optimizer.apply_gradients(pairs)
            return tf.constant(True)

        tf.cond(finite, apply, lambda: tf.constant(False))
        return
    pairs = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
    gradients, variables = zip(*pairs, strict=True)

    def apply_on_replica(gradients):
        pairs = zip(gradients, variables, strict=True)
        optimizer.apply_gradients(pairs, skip_gradients_aggregation=True)

    def apply_on_all(strategy, finite, gradients):
        def apply():
            strategy.extended.call_for_each_replica(apply_on_replica, args=(gradients,))
            return tf.constant(True)

        finite = strategy.experimental_local_results(finite)[0]
        tf.cond(finite, apply, lambda: tf.constant(False))

    # An optimiser can't leave a replica from within a condition: the condition comes first.
    tf.distribute.get_replica_context().merge_call(apply_on_all, args=(finite, gradients))
