"""Synthetic training frames: hands posed, placed, rendered into crops and seen by a sensor."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from dgn_tf.synthesis.crops import observe_crops, render_crops
from dgn_tf.synthesis.hand_measures import HandArrays, hand_arrays
from dgn_tf.synthesis.placing import place_hands
from dgn_tf.synthesis.pose_prior import GivenHands, PosePrior, no_hands
from dgn_tf.synthesis.posing import pose_hands
from dgn_tf.synthesis.scene import MAX_SOLIDS, SOLID_FIELDS, draw_scenes
from dgn_tf.synthesis.settings import SynthesisConfig

_CHUNK = 8  # samples a thread takes at a time


class _Workspace:
    """Buffers for `count` samples, kept by a thread: fresh ones cost more than what fills them."""

    def __init__(self, hand: HandArrays, size: int, count: int):
        self.key = (id(hand), size, count)
        self.vertices = np.empty([count, len(hand.vertices) + len(hand.stub), 3])
        self.straight = np.empty([count, len(hand.vertices), 3])
        self.keypoints = np.empty([count, len(hand.keypoints), 3])
        self.cameras = np.empty([count, 6])
        self.forearm = np.empty(count, np.bool_)
        self.solids = np.zeros([count, MAX_SOLIDS, SOLID_FIELDS])
        self.solid_counts = np.zeros([count, 2], np.int64)
        self.depth = np.empty([count, size, size])
        self.face = np.empty([count, size, size], np.int32)
        self.barycentric = np.empty([count, size, size, 2])
        self.intrinsics = np.empty([count, 4])
        self.centres = np.empty([count, 3])
        self.pixels = np.zeros(count, np.int64)

    def draw_hands(
        self, hand: HandArrays, config: SynthesisConfig, given, prior, seed, rows, indices, attempts
    ):
        """Poses hands and puts them before cameras, with what surrounds them."""
        pose_hands(
            hand,
            config.pose,
            given,
            prior,
            seed,
            rows,
            indices,
            attempts,
            self.vertices,
            self.keypoints,
        )
        place_hands(
            hand,
            config.place,
            given,
            config.cube_mm,
            seed,
            rows,
            indices,
            attempts,
            self.vertices,
            self.straight,
            self.keypoints,
            self.cameras,
            self.forearm,
        )
        draw_scenes(
            config.scene,
            hand,
            seed,
            rows,
            indices,
            attempts,
            self.vertices,
            self.solids,
            self.solid_counts,
        )


_THREAD = threading.local()


def _workspace(hand: HandArrays, size: int) -> _Workspace:
    """This thread's workspace."""
    space = getattr(_THREAD, "workspace", None)
    if space is None or space.key != (id(hand), size, _CHUNK):
        space = _THREAD.workspace = _Workspace(hand, size, _CHUNK)
    return space


def _no_prior(hand: HandArrays) -> np.ndarray:
    return np.empty([0, len(hand.parents), 3])


class DrawnHand(NamedTuple):
    """One sample's hand before its camera."""

    vertices: np.ndarray  # [V + Vs, 3] mm, camera frame, as rendered: the hand's, the forearm's
    straight: np.ndarray  # [V, 3] mm, camera frame: the hand as the template poses it
    keypoints: np.ndarray  # [J, 3] mm, camera frame
    camera: np.ndarray  # [6] fx, fy, cx, cy, width, height, pixels
    forearm: bool  # whether the forearm is to be rendered


def drawn_hand(
    hand: HandArrays, config: SynthesisConfig, stream: int, index: int, attempt: int = 0
) -> DrawnHand:
    """The hand of one sample.

    Args:
        hand: HandArrays.
        config: what to sample from.
        stream: seed of all streams.
        index: number of the sample.
        attempt: which draw; crops with too few pixels of the hand are drawn again.
    """
    space = _Workspace(hand, config.size, 1)
    given, prior = _none(hand), _no_prior(hand)
    space.draw_hands(
        hand,
        config,
        given,
        prior,
        stream,
        np.zeros(1, np.int64),
        np.array([index], np.int64),
        np.array([attempt], np.int64),
    )
    return DrawnHand(
        space.vertices[0],
        space.straight[0],
        space.keypoints[0],
        space.cameras[0],
        bool(space.forearm[0]),
    )


def _none(hand: HandArrays) -> GivenHands:
    return no_hands(len(hand.parents), len(hand.shape_joints))


def _synthesize(hand: HandArrays, config: SynthesisConfig, given, prior, seed, indices, out):
    """Fills slices `out` (a dict of arrays) with the samples of `indices`, at most _CHUNK."""
    count = len(indices)
    space = _workspace(hand, config.size)
    rows = np.arange(count)  # samples without enough hand pixels as yet
    for draw in range(config.max_draws):
        attempts = np.full(count, draw, np.int64)
        space.draw_hands(hand, config, given, prior, seed, rows, indices, attempts)
        render_crops(
            space.vertices,
            len(hand.vertices),
            hand.faces,
            hand.hand_faces,
            space.cameras,
            space.forearm,
            space.solids,
            space.solid_counts,
            config.size,
            config.cube_mm,
            config.centre_jitter_mm,
            config.large_jitter_mm,
            config.large_jitter_share,
            seed,
            rows,
            indices,
            attempts,
            space.depth,
            space.face,
            space.barycentric,
            space.intrinsics,
            space.centres,
            space.pixels,
        )
        rows = rows[space.pixels[rows] < config.min_hand_pixels]
        if not len(rows):  # else drawn again; the last draw stands
            break
    out["vertices"][:] = space.straight[:count]
    out["keypoints"][:] = space.keypoints[:count]
    out["intrinsics"][:] = space.intrinsics[:count]
    out["centre"][:] = space.centres[:count]
    observe_crops(
        config.sensors,
        config.sensor_shares,
        seed,
        indices,
        space.cameras,
        space.intrinsics,
        space.depth,
        space.face,
        space.barycentric,
        out["depth"],
        out["face"],
        out["barycentric"],
    )


_LAID_OUT: list[tuple[object, HandArrays]] = []


def laid_out(template) -> HandArrays:
    """`hand_arrays(template)`, remembered for the templates used last."""
    for known, arrays in _LAID_OUT:
        if known is template:
            return arrays
    arrays = hand_arrays(template)
    _LAID_OUT.append((template, arrays))
    del _LAID_OUT[:-4]
    return arrays


_POOL_LOCK = threading.Lock()
_POOLS: dict[int, ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    with _POOL_LOCK:
        if threads not in _POOLS:
            _POOLS[threads] = ThreadPoolExecutor(threads, thread_name_prefix="synthesis")
        return _POOLS[threads]


def synthesize_batch(
    template,
    config: SynthesisConfig,
    seed: int,
    start_index: int,
    count: int,
    threads: int | None = None,
    given: GivenHands | None = None,
    prior: PosePrior | None = None,
) -> dict[str, np.ndarray]:
    """Renders samples start_index .. start_index + count - 1 of a seed.

    Sample i depends on the template, the config, the prior, the seed and i alone, not on the
    number of threads or on where a batch begins; or, of the first samples, on the hands given.

    Args:
        template: HandTemplate.
        config: what to sample from.
        seed: 0 <= seed < 2^32.
        start_index: number of the first sample, >= 0.
        count: B.
        threads: how many compiled kernels run at once; None for one per processor.
        given: hands of the first M <= B samples, seen by cameras and sensor as others are.
        prior: poses from which `config.pose.prior_share` of the frames take their joint angles.

    Returns:
        depth [B, S, S] float32 mm, 0 = missing; intrinsics [B, 4] of the crop, pixels; centre
        [B, 3] mm, camera frame; cube [B] mm; vertices [B, V, 3] and keypoints [B, J, 3] float32
        mm, camera frame; face [B, S, S] int16, the template's face that a pixel shows, -1 for none;
        barycentric [B, S, S, 2] float32, weights of the face's corners 1 and 2.
    """
    hand = laid_out(template)
    given = _none(hand) if given is None else given
    poses = prior.angles_for(template) if prior else _no_prior(hand)
    size = config.size
    stream = seed + (config.salt << 32)
    out: dict[str, np.ndarray] = {
        "depth": np.empty([count, size, size], np.float32),
        "intrinsics": np.empty([count, 4], np.float32),
        "centre": np.empty([count, 3], np.float32),
        "cube": np.full([count], config.cube_mm, np.float32),
        "vertices": np.empty([count, len(hand.vertices), 3], np.float32),
        "keypoints": np.empty([count, len(hand.keypoints), 3], np.float32),
        "face": np.empty([count, size, size], np.int16),
        "barycentric": np.empty([count, size, size, 2], np.float32),
    }

    def work(first):
        part = slice(first, min(first + _CHUNK, count))
        indices = np.arange(start_index + part.start, start_index + part.stop, dtype=np.int64)
        hands = given.rows(part)
        _synthesize(
            hand, config, hands, poses, stream, indices, {k: v[part] for k, v in out.items()}
        )

    threads = threads or os.cpu_count() or 1
    if threads == 1 or count <= _CHUNK:
        for first in range(0, count, _CHUNK):
            work(first)
    else:
        # list() raises what a worker raised.
        list(_pool(threads).map(work, range(0, count, _CHUNK)))
    return out
