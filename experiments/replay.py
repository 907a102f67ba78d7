"""What the sampler drew for a frame that exists already, from its number: records do not say."""

from typing import NamedTuple

import numpy as np

from dgn_tf.synthesis import randomness as rng
from dgn_tf.synthesis.batches import drawn_hand, laid_out
from dgn_tf.synthesis.hand_measures import draw_measures, take_measures
from dgn_tf.synthesis.pose_prior import no_hands
from dgn_tf.synthesis.posing import STREAM_MEASURES, STREAM_POSE, STREAM_SHAPE, draw_shape
from dgn_tf.synthesis.settings import SynthesisConfig

_SAME_MM = 0.05  # float32 at a metre, and what a record rounds


class Draws(NamedTuple):
    """The draws of one frame.

    Attributes:
        shape: [K] coefficients of the template's shape basis.
        shape_mm: mean distance of the vertices at rest from the template's.
        uniform_angles: whether joint angles are uniform within their limits, not by a synergy; None
            where the config draws several poses and keeps one.
    """

    shape: np.ndarray
    shape_mm: float
    uniform_angles: bool | None


def replay(template, config: SynthesisConfig, seed: int, index: int, keypoints) -> Draws | None:
    """Draws frame `index` of a seed again, up to what was drawn for its hand.

    Args:
        template: HandTemplate that the frame was rendered with.
        config: what it was sampled from, without a pose prior.
        seed: of `synthesize_batch`.
        index: number of the sample.
        keypoints: [J, 3] mm, camera frame, of the frame: they tell which draw stood.

    Returns:
        None where no draw gives these key points: frames of another sampler.
    """
    hand = laid_out(template)
    stream = seed + (config.salt << 32)
    for attempt in range(config.max_draws):
        drawn = drawn_hand(hand, config, stream, index, attempt)
        if np.abs(drawn.keypoints - keypoints).max() < _SAME_MM:
            return _draws(hand, config, stream, index, attempt)
    return None


def _draws(hand, config, stream, index, attempt):
    shape = np.empty(len(hand.shape_joints))
    given = no_hands(len(hand.parents), len(hand.shape_joints))
    state = rng.stream(stream, index, attempt, STREAM_SHAPE)
    scale = draw_shape(state, config.pose, given, 0, shape)

    def shaped(mean, basis):
        return scale * (mean + np.tensordot(shape, basis, axes=1).reshape(mean.shape))

    vertices = shaped(hand.vertices, hand.shape_vertices)
    if config.pose.measures_spread > 0:
        joints, wanted = shaped(hand.joints, hand.shape_joints), np.empty(3)
        state = rng.stream(stream, index, attempt, STREAM_MEASURES)
        draw_measures(state, config.pose.measures_spread, wanted)
        take_measures(hand.measured, wanted, vertices, joints, hand.keypoints.copy())
    moved = vertices - hand.vertices
    uniform_angles = None
    if config.pose.collision_draws == 1:
        state = rng.stream(stream, index, attempt, STREAM_POSE)
        uniform_angles = bool(rng.uniform(state, 0.0, 1.0) < config.pose.uniform_share)
    return Draws(shape, float(np.linalg.norm(moved, axis=-1).mean()), uniform_angles)
