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
