"""Synthetic users: hands of many shapes, shown to be measured."""

import dataclasses

import numpy as np

from dgn_tf.hand_fit.seen_frames import FrameReader
from dgn_tf.hand_fit.shapes import Shapes, personal_template, shapes_of
from dgn_tf.hand_fit.user_shape import fit_shape, seen_frames
from dgn_tf.synthesis.batches import synthesize_batch
from dgn_tf.synthesis.settings import SynthesisConfig
from dgn_tf.template import HandTemplate

_RANGE = 2.0  # deviations that the template's own shapes reach, as in synthesis
_BEYOND = 0.5  # deviation of the others: size and lengths that the template's shapes don't reach
_BATCH = 32


def calm(config: SynthesisConfig) -> SynthesisConfig:
    """As somebody shows a hand to be measured: nothing before it, mostly everyday poses.

    The shape is the user's own; sensor noise, holes, forearm and background stay.
    """
    pose = config.pose._replace(
        shape_sigma=0.0, scale_sigma=0.0, measures_spread=0.0, uniform_share=0.2, collision_draws=3
    )
    scene = config.scene._replace(occluder_share=0.0)
    return dataclasses.replace(config, pose=pose, scene=scene)


def spread_shape(template: HandTemplate, shapes: Shapes, seed: int) -> np.ndarray:
    """[K] coefficients of a user: the template's own shapes uniform over what synthesis draws."""
    rng, own = np.random.default_rng(seed), len(template.shape_names)
    inside = rng.uniform(-_RANGE, _RANGE, own)
    return np.concatenate([inside, _BEYOND * rng.normal(size=len(shapes.names) - own)])


def user_of(template: HandTemplate, shape: np.ndarray) -> HandTemplate:
    """The template of a synthetic user with coefficients [K] of `shapes_of`."""
    return personal_template(template, shapes_of(template), shape, 0)


def frames_of(user: HandTemplate, config: SynthesisConfig, seed: int, start: int, count: int):
    """Batches of samples start .. start + count - 1 of a user."""
    for first in range(start, start + count, _BATCH):
        yield synthesize_batch(user, config, seed, first, min(_BATCH, start + count - first))


def fitted_users(network, config: SynthesisConfig, seeds, frames: int, steps: int):
    """The fit's answer to users whose shape is known.

    Args:
        network: built `DualGridNet`.
        config: of the users' frames.
        seeds: of the users.
        frames: of each.
        steps: of the fit.

    Yields:
        [K] fitted and [K] true coefficients of each user.
    """
    template = network.template
    shapes, read = shapes_of(template), FrameReader(network)
    for seed in seeds:
        true = spread_shape(template, shapes, seed)
        batches = frames_of(user_of(template, true), config, seed, 0, frames)
        yield fit_shape(template, seen_frames(read, batches), steps).shape, true
