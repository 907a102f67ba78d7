"""What finds hands in whole frames, for an exported model: a network, or blobs of a hand's size."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dgn_tf.localize import raster
from dgn_tf.localize.network import Localiser, load_localiser, weights_hash
from dgn_tf.localize.raster import FOUND, best_hands
from dgn_tf.serving.freezing import frozen

BLOB = "blob"


class NetworkFinder:
    """Finds hands by a trained `Localiser`, whose weights become constants of the graph.

    Args:
        network: built, with its weights.
        words: what it is, for the exported model's description.

    Attributes:
        variables: what a saved model has to own, see `freezing.frozen`.

    Call arguments:
        depth: [B, H, W] mm, 0 = missing.
        intrinsics: [B, 4] of the frames.
        count: K, places to return.

    Returns:
        centre [B, K, 3] mm and score [B, K], see `votes.best_hands`.
    """

    least_score = FOUND

    def __init__(self, network: Localiser, words: str = "localiser"):
        self.words = words
        specs = {
            "depth": tf.TensorSpec([None, raster.HEIGHT, raster.WIDTH], tf.float32, name="depth"),
            "intrinsics": tf.TensorSpec([None, 4], tf.float32, name="intrinsics"),
        }
        names = ("hand", "left", "offset", "point", "pixels")

        def forward(**inputs):
            outputs = network(inputs, training=False)
            return {name: outputs[name] for name in names}

        self.variables: list = []
        self._forward = frozen(forward, specs, names, large=self.variables)

    def __call__(self, depth, intrinsics, count: int = 1):
        depth, intrinsics = raster.thin(depth, intrinsics)
        outputs = self._forward(depth=depth, intrinsics=intrinsics)
        places = best_hands(outputs, count)
        return {"centre": places["centre"], "score": places["score"]}


class BlobFinder:
    """Finds the nearest blobs of a hand's size, without a network."""

    least_score = 0.5
    words = BLOB
    variables: tuple = ()

    def __call__(self, depth, intrinsics, count: int = 1):
        centre, score = blob_candidates(depth, intrinsics, count)
        return {
            "centre": centre,
            "score": tf.cast(tf.math.is_finite(score), tf.float32),
        }


def load_finder(choice: str = ""):
    """The finder of --localiser: `blob`, a localiser's folder, or empty, the one that ships.

    Raises:
        InputError: no localiser in that folder, or a damaged one.
    """
    if choice == BLOB:
        return BlobFinder()
    words = f"localiser (weights of sha256 {weights_hash(choice)})"
    return NetworkFinder(load_localiser(choice), words)


# Finds the hand in a whole depth frame: the nearest blob of a hand's size, and its centre of mass.
#
# The frame is thinned to a fixed 160x120 raster, so that the cost does not depend on its size.
# Every pixel counts with the area of the surface patch that it sees, z^2 / (fx fy) times its size,
# so
# that thresholds are in cm^2 and the same near and far. Three steps:
#
# 1. Nearest depth: where the patches, sorted by depth, first add up to `support_cm2`. A few flying
#    pixels in front of the hand do not reach it.
# 2. The hand among what lies near. Each 4x4 block of the raster proposes its nearest surface. A
# hand
#    fills a ball around its centre with thin parts and has little just outside, the wrist alone; a
#    forearm goes on at both ends, a body on all sides. The best such proposal wins.
# 3. Mean shift: the centre of mass inside the ball, repeated from there.
#
# Plain TensorFlow ops without loops over data: it goes into the exported graph as it is.


WIDTH, HEIGHT, BLOCK = 160, 120, 4
PROPOSALS = 400  # the nearest of the 1200 blocks
_DEPTH_STEPS = 400  # of the histogram in step 1
_BORDER = np.pad(  # [30, 40], 1 for blocks at the frame's border
    np.zeros([HEIGHT // BLOCK - 2, WIDTH // BLOCK - 2], np.float32), 1, constant_values=1
)
_NO_SCORE = -1e9
_NOWHERE = (0.0, 0.0, 500.0)  # mm; a crop around it is finite


class BlobConfig(NamedTuple):
    """Lengths in mm, areas in cm^2; prices and gains chosen on synthetic frames alone."""

    nearest_mm: float = 100.0  # depth out of this range is missing
    farthest_mm: float = 4000.0
    support_cm2: float = 6.0  # area that makes a nearest surface, about two finger tips
    search_mm: float = 350.0  # proposals lie at most so far behind the nearest surface
    surface_mm: float = 30.0  # of a block, what is so far behind its nearest pixel counts too
    ball_mm: float = 95.0  # radius: from a hand's middle to its finger tips and wrist
    enough_cm2: float = 100.0  # more does not make it more of a hand
    around_mm: float = 140.0  # radius of the shell that should be empty
    around_price: float = 1.5  # cm^2 inside that 1 cm^2 around costs
    border_price: float = 3.0  # the same of 1 cm^2 at the frame's border
    local_mm: float = 40.0  # radius of a disc of which a finger fills little, an arm most
    thin_gain: float = 3.0  # how much more thin parts count
    depth_price: float = 0.25  # cm^2 that 1 mm behind the nearest surface costs
    below_price: float = 0.0  # cm^2 that 1 mm down costs
    iterations: int = 5


def blob_candidates(depth, intrinsics, count: int, config: BlobConfig = BlobConfig()):  # noqa: B008
    """The best hand-sized blobs of each frame, no two of them in one ball.

    Args:
        depth: [B, H, W] mm; 0, NaN, infinite and out-of-range values are missing.
        intrinsics: [B, 4] (fx, fy, cx, cy) of the frames, pixels.
        count: K.

    Returns:
        centre: [B, K, 3] mm, camera frame: centres of mass of visible surface; some finite point
            before the camera where there is no such candidate.
        score: [B, K] cm^2, how much of a hand it is, best first; -inf: there is no such candidate.
    """
    proposals, mass, score, found = _scored_proposals(depth, intrinsics, config)
    score = tf.where(found[:, tf.newaxis] & (score > _NO_SCORE), score, -math.inf)
    centres, scores = [], []
    for _ in range(count):
        best = tf.argmax(score, axis=1)
        place = tf.gather(proposals, best, batch_dims=1)
        centre = _mean_shift(proposals, mass, place, config)
        scores.append(tf.gather(score, best, batch_dims=1))
        there = tf.math.is_finite(scores[-1])[:, tf.newaxis]
        centres.append(tf.where(there, centre, tf.constant(_NOWHERE)))
        apart = tf.reduce_sum((proposals - place[:, tf.newaxis]) ** 2, axis=-1)
        score = tf.where(apart < config.ball_mm**2, -math.inf, score)
    return tf.stack(centres, axis=1), tf.stack(scores, axis=1)


def _scored_proposals(depth, intrinsics, config):
    """Proposals [B, N, 3] mm, their areas [B, N] cm^2 and scores [B, N], and found [B]."""
    points, area = _thin(tf.convert_to_tensor(depth), tf.convert_to_tensor(intrinsics), config)
    nearest, found = _nearest_depth(points[..., 2], area, config)
    proposals, mass, at_border = _propose(points, area, nearest, config)
    return proposals, mass, _score(proposals, mass, at_border, nearest, config), found


def _thin(depth, intrinsics, config):
    """Points [B, 120, 160, 3] mm and the area [B, 120, 160] cm^2 each stands for (0: missing)."""
    shape = tf.shape(depth)
    height, width = tf.cast(shape[1], tf.float32), tf.cast(shape[2], tf.float32)
    rows = tf.floor((tf.range(HEIGHT, dtype=tf.float32) + 0.5) * height / HEIGHT)
    columns = tf.floor((tf.range(WIDTH, dtype=tf.float32) + 0.5) * width / WIDTH)
    z = tf.gather(depth, tf.cast(rows, tf.int32), axis=1)
    z = tf.gather(z, tf.cast(columns, tf.int32), axis=2)  # [B, 120, 160]
    valid = (z >= config.nearest_mm) & (z <= config.farthest_mm)  # False for NaN
    z = tf.where(valid, z, tf.zeros_like(z))
    fx, fy, cx, cy = tf.unstack(intrinsics[:, :, tf.newaxis, tf.newaxis], axis=1)  # [B, 1, 1]
    x = (columns - cx) / fx * z
    y = (rows[:, tf.newaxis] - cy) / fy * z
    pixels = (height / HEIGHT) * (width / WIDTH)
    return tf.stack([x, y, z], axis=-1), z * z * (pixels * 1e-2 / (fx * fy))


def _nearest_depth(z, area, config):
    """Depth [B] where the area sorted by depth first reaches the support, and whether it does."""
    step = (config.farthest_mm - config.nearest_mm) / _DEPTH_STEPS
    bins = tf.cast((z - config.nearest_mm) / step, tf.int32)
    bins = tf.clip_by_value(bins, 0, _DEPTH_STEPS - 1)  # missing pixels add nothing to bin 0
    batch = tf.shape(z)[0]
    offset = tf.range(batch)[:, tf.newaxis, tf.newaxis] * _DEPTH_STEPS
    mass = tf.math.unsorted_segment_sum(area, bins + offset, batch * _DEPTH_STEPS)
    mass = tf.cumsum(tf.reshape(mass, [-1, _DEPTH_STEPS]), axis=1)
    reached = mass >= config.support_cm2
    first = tf.argmax(tf.cast(reached, tf.int32), axis=1, output_type=tf.int32)
    return config.nearest_mm + step * tf.cast(first, tf.float32), reached[:, -1]


def _propose(points, area, nearest, config):
    """The surfaces of the N nearest blocks.

    Returns centres [B, N, 3] mm, areas [B, N] cm^2 (0: none) and whether the block lies at the
    frame's border [B, N] (1.0 or 0.0).
    """
    z = points[..., 2]
    # Flying pixels before the nearest surface would hide what is behind them in their block.
    usable = (area > 0) & (z >= nearest[:, tf.newaxis, tf.newaxis])
    depth = tf.where(usable, z, 1e6)[..., tf.newaxis]
    front = -tf.nn.max_pool2d(-depth, BLOCK, BLOCK, "VALID")  # [B, 30, 40, 1]
    spread = tf.repeat(tf.repeat(front, BLOCK, axis=1), BLOCK, axis=2)
    near = depth <= tf.minimum(spread + config.surface_mm, 9e5)
    weight = tf.where(near, area[..., tf.newaxis], 0.0)  # [B, 120, 160, 1]
    moments = tf.concat([points * weight, weight], axis=-1)
    moments = tf.nn.avg_pool2d(moments, BLOCK, BLOCK, "VALID") * float(BLOCK**2)
    blocks = _BORDER.size
    _, index = tf.math.top_k(-tf.reshape(front, [-1, blocks]), PROPOSALS, sorted=False)
    moments = tf.gather(tf.reshape(moments, [-1, blocks, 4]), index, batch_dims=1)
    mass = moments[..., 3]
    at_border = tf.gather(tf.constant(_BORDER.ravel()), index)
    return moments[..., :3] / tf.maximum(mass, 1e-6)[..., tf.newaxis], mass, at_border


def _score(proposals, mass, at_border, nearest, config):
    """Score [B, N]: much mass, thin parts first, inside the ball, and little around it."""
    # The nearest depth is subtracted: smaller numbers, so that float32 distances stay exact.
    shifted = proposals - nearest[:, tf.newaxis, tf.newaxis] * tf.constant([0.0, 0.0, 1.0])
    norms = tf.reduce_sum(shifted**2, axis=-1)
    squared = norms[:, :, tf.newaxis] + norms[:, tf.newaxis]
    squared -= 2 * tf.matmul(shifted, shifted, transpose_b=True)  # [B, N, N]
    local = tf.linalg.matvec(tf.cast(squared < config.local_mm**2, tf.float32), mass)  # [B, N]
    disc = math.pi * config.local_mm**2 * 1e-2  # cm^2
    thin = tf.maximum(1 - local / disc, 0.0)
    inside = tf.cast(squared < config.ball_mm**2, tf.float32)
    within = tf.cast(squared < config.around_mm**2, tf.float32)
    price = config.around_price
    score = tf.linalg.matvec(inside, mass * (1 + config.thin_gain * thin))
    score = tf.minimum(score, config.enough_cm2) + price * tf.linalg.matvec(inside, mass)
    # What the frame cuts goes on beyond its border: the cut end of an arm is no hand.
    score -= tf.linalg.matvec(within, mass * (price + config.border_price * at_border))
    behind = shifted[..., 2]
    score -= config.depth_price * behind + config.below_price * proposals[..., 1]
    return tf.where((mass > 0) & (behind <= config.search_mm), score, _NO_SCORE)


def _mean_shift(proposals, mass, centre, config):
    """Repeats the centre of mass [B, 3] of what lies within the ball."""
    for _ in range(config.iterations):
        squared = tf.reduce_sum((proposals - centre[:, tf.newaxis]) ** 2, axis=-1)
        weight = tf.where(squared < config.ball_mm**2, mass, 0.0)  # [B, N]
        total = tf.reduce_sum(weight, axis=1, keepdims=True)
        mean = tf.linalg.matvec(proposals, weight, transpose_a=True) / tf.maximum(total, 1e-6)
        centre = tf.where(total > 0, mean, centre)
    return centre
