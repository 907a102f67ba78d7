"""What the localiser sees: a frame thinned to one raster, and each block's surface in it."""

import math

import numpy as np
import tensorflow as tf

from dgn_tf.synthesis.whole_frames import HEIGHT, WIDTH

BLOCK = 4  # pixels of the raster on a side of a block
ROWS, COLUMNS = HEIGHT // BLOCK, WIDTH // BLOCK
NEAREST_MM, FARTHEST_MM = 100.0, 4000.0  # depth out of this range is missing
SURFACE_MM = 40.0  # of a block, what is so far behind its nearest pixel counts too
# Depths of a block's neighbours, relative to its own, by how many blocks away: full scale, mm.
_RANGES_MM = {1: 60.0, 2: 90.0, 4: 140.0, 8: 220.0}
_AROUND = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
_PIXEL_MM = 3.0  # a raster pixel's width at which its size channel is 0
_NOTHING = 1e6  # the depth of a block without depth
# Column and row of a block's pixels, as `blocks` orders them: [40, 16] and [32, 1, 16].
_COLUMN = np.float32(BLOCK * np.arange(COLUMNS)[:, None] + np.tile(np.arange(BLOCK), BLOCK))
_ROW = np.float32(BLOCK * np.arange(ROWS)[:, None, None] + np.repeat(np.arange(BLOCK), BLOCK))
FEATURES = 2 * BLOCK**2 + len(_RANGES_MM) * len(_AROUND) + 4


def thin(depth, intrinsics):
    """Thins frames of any size to the raster; the aspect ratio may change, the rays do not.

    Args:
        depth: [B, H, W] mm; 0, NaN, infinite and out-of-range values are missing.
        intrinsics: [B, 4] (fx, fy, cx, cy) of the frames, pixels.

    Returns:
        depth [B, 128, 160] mm, 0 = missing, and the raster's intrinsics [B, 4].
    """
    depth, intrinsics = tf.convert_to_tensor(depth), tf.convert_to_tensor(intrinsics)
    shape = tf.shape(depth)
    down = HEIGHT / tf.cast(shape[1], tf.float32)
    along = WIDTH / tf.cast(shape[2], tf.float32)
    rows = tf.cast(tf.floor((tf.range(HEIGHT, dtype=tf.float32) + 0.5) / down), tf.int32)
    columns = tf.cast(tf.floor((tf.range(WIDTH, dtype=tf.float32) + 0.5) / along), tf.int32)
    z = tf.gather(tf.gather(depth, rows, axis=1), columns, axis=2)
    valid = (z >= NEAREST_MM) & (z <= FARTHEST_MM)  # False for NaN
    fx, fy, cx, cy = tf.unstack(intrinsics, axis=1)
    raster = tf.stack(
        [fx * along, fy * down, (cx + 0.5) * along - 0.5, (cy + 0.5) * down - 0.5], axis=1
    )
    return tf.where(valid, z, tf.zeros_like(z)), raster


def blocks(image):
    """[B, 128, 160] -> [B, 32, 40, 16]: the pixels of each block, row by row."""
    return tf.nn.space_to_depth(image[..., tf.newaxis], BLOCK)


def surfaces(depth, intrinsics):
    """The nearest surface of each block of the raster.

    Args:
        depth: [B, 128, 160] mm, 0 = missing.
        intrinsics: [B, 4] of the raster.

    Returns:
        A dict: depth [B, 32, 40, 16] mm of the block's pixels; front [B, 32, 40, 1] mm, the
        nearest of them (0: a block without depth); near [B, 32, 40, 16], 1 for the pixels that
        belong to the nearest surface, 0 for others; point [B, 32, 40, 3] mm, the mean of those (0
        where there is none); pixels [B, 32, 40, 1], their number.
    """
    z = blocks(depth)
    front = tf.reduce_min(tf.where(z > 0, z, _NOTHING), axis=-1, keepdims=True)
    near = tf.cast((z > 0) & (z <= front + SURFACE_MM), tf.float32)
    pixels = tf.reduce_sum(near, axis=-1, keepdims=True)
    share = near * z / tf.maximum(pixels, 1.0)
    fx, fy, cx, cy = tf.unstack(intrinsics[:, :, tf.newaxis, tf.newaxis, tf.newaxis], axis=1)
    x = tf.reduce_sum(share * (tf.constant(_COLUMN) - cx), axis=-1, keepdims=True) / fx
    y = tf.reduce_sum(share * (tf.constant(_ROW) - cy), axis=-1, keepdims=True) / fy
    point = tf.concat([x, y, tf.reduce_sum(share, axis=-1, keepdims=True)], axis=-1)
    front = tf.where(front < _NOTHING, front, tf.zeros_like(front))
    return {"depth": z, "front": front, "near": near, "point": point, "pixels": pixels}


def features(found, intrinsics):
    """Input of the network: each block's relief, its neighbours' and its size in mm.

    Nothing but one weak channel tells how far away a block is: a hand looks the same near and far
    but for its size in pixels, and that is told.

    Args:
        found: of `surfaces`.
        intrinsics: [B, 4] of the raster.

    Returns:
        [B, 32, 40, FEATURES], each of them about within +-1.
    """
    z, front = found["depth"], found["front"]
    there = tf.cast(z > 0, tf.float32)
    behind = tf.minimum((z - front) / SURFACE_MM, 1.0)
    relief = 1.0 + there * (behind - 1.0)
    known = tf.cast(front > 0, tf.float32)
    far = front + (1.0 - known) * _NOTHING
    neighbours = []
    for step, scale in _RANGES_MM.items():
        wide = tf.pad(far, [[0, 0], [step, step], [step, step], [0, 0]], constant_values=_NOTHING)
        others = [
            wide[:, row : row + ROWS, column : column + COLUMNS]
            for row, column in (((1 + down) * step, (1 + right) * step) for down, right in _AROUND)
        ]
        others = tf.concat(others, axis=-1)
        neighbours.append(tf.clip_by_value((others - far) / scale, -1.0, 1.0))
    focal = intrinsics[:, tf.newaxis, tf.newaxis, :2]
    size = tf.math.log((front + (1.0 - known) * 600.0) / focal / _PIXEL_MM) / math.log(4.0)
    return tf.concat([relief, there, *neighbours, size, known, front / 2000.0], axis=-1)


# From what blocks say to where hands are: every block votes for a place, the best places win.


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
