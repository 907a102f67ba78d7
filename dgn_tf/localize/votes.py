"""From what blocks say to where hands are: every block votes for a place, the best places win."""

import tensorflow as tf

VOTERS = 96  # the blocks with the most hand in them
REACH_MM = 60.0  # votes for one hand lie within
APART_MM = 100.0  # two hands' centres are further apart
FOUND = 0.3  # a place without a block of that probability is no hand


def best_hands(outputs, count: int):
    """The places that most blocks vote for.

    A block's vote weighs its probability of showing a hand, times the area of surface it sees: so
    a near hand's many blocks weigh no more than a far one's few. Plain ops, no loop over data.

    Args:
        outputs: of `Localiser`.
        count: K, places to return, no two of them within `APART_MM`.

    Returns:
        A dict: centre [B, K, 3] mm, camera frame, best first, some finite place before the camera
        where there is none; score [B, K], probability that a hand is there (0: no such place);
        left [B, K], probability that it is a left one.
    """
    hand = tf.sigmoid(outputs["hand"]) * tf.cast(outputs["pixels"] > 0, tf.float32)
    batch = tf.shape(hand)[0]
    chance, index = tf.math.top_k(tf.reshape(hand, [batch, -1]), VOTERS)  # [B, N]
    point = tf.gather(tf.reshape(outputs["point"], [batch, -1, 3]), index, batch_dims=1)
    offset = tf.gather(tf.reshape(outputs["offset"], [batch, -1, 3]), index, batch_dims=1)
    pixels = tf.gather(tf.reshape(outputs["pixels"], [batch, -1]), index, batch_dims=1)
    left = tf.sigmoid(tf.gather(tf.reshape(outputs["left"], [batch, -1]), index, batch_dims=1))
    vote = point + offset  # [B, N, 3]
    weight = chance * pixels * tf.square(point[..., 2] * 1e-3)
    apart = tf.reduce_sum(
        tf.square(vote[:, :, tf.newaxis] - vote[:, tf.newaxis]), axis=-1
    )  # [B, N, N]
    near = tf.cast(apart < REACH_MM**2, tf.float32)
    support = tf.linalg.matvec(near, weight) * tf.cast(chance > 0.05, tf.float32)
    centres, scores, lefts = [], [], []
    for _ in range(count):
        best = tf.argmax(support, axis=1)
        there = tf.gather(near, best, batch_dims=1)  # [B, N]
        votes = there * weight
        total = tf.maximum(tf.reduce_sum(votes, axis=1, keepdims=True), 1e-9)
        centre = tf.linalg.matvec(vote, votes / total, transpose_a=True)
        exists = tf.gather(support, best, batch_dims=1) > 0
        centres.append(tf.where(exists[:, tf.newaxis], centre, tf.constant([0.0, 0.0, 500.0])))
        score = tf.reduce_max(there * chance, axis=1)
        scores.append(tf.where(exists, score, tf.zeros_like(score)))
        lefts.append(tf.reduce_sum(votes * left, axis=1) / total[:, 0])
        taken = tf.reduce_sum(tf.square(vote - centre[:, tf.newaxis]), axis=-1) < APART_MM**2
        support = tf.where(taken, tf.zeros_like(support), support)
    return {
        "centre": tf.stack(centres, axis=1),
        "score": tf.stack(scores, axis=1),
        "left": tf.stack(lefts, axis=1),
    }
