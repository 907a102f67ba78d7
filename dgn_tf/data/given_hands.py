"""Hands that somebody else has posed, to be rendered as synthetic frames (Sec. 4.4)."""

from typing import NamedTuple

import numpy as np


class GivenSettings(NamedTuple):
    """How frames differ from the hands that are given."""

    angle_noise: float = 0.04  # deviation added to the angles, of each limit's range
    shape_sigma: float = 0.3  # deviation added to the shape coefficients
    view_share: float = 0.5  # of frames: seen as given, rolled at random; the rest as sampled ones
    view_noise_degrees: float = 10.0  # deviation of the views as given


class GivenHands(NamedTuple):
    """M posed hands; float64, contiguous.

    Attributes:
        angles: [M, P, 3] radians about the bone frames' axes, the root's 0.
        shape: [M, K] coefficients of the template's shape basis.
        rotation: [M, 3, 3] view_from_template, in the frame whose z axis is the ray to the hand
            (see `dgn_tf.geometry.upright`).
        settings: GivenSettings.
    """

    angles: np.ndarray
    shape: np.ndarray
    rotation: np.ndarray
    settings: GivenSettings = GivenSettings()

    def rows(self, chosen) -> "GivenHands":
        """The hands of a slice or of indices."""
        return GivenHands(
            np.ascontiguousarray(self.angles[chosen]),
            np.ascontiguousarray(self.shape[chosen]),
            np.ascontiguousarray(self.rotation[chosen]),
            self.settings,
        )


def joined(several: list[GivenHands]) -> GivenHands:
    """All the hands of several, in order; the settings are the first's."""
    return GivenHands(
        np.concatenate([hands.angles for hands in several]),
        np.concatenate([hands.shape for hands in several]),
        np.concatenate([hands.rotation for hands in several]),
        several[0].settings,
    )


def no_hands(parts: int, shapes: int) -> GivenHands:
    """None of P parts and K shapes."""
    return GivenHands(np.empty([0, parts, 3]), np.empty([0, shapes]), np.empty([0, 3, 3]))
