"""What the localiser learns from: terms by name, one value per frame."""

import tensorflow as tf

from dgn_tf.localize import raster
from dgn_tf.synthesis.whole_frames import HANDS

WEIGHTS = {"hand": 1.0, "left": 0.3, "offset": 0.02}
_HUBER_MM = 10.0


def block_truth(batch, outputs) -> dict[str, tf.Tensor]:
    """What each block shows: share [B, 32, 40] of its surface that is a hand's, whether a left
    hand's (likewise a share of that), and that hand's centre [B, 32, 40, 3] mm."""
    owner = raster.blocks(tf.cast(batch["owner"], tf.float32))
    counts = [
        tf.reduce_sum(tf.cast(owner == number, tf.float32) * outputs["near"], axis=-1)
        for number in range(HANDS)
    ]
    visible = tf.cast(batch["visible"], tf.float32)[:, tf.newaxis, tf.newaxis]
    count = tf.stack(counts, axis=-1) * visible  # [B, 32, 40, 2]
    hands = tf.reduce_sum(count, axis=-1)
    share = hands / tf.maximum(outputs["pixels"], 1.0)
    of_hand = count / tf.maximum(hands, 1.0)[..., tf.newaxis]
    left = tf.linalg.matvec(of_hand, tf.cast(batch["left"], tf.float32)[:, tf.newaxis])
    centre = tf.einsum("bijh,bhc->bijc", of_hand, batch["centre"])
    return {"share": share, "left": left, "centre": centre}


def localiser_terms(outputs, batch) -> dict[str, tf.Tensor]:
    """Terms of the loss [B] each.

    hand: cross entropy over the blocks with depth; left: over the blocks that show a hand; offset:
    Huber of the distance from the voted to the true centre, mm, over the same.
    """
    truth = block_truth(batch, outputs)
    there = tf.cast(outputs["pixels"] > 0, tf.float32)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(truth["share"], outputs["hand"])
    # A mean over all blocks would let a hand far away, of few blocks, count for nothing.
    hand_blocks = tf.reduce_sum(truth["share"], axis=[1, 2])
    terms = {"hand": tf.reduce_sum(cross * there, axis=[1, 2]) / (hand_blocks + 20.0)}
    weight = truth["share"] / tf.maximum(hand_blocks, 1e-6)[:, tf.newaxis, tf.newaxis]
    cross = tf.nn.sigmoid_cross_entropy_with_logits(truth["left"], outputs["left"])
    terms["left"] = tf.reduce_sum(cross * weight, axis=[1, 2])
    off = outputs["point"] + outputs["offset"] - truth["centre"]
    square = tf.reduce_sum(tf.square(off), axis=-1)
    # Pseudo-Huber: smooth everywhere.
    distance = _HUBER_MM * (tf.sqrt(1.0 + square / _HUBER_MM**2) - 1.0)
    terms["offset"] = tf.reduce_sum(distance * weight, axis=[1, 2])
    return terms
